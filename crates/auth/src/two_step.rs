//! TWO_STEP: one or more calls turn typed fields into a token (auth-flows §19).
//!
//! ```text
//! first form, import, renewal without refresh token ──► exchange ──► step 2 … step N ──► token
//! renewal with a refresh token ──► refresh ──► token
//!                                     └─ refused ──► exchange …
//! ```
//! A refused refresh is followed by the whole exchange: what was typed may still buy a token, and the end user need
//! not be asked. Only if that fails too, the connection has failed.

mod answer;
mod call;

use jiff::{SignedDuration, Timestamp};
use patchbay_ambient::Ambient;
use patchbay_catalog::definition::{BodyFormat, TokenStep};
use patchbay_catalog::template::{NamedTemplate, Scope, Template, TemplateMap};
use patchbay_types::credentials::Derived;
use patchbay_types::time::millis_z;
use patchbay_types::{AuthMode, Credentials, JsonMap};
use serde_json::Value;

use crate::message::{Answer, Call};
use crate::metadata::capture;
use crate::obtain::{Applicant, Conversation, MADE, ObtainError, Obtained, Occasion, Turn};
use crate::rejection::Rejection;
use crate::{assertions, signed_tokens};
use call::Sketch;

const FETCH: &str = "two_step_credentials_fetch_error";
const INVALID: &str = "invalid_two_step_credentials";
/// Longest life of a token whose answer says nothing.
const ENDLESS: SignedDuration = SignedDuration::from_hours(24 * 365 * 99);
/// A token that is a JWT is renewed this long before its own end.
const BEFORE_JWT_END: SignedDuration = SignedDuration::from_mins(15);

/// The provider's fields. What we would overwrite anyway is dropped, and so is `assertionOption`, which is submitted
/// beside them: see [`assertion_option`].
pub fn form(body: &JsonMap) -> JsonMap {
    let dropped = |name: &str| MADE.contains(&name) || matches!(name, "assertion" | "assertionOption");
    let fields = body.iter().filter(|(name, _)| !dropped(name));
    fields
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// `assertionOption` of a body: values used once.
pub fn assertion_option(body: &JsonMap) -> JsonMap {
    let option = body.get("assertionOption").and_then(Value::as_object);
    option.cloned().unwrap_or_default()
}

/// The calls of one exchange or renewal.
pub struct Exchange<'a> {
    applicant: Applicant<'a>,
    /// What templates see: typed fields, operator's presets, what was captured and made on the way.
    visible: JsonMap,
    /// What was made and captured, to be stored.
    kept: JsonMap,
    /// Answers by `step1`, `step2`, ….
    steps: JsonMap,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    Refresh,
    /// Waiting for the answer to this step, the first being 1.
    Step(usize),
}

impl std::fmt::Debug for Exchange<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exchange")
            .field("applicant", &self.applicant)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl<'a> Exchange<'a> {
    /// Nothing is asked yet.
    pub fn new(applicant: Applicant<'a>) -> Self {
        let mut visible = applicant.fields.clone();
        for made in ["type", "token", "expires_at", "raw"] {
            visible.remove(made);
        }
        for (name, value) in &applicant.secrets.custom {
            let preset = applicant.definition.integration_config.get(name).is_some() && !value.is_empty();
            if preset {
                visible.insert(name.clone(), value.expose().into());
            }
        }
        let mut kept = JsonMap::new();
        if let Some(assertion) = applicant.fields.get("assertion") {
            kept.insert("assertion".to_owned(), assertion.clone());
        }
        Self {
            applicant,
            visible,
            kept,
            steps: JsonMap::new(),
            stage: Stage::Begin,
        }
    }

    fn refreshes(&self) -> bool {
        let definition = self.applicant.definition;
        let wanted =
            !definition.refresh_token_params.is_empty() || !definition.refresh_token_headers.is_empty();
        let token = self.applicant.text("refresh_token");
        wanted && !token.is_empty() && self.applicant.occasion == Occasion::Renewal
    }

    fn refresh(&mut self, ambient: &Ambient) -> Result<Turn, ObtainError> {
        self.stage = Stage::Refresh;
        let definition = self.applicant.definition;
        let headers = match definition.refresh_token_headers.as_slice() {
            [] => &definition.token_headers,
            own => own,
        };
        let url = match &definition.refresh_url {
            Some(url) => url,
            None => self.token_url()?,
        };
        self.ask(
            ambient,
            url,
            &definition.refresh_token_params,
            headers,
            None,
            None,
        )
    }

    fn begin(&mut self, ambient: &Ambient) -> Result<Turn, ObtainError> {
        self.stage = Stage::Step(1);
        let definition = self.applicant.definition;
        // Used up, or never there.
        self.visible.remove("refresh_token");
        if definition.signature.is_some() && definition.token.is_some() {
            let config = self.applicant.connection_config;
            let signed = signed_tokens::sign(definition, &self.visible, config, ambient)?;
            self.visible
                .insert("token".to_owned(), signed.token.expose().into());
        }
        if let Some(assertion) = &definition.assertion {
            let stored = self.applicant.text("assertion");
            if assertion.single_use || !assertions::is_good(stored, ambient.now()) {
                let scope = self
                    .scope(ambient)
                    .object("assertionOption", self.applicant.assertion_option);
                let made = assertions::make(assertion, &scope, ambient)?;
                self.kept.insert("assertion".to_owned(), made.expose().into());
                self.visible.insert("assertion".to_owned(), made.expose().into());
            }
        }
        let url = self.token_url()?;
        let method = definition.token_request_method.as_str();
        self.ask(
            ambient,
            url,
            &definition.token_params,
            &definition.token_headers,
            Some(method),
            None,
        )
    }

    fn step(&mut self, number: usize, step: &TokenStep, ambient: &Ambient) -> Result<Turn, ObtainError> {
        self.stage = Stage::Step(number);
        let method = step.token_request_method.as_str();
        self.ask(
            ambient,
            &step.token_url,
            &step.token_params,
            &step.token_headers,
            Some(method),
            step.body_format,
        )
    }

    fn token_url(&self) -> Result<&'a Template, ObtainError> {
        let url = self.applicant.definition.token_url(AuthMode::TwoStep);
        url.ok_or_else(|| {
            ObtainError::unusable("missing_token_url", "the provider's definition has no token_url")
        })
    }

    fn scope<'s>(&'s self, ambient: &'s Ambient) -> Scope<'s> {
        let mut scope = Scope::new(ambient);
        for (name, answer) in &self.steps {
            if let Value::Object(answer) = answer {
                scope = scope.object(name, answer);
            }
        }
        scope
            .credentials(&self.visible)
            .connection_config(self.applicant.connection_config)
    }

    fn ask(
        &self,
        ambient: &Ambient,
        url: &Template,
        params: &TemplateMap,
        headers: &[NamedTemplate],
        method: Option<&str>,
        format: Option<BodyFormat>,
    ) -> Result<Turn, ObtainError> {
        let definition = self.applicant.definition;
        let sketch = Sketch {
            definition,
            method: method.unwrap_or("POST"),
            url,
            params,
            headers,
            format: format.unwrap_or_else(|| definition.body_format()),
        };
        let call: Call = sketch.draw(&self.scope(ambient), &self.scope(ambient).shared())?;
        Ok(Turn::Ask(Box::new(call)))
    }

    /// Values that were sent: a provider may repeat them.
    fn rejection(&self, answer: &Answer) -> Rejection {
        let sent: Vec<&str> = self.visible.values().filter_map(Value::as_str).collect();
        Rejection::read(answer, &sent)
    }

    fn hear(&mut self, answer: &Answer, ambient: &Ambient) -> Result<Turn, ObtainError> {
        let accepted = matches!(answer.status, 200 | 201);
        let Stage::Step(number) = self.stage else {
            return match answer.status {
                200 | 201 => self.finish(answer, ambient.now()),
                // The refresh token is over, but not what was typed.
                400..500 if !matches!(answer.status, 408 | 425 | 429) => self.begin(ambient),
                _ => Err(ObtainError::Refused {
                    code: FETCH,
                    rejection: self.rejection(answer),
                }),
            };
        };
        if !accepted {
            let code = if answer.is_success() { INVALID } else { FETCH };
            return Err(ObtainError::Refused {
                code,
                rejection: self.rejection(answer),
            });
        }
        let definition = self.applicant.definition;
        let (typed, first) = (
            self.applicant.fields,
            self.applicant.occasion != Occasion::Renewal,
        );
        // What is stored has earlier captures among the typed fields.
        let is_typed = |name: &str| {
            definition.credentials.get(name).is_some()
                || definition.integration_config.get(name).is_some()
                || (first && typed.contains_key(name))
        };
        answer::capture_headers(
            &definition.token_response_headers,
            answer,
            &is_typed,
            &mut self.kept,
        );
        for (name, value) in &self.kept {
            self.visible.insert(name.clone(), value.clone());
        }
        let Some(next) = definition.additional_steps.get(number - 1) else {
            return self.finish(answer, ambient.now());
        };
        self.steps.insert(format!("step{number}"), answer::value(answer));
        self.step(number + 1, next, ambient)
    }

    fn finish(&mut self, answer: &Answer, now: Timestamp) -> Result<Turn, ObtainError> {
        let definition = self.applicant.definition;
        let unreadable = |what: &'static str| ObtainError::Unreadable {
            code: INVALID,
            what,
            rejection: self.rejection(answer),
        };
        let raw = answer::value(answer);
        let response = definition
            .token_response
            .as_ref()
            .ok_or_else(|| unreadable("token"))?;
        let token = answer::text_at(&raw, &response.token).ok_or_else(|| unreadable("token"))?;
        let path = response.refresh_token.as_deref().filter(|path| !path.is_empty());
        let refresh_token = path.and_then(|path| answer::text_at(&raw, path));
        let stated = answer::expiry(&raw, response, now).map_err(|()| unreadable("expiration"))?;
        let expires_at = stated.or_else(|| {
            let own = [Some(&token), refresh_token.as_ref()].into_iter().flatten();
            let own = own.filter_map(|token| assertions::jwt_end(token)).min();
            let usual = match definition.token_expires_in_ms {
                Some(0) => None,
                Some(life) => Some(SignedDuration::from_millis(
                    i64::try_from(life).unwrap_or(i64::MAX),
                )),
                None => Some(ENDLESS),
            };
            let usual = usual.map(|life| now.checked_add(life).unwrap_or(Timestamp::MAX));
            let own = own.map(|end| end.checked_sub(BEFORE_JWT_END).unwrap_or(end));
            own.into_iter().chain(usual).min()
        });

        let mut fields = self.applicant.typed();
        fields.remove("assertion");
        for field in &definition.integration_config {
            if self.applicant.custom(&field.name).is_some() {
                fields.remove(&field.name);
            }
        }
        fields.extend(self.kept.clone());
        fields.insert("token".to_owned(), token.into());
        if let Some(refresh_token) = refresh_token {
            fields.insert("refresh_token".to_owned(), refresh_token.into());
        }
        if let Some(end) = expires_at {
            fields.insert("expires_at".to_owned(), millis_z(end).into());
        }
        let metadata = definition.token_response_metadata.iter().map(String::as_str);
        let config_updates = match (&raw, self.applicant.occasion) {
            (Value::Object(object), Occasion::First | Occasion::Again(_)) => capture(object, metadata),
            _ => JsonMap::new(),
        };
        fields.insert("raw".to_owned(), raw);
        Ok(Turn::Done(Box::new(Obtained {
            credentials: Credentials::TwoStep(Derived { fields }),
            config_updates,
        })))
    }
}

impl Conversation for Exchange<'_> {
    fn next(&mut self, answer: Option<&Answer>, ambient: &Ambient) -> Result<Turn, ObtainError> {
        match answer {
            None if self.refreshes() => self.refresh(ambient),
            None => self.begin(ambient),
            Some(answer) => self.hear(answer, ambient),
        }
    }

    fn unanswered(&mut self, error: patchbay_outbound::Error) -> Result<(), ObtainError> {
        Err(match self.stage {
            Stage::Refresh => ObtainError::RefreshLost(error),
            Stage::Begin | Stage::Step(_) => ObtainError::NoAnswer { code: FETCH, error },
        })
    }
}
