//! BILL: a session bought with a login (auth-flows §18.3).

use jiff::{SignedDuration, Timestamp};
use patchbay_ambient::Ambient;
use patchbay_catalog::template::Scope;
use patchbay_types::credentials::Derived;
use patchbay_types::time::millis_z;
use patchbay_types::{AuthMode, Credentials, JsonMap};
use serde_json::{Value, json};

use crate::endpoint;
use crate::forms::{Form, FormError, MAX_BASIC};
use crate::message::{Answer, BodyFormat, Call};
use crate::obtain::{Applicant, Conversation, ObtainError, Obtained, Turn};
use crate::rejection::Rejection;

const CODE: &str = "connection_test_failed";
/// A session ends after 35 minutes of silence.
const SESSION: SignedDuration = SignedDuration::from_mins(35);
const FIELDS: [&str; 4] = ["username", "password", "organization_id", "dev_key"];

/// The four fields, strict, none empty.
pub fn form(body: &JsonMap) -> Result<JsonMap, FormError> {
    let mut form = Form::new(body);
    for name in FIELDS {
        form.text(name, 1, MAX_BASIC);
    }
    form.refuse_unknown(&FIELDS);
    form.finish()?;
    Ok(body.clone())
}

/// One login.
#[derive(Debug)]
pub struct Login<'a>(pub Applicant<'a>);

impl Conversation for Login<'_> {
    fn next(&mut self, answer: Option<&Answer>, ambient: &Ambient) -> Result<Turn, ObtainError> {
        match answer {
            None => Ok(Turn::Ask(Box::new(self.request(ambient)?))),
            Some(answer) => Ok(Turn::Done(Box::new(self.read(answer, ambient.now())?))),
        }
    }

    fn unanswered(&mut self, error: patchbay_outbound::Error) -> Result<(), ObtainError> {
        Err(ObtainError::NoAnswer { code: CODE, error })
    }
}

impl Login<'_> {
    fn request(&self, ambient: &Ambient) -> Result<Call, ObtainError> {
        let applicant = &self.0;
        let scope = Scope::new(ambient).connection_config(applicant.connection_config);
        let url = endpoint::token_url(applicant.definition, AuthMode::Bill, &scope).map_err(|error| {
            let code = match error {
                endpoint::EndpointError::Missing(_) => "missing_token_url",
                _ => "invalid_body",
            };
            ObtainError::unusable(code, error.to_string())
        })?;
        let login = json!({
            "username": applicant.text("username"),
            "password": applicant.text("password"),
            "organizationId": applicant.text("organization_id"),
            "devKey": applicant.text("dev_key"),
        });
        let login = login.as_object().cloned().unwrap_or_default();
        Ok(Call::post(url, &login, BodyFormat::Json))
    }

    fn read(&self, answer: &Answer, now: Timestamp) -> Result<Obtained, ObtainError> {
        let applicant = &self.0;
        let secrets = [applicant.text("password"), applicant.text("dev_key")];
        let rejection = || Rejection::read(answer, &secrets);
        if answer.status != 200 {
            return Err(ObtainError::Refused {
                code: CODE,
                rejection: rejection(),
            });
        }
        let object = answer.object().unwrap_or_default();
        let text = |name: &str| {
            object
                .get(name)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
        };
        let Some(session) = text("sessionId").map(Value::from) else {
            return Err(ObtainError::Unreadable {
                code: CODE,
                what: "session",
                rejection: rejection(),
            });
        };
        let end = now.checked_add(SESSION).unwrap_or(Timestamp::MAX);
        let organization = text("organizationId").unwrap_or(applicant.text("organization_id"));
        let mut fields = JsonMap::new();
        for (name, value) in [
            ("username", applicant.text("username").into()),
            ("password", applicant.text("password").into()),
            ("organization_id", organization.into()),
            ("dev_key", applicant.text("dev_key").into()),
            ("session_id", session),
            ("user_id", text("userId").map_or(Value::Null, Value::from)),
            ("expires_at", millis_z(end).into()),
            ("raw", Value::Object(object.clone())),
        ] {
            if !value.is_null() {
                fields.insert(name.to_owned(), value);
            }
        }
        Ok(Obtained::of(Credentials::Bill(Derived { fields })))
    }
}
