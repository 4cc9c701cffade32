//! `token_client`, Patchbay's extension: how an OAuth 2 provider's token endpoint wants to be asked and understood
//! where it departs from RFC 6749. Absent keys mean the usual way, so that an entry says only what is odd.

use serde_json::Value;

use super::BodyFormat;
use super::condition::{Condition, conditions};
use super::proxy::ErrorCode;
use super::reader::{Reader, Step, Target};
use crate::finding::Severity;
use crate::template::{NamedTemplate, Template, TemplateMap};

/// `token_client`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenClient {
    /// The provider gives its clients no secret: none is asked for, none is sent.
    pub is_public: bool,
    /// A signed statement that requests present as `${clientAssertion}`.
    pub assertion: Option<ClientAssertion>,
    /// How a code is exchanged.
    pub exchange: TokenCall,
    /// How credentials are refreshed.
    pub refresh: TokenCall,
    /// What a refresh needs to have.
    pub refresh_with: RefreshWith,
    /// Which refresh token is in force after a refresh.
    pub keep_refresh_token: KeepRefreshToken,
    /// What the answer to an exchange means.
    pub exchange_answer: TokenAnswer,
    /// What the answer to a refresh means.
    pub refresh_answer: TokenAnswer,
    /// Further tokens, obtained with the main one and kept fresh with it.
    pub extra_tokens: Vec<ExtraToken>,
    /// Where the provider tells whether a token is still good (RFC 7662), for tokens that name no end.
    pub introspection: Option<Introspection>,
}

/// One request to a token endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenCall {
    /// Upper-case method; default POST.
    pub method: Option<String>,
    /// Instead of `token_url`, or `refresh_url`.
    pub url: Option<Template>,
    /// Parameters of the URL, whatever else there is.
    pub query: Vec<NamedTemplate>,
    /// Headers.
    pub headers: Vec<NamedTemplate>,
    /// All parameters, the client's own included: nothing is added. Absent: those of RFC 6749.
    pub params: Option<TemplateMap>,
    /// Where parameters go, if not where the definition's `body_format` says.
    pub body_format: Option<BodyFormat>,
    /// A second request, made with the answer to this one.
    pub then: Option<Box<FollowUp>>,
}

/// `then`: a second request. Its answer's members lie over those of the first; `${answer.path}` is the first.
#[derive(Clone, Debug, PartialEq)]
pub struct FollowUp {
    /// The request.
    pub call: TokenCall,
    /// Without success the first answer stands alone, with tokens of this life in seconds; absent: failure.
    pub otherwise_life_s: Option<u64>,
}

/// `refresh.with`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RefreshWith {
    /// The refresh token.
    #[default]
    RefreshToken,
    /// The access token itself, as long as it is good.
    AccessToken,
    /// Nothing: the client's own credentials are enough.
    Nothing,
}

/// `refresh.keep_refresh_token`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepRefreshToken {
    /// The old one stays in force unless the answer brings another.
    #[default]
    IfNoneComes,
    /// The old one stays if the connection was made with a refresh token of its own.
    IfOverridden,
    /// The old one stays.
    Always,
}

/// `response`: where an answer has what.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenAnswer {
    /// Statuses of success; none: 2xx.
    pub statuses: Vec<ErrorCode>,
    /// A member that must have this value, or the answer is a refusal whatever its status.
    pub success: Option<Success>,
    /// Dotted path of the object that has the tokens; the whole answer where it has no such object.
    pub root: Option<String>,
    /// Dotted path of the token below the root.
    pub access_token: Option<String>,
    /// Of the refresh token.
    pub refresh_token: Option<String>,
    /// Of its end.
    pub expires_at: Option<String>,
    /// Of its life in seconds, from the whole answer; of several the shortest counts.
    pub expires_in: Vec<String>,
    /// Its life in seconds, whatever the answer says.
    pub life_s: Option<u64>,
    /// The answer has no tokens: the old ones go on living.
    pub prolongs: bool,
}

/// `response.success`.
#[derive(Clone, Debug, PartialEq)]
pub struct Success {
    /// Dotted path in the whole answer.
    pub path: String,
    /// The value there.
    pub equals: Value,
}

/// `assertion`: a JWT for client authentication (RFC 7523 §2.2), signed with RS256.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientAssertion {
    /// Private key, PEM.
    pub key: Template,
    /// Claims; `iat` and `exp` are added.
    pub claims: TemplateMap,
    /// Its life.
    pub lifetime_s: u64,
}

/// One of `extra_tokens`.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtraToken {
    /// Where its answer is kept.
    pub into: ExtraTokenPlace,
    /// When there is one to be had.
    pub when: Vec<Condition>,
    /// How it is obtained, each time.
    pub call: TokenCall,
    /// Dotted path of the object to keep; the whole answer where it has no such object.
    pub root: Option<String>,
}

/// `extra_tokens.into`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtraTokenPlace {
    /// A key of `connection_config`; `expires_at` in milliseconds is added, and is renewed before it.
    ConnectionConfig(String),
    /// A member of the credentials' `raw`, over what is there; it is renewed with the main token.
    Raw(String),
}

/// `introspection`.
#[derive(Clone, Debug, PartialEq)]
pub struct Introspection {
    /// The endpoint.
    pub url: Template,
    /// Its form.
    pub params: TemplateMap,
}

/// Life of a client assertion that names none.
const ASSERTION_LIFE_S: u64 = 300;

impl TokenClient {
    /// Every request, with the keys it is under.
    pub(crate) fn calls(&self) -> Vec<(Vec<Step>, &TokenCall)> {
        let key = |name: &str| Step::Key(name.to_owned());
        let mut calls = Vec::new();
        for (name, call) in [("exchange", &self.exchange), ("refresh", &self.refresh)] {
            calls.push((vec![key(name)], call));
            if let Some(then) = &call.then {
                calls.push((vec![key(name), key("then")], &then.call));
            }
        }
        for (index, extra) in self.extra_tokens.iter().enumerate() {
            calls.push((vec![key("extra_tokens"), Step::Index(index)], &extra.call));
        }
        calls
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> TokenClient {
    let mut refresh_with = RefreshWith::default();
    let mut keep_refresh_token = KeepRefreshToken::default();
    let mut refresh_answer = None;
    let exchange = reader.section("exchange", call_with_second).unwrap_or_default();
    let refresh = reader.section("refresh", |reader| {
        refresh_with = reader
            .choice(
                "with",
                &[
                    ("refresh_token", RefreshWith::RefreshToken),
                    ("access_token", RefreshWith::AccessToken),
                    ("nothing", RefreshWith::Nothing),
                ],
            )
            .unwrap_or_default();
        keep_refresh_token = reader
            .choice(
                "keep_refresh_token",
                &[
                    ("if_none_comes", KeepRefreshToken::IfNoneComes),
                    ("if_overridden", KeepRefreshToken::IfOverridden),
                    ("always", KeepRefreshToken::Always),
                ],
            )
            .unwrap_or_default();
        refresh_answer = reader.section("response", answer);
        call_with_second(reader)
    });
    let exchange_answer = reader.section("response", answer).unwrap_or_default();
    TokenClient {
        is_public: reader.flag("public"),
        assertion: reader.section("assertion", assertion).flatten(),
        exchange,
        refresh: refresh.unwrap_or_default(),
        refresh_with,
        keep_refresh_token,
        refresh_answer: refresh_answer.unwrap_or_else(|| exchange_answer.clone()),
        exchange_answer,
        extra_tokens: reader
            .sections("extra_tokens", extra_token)
            .into_iter()
            .flatten()
            .collect(),
        introspection: reader.section("introspection", introspection).flatten(),
    }
}

fn call_with_second(reader: &mut Reader<'_>) -> TokenCall {
    let mut first = call(reader);
    first.then = reader
        .section("then", |reader| FollowUp {
            call: call(reader),
            otherwise_life_s: reader.count("otherwise_life_s"),
        })
        .map(Box::new);
    if first.then.as_ref().is_some_and(|then| then.call.url.is_none()) {
        let path = reader.key("then");
        missing(reader, path, "a second request needs its `url`");
    }
    first
}

fn call(reader: &mut Reader<'_>) -> TokenCall {
    let method = reader
        .raw("method")
        .is_some()
        .then(|| super::method(reader, "method", "POST"));
    let body_format = super::body_format(reader);
    let fallback = Template::parse_with_fallback;
    TokenCall {
        method,
        url: reader.template("url", fallback),
        query: reader.named("query", fallback),
        headers: reader.headers("headers", fallback),
        params: reader.has("params").then(|| reader.tree("params", fallback)),
        body_format,
        then: None,
    }
}

fn answer(reader: &mut Reader<'_>) -> TokenAnswer {
    let mut statuses = Vec::new();
    for (index, text) in reader.texts("status").iter().enumerate() {
        let Some(code) = ErrorCode::parse(text) else {
            let path = reader.at([Step::Key("status".to_owned()), Step::Index(index)]);
            let message = format!("`{text}` is no status: write `201`, `2xx` or `200-204`");
            reader.error("invalid-value", path, message);
            continue;
        };
        statuses.push(code);
    }
    let success = reader.section("success", |reader| {
        let (path, equals) = (reader.text("path"), reader.raw("equals").cloned());
        let (Some(path), Some(equals)) = (path, equals) else {
            let path = reader.at([]);
            missing(
                reader,
                path,
                "`success` needs its `path` and what is there: `equals`",
            );
            return None;
        };
        Some(Success { path, equals })
    });
    TokenAnswer {
        statuses,
        success: success.flatten(),
        root: reader.text("root"),
        access_token: reader.text("access_token"),
        refresh_token: reader.text("refresh_token"),
        expires_at: reader.text("expires_at"),
        expires_in: reader.texts("expires_in"),
        life_s: reader.count("life_s"),
        prolongs: reader.flag("prolongs"),
    }
}

fn assertion(reader: &mut Reader<'_>) -> Option<ClientAssertion> {
    let lifetime_s = reader.count("lifetime_s").unwrap_or(ASSERTION_LIFE_S);
    let claims = reader.tree("claims", Template::parse);
    let key = reader.template("key", Template::parse);
    if key.is_none() {
        let path = reader.at([]);
        missing(reader, path, "an assertion needs its `key`");
    }
    Some(ClientAssertion {
        key: key?,
        claims,
        lifetime_s,
    })
}

fn extra_token(reader: &mut Reader<'_>) -> Option<ExtraToken> {
    let when = conditions(reader, "when");
    let root = reader.text("root");
    let call = call(reader);
    let into = reader.text("into");
    let place = into.as_deref().and_then(|into| match into.split_once('.') {
        Some(("connection_config", key)) => Some(ExtraTokenPlace::ConnectionConfig(key.to_owned())),
        Some(("raw", key)) => Some(ExtraTokenPlace::Raw(key.to_owned())),
        _ => None,
    });
    if place.is_none() {
        let path = match into {
            Some(_) => reader.key("into"),
            None => reader.at([]),
        };
        let message = "`into` is `connection_config.NAME` or `raw.NAME`: where the answer is kept".to_owned();
        reader.error("extra-token", path, message);
    }
    if call.url.is_none() {
        let path = reader.at([]);
        missing(reader, path, "an extra token needs its `url`");
    }
    Some(ExtraToken {
        into: place?,
        when,
        call,
        root,
    })
}

fn introspection(reader: &mut Reader<'_>) -> Option<Introspection> {
    let params = reader.tree("params", Template::parse);
    let url = reader.template("url", Template::parse_with_fallback);
    if url.is_none() {
        let path = reader.at([]);
        missing(reader, path, "`introspection` needs its `url`");
    }
    Some(Introspection { url: url?, params })
}

fn missing(reader: &mut Reader<'_>, path: Vec<Step>, message: &str) {
    reader.note(
        Severity::Error,
        "missing-key",
        path,
        Target::Key,
        message.to_owned(),
        None,
    );
}
