//! Token endpoints, answers, self-made tokens and assertions (catalog-format §2.3).

use patchbay_types::AuthMode;
use serde_json::Value;

use super::reader::{Reader, Step, Target};
use super::{BodyFormat, body_format};
use crate::finding::Severity;
use crate::template::{NamedTemplate, Template, TemplateMap};

/// `token_url`.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenUrl {
    /// One endpoint.
    One(Template),
    /// One for each mode that a CUSTOM provider combines.
    ByMode(Vec<(AuthMode, Template)>),
}

/// `token_response`: dotted paths into the last answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenResponse {
    /// Of the token; empty means the whole body is the token.
    pub token: String,
    /// Of its end.
    pub token_expiration: Option<String>,
    /// What that value means.
    pub token_expiration_strategy: ExpirationStrategy,
    /// Of the refresh token.
    pub refresh_token: Option<String>,
}

/// `token_expiration_strategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpirationStrategy {
    /// An instant.
    #[default]
    ExpireAt,
    /// Seconds from now, or a duration in words.
    ExpireIn,
}

/// One of `additional_steps`.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenStep {
    /// Endpoint; may use answers of earlier steps as `${stepN.path}`.
    pub token_url: Template,
    /// Body.
    pub token_params: TemplateMap,
    /// Headers.
    pub token_headers: Vec<NamedTemplate>,
    /// Method; default POST.
    pub token_request_method: String,
    /// Encoding of the body; the provider's if absent.
    pub body_format: Option<BodyFormat>,
}

/// `token`: a JWT of our own, or only the life of a SIGNATURE token.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenTemplate {
    /// Private key or HMAC secret.
    pub signing_key: Option<Template>,
    /// Its life in milliseconds.
    pub expires_in_ms: Option<u64>,
    /// JOSE header.
    pub header: TemplateMap,
    /// Claims.
    pub payload: TemplateMap,
}

/// `signature`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Family of algorithms.
    pub protocol: SignatureProtocol,
    /// How an HMAC secret is written.
    pub hmac_secret_encoding: HmacEncoding,
}

/// `signature.protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureProtocol {
    /// RS256, PS256 …
    Rsa,
    /// ES256 …
    Ec,
    /// HS256 …
    Hmac,
    /// WS-Security UsernameToken.
    Wsse,
}

/// `hmac_secret_encoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HmacEncoding {
    /// Hexadecimal bytes.
    #[default]
    Hex,
    /// The text itself.
    Utf8,
}

/// `assertion`.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// What is made.
    pub kind: AssertionKind,
    /// Private key.
    pub key: Option<Template>,
    /// Its life; each kind has its default.
    pub lifetime_s: Option<u64>,
    /// Make a new one for every exchange.
    pub single_use: bool,
}

/// `assertion.type`.
#[derive(Clone, Debug, PartialEq)]
pub enum AssertionKind {
    /// A JWT (RFC 7523).
    Jwt {
        /// JOSE header.
        header: TemplateMap,
        /// Claims.
        payload: TemplateMap,
    },
    /// A SAML 2.0 bearer assertion (RFC 7522).
    Saml {
        /// `issuer`, `audiences`, `recipient`, `inResponseTo`, `attributes`, `sessionIndex`, `nameIdentifier`,
        /// `nameIdentifierFormat`, `authnContextClassRef`, `cert`, as far as given.
        fields: TemplateMap,
    },
}

const SAML_KEYS: [&str; 10] = [
    "issuer",
    "audiences",
    "recipient",
    "inResponseTo",
    "attributes",
    "sessionIndex",
    "nameIdentifier",
    "nameIdentifierFormat",
    "authnContextClassRef",
    "cert",
];

pub(super) fn token_url(reader: &mut Reader<'_>) -> Option<TokenUrl> {
    let fallback = Template::parse_with_fallback;
    if !matches!(reader.raw("token_url")?, Value::Object(_)) {
        return reader.template("token_url", fallback).map(TokenUrl::One);
    }
    let named = reader.named("token_url", fallback);
    let mut by_mode = Vec::with_capacity(named.len());
    for NamedTemplate { name, template } in named {
        if let Some(mode) = AuthMode::parse(&name) {
            by_mode.push((mode, template));
            continue;
        }
        let path = reader.at([Step::Key("token_url".to_owned()), Step::Key(name.clone())]);
        let suggestion = crate::suggest::nearest(&name, AuthMode::ALL.iter().map(|mode| mode.as_str()));
        let suggestion = suggestion.map(str::to_owned);
        let message = format!("`{name}` is no auth mode");
        reader.note(
            Severity::Error,
            "auth-mode",
            path,
            Target::Key,
            message,
            suggestion,
        );
    }
    Some(TokenUrl::ByMode(by_mode))
}

pub(super) fn token_response(reader: &mut Reader<'_>) -> Option<TokenResponse> {
    reader.section("token_response", |reader| TokenResponse {
        token: reader.text("token").unwrap_or_default(),
        token_expiration: reader.text("token_expiration"),
        token_expiration_strategy: reader
            .choice(
                "token_expiration_strategy",
                &[
                    ("expireAt", ExpirationStrategy::ExpireAt),
                    ("expireIn", ExpirationStrategy::ExpireIn),
                ],
            )
            .unwrap_or_default(),
        refresh_token: reader.text("refresh_token"),
    })
}

pub(super) fn step(reader: &mut Reader<'_>) -> TokenStep {
    let plain = Template::parse;
    let token_url = reader.template("token_url", plain);
    if token_url.is_none() {
        let path = reader.at([]);
        reader.error("missing-key", path, "a step needs its `token_url`".to_owned());
    }
    TokenStep {
        token_url: token_url.unwrap_or_else(|| Template::parse("")),
        token_params: reader.tree("token_params", plain),
        token_headers: reader.headers("token_headers", plain),
        token_request_method: super::method(reader, "token_request_method", "POST"),
        body_format: body_format(reader),
    }
}

pub(super) fn token(reader: &mut Reader<'_>) -> TokenTemplate {
    let plain = Template::parse;
    TokenTemplate {
        signing_key: reader.template("signing_key", plain),
        expires_in_ms: reader.count("expires_in_ms"),
        header: reader.tree("header", plain),
        payload: reader.tree("payload", plain),
    }
}

pub(super) fn signature(reader: &mut Reader<'_>) -> Signature {
    let protocol = reader.choice(
        "protocol",
        &[
            ("RSA", SignatureProtocol::Rsa),
            ("EC", SignatureProtocol::Ec),
            ("HMAC", SignatureProtocol::Hmac),
            ("WSSE", SignatureProtocol::Wsse),
        ],
    );
    if protocol.is_none() && !reader.has("protocol") {
        let path = reader.at([]);
        reader.error(
            "missing-key",
            path,
            "`signature` needs its `protocol`: RSA, EC, HMAC or WSSE".to_owned(),
        );
    }
    Signature {
        protocol: protocol.unwrap_or(SignatureProtocol::Rsa),
        hmac_secret_encoding: reader
            .choice(
                "hmac_secret_encoding",
                &[("hex", HmacEncoding::Hex), ("utf8", HmacEncoding::Utf8)],
            )
            .unwrap_or_default(),
    }
}

pub(super) fn assertion(reader: &mut Reader<'_>) -> Assertion {
    let plain = Template::parse;
    let is_jwt = reader
        .choice("type", &[("jwt", true), ("saml", false)])
        .unwrap_or(true);
    let kind = if is_jwt {
        AssertionKind::Jwt {
            header: reader.tree("header", plain),
            payload: reader.tree("payload", plain),
        }
    } else {
        AssertionKind::Saml { fields: saml(reader) }
    };
    Assertion {
        kind,
        key: reader.template("key", plain),
        lifetime_s: reader.count("lifetimeInSeconds"),
        single_use: reader.flag("singleUse"),
    }
}

fn saml(reader: &mut Reader<'_>) -> TemplateMap {
    let fields = SAML_KEYS
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), reader.value(key, Template::parse)?)));
    TemplateMap::from_entries(fields.collect())
}
