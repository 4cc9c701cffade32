//! AWS_SIGV4: short-lived keys of a role that the end user lets us assume, by AWS's own token service or by one of the
//! operator's (auth-flows §20); and the signature of requests with them (proxy §5.4).

use data_encoding::HEXLOWER;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method};
use jiff::{SignedDuration, Timestamp};
use patchbay_ambient::Ambient;
use patchbay_catalog::sigv4::{self, Credential, Request};
use patchbay_catalog::template::Scope;
use patchbay_types::credentials::Derived;
use patchbay_types::time::millis_z;
use patchbay_types::{AuthMode, Credentials, JsonMap, Secret};
use serde_json::{Value, json};
use url::Url;

use crate::forms::{Form, FormError, MAX_BASIC};
use crate::message::{Answer, BodyFormat, Call};
use crate::metadata::lookup;
use crate::obtain::{Applicant, Conversation, ObtainError, Obtained, Occasion, Turn};
use crate::rejection::Rejection;
use crate::{encode, endpoint, expiry, xml};

const STS_FAILED: &str = "aws_sigv4_sts_request_failed";
const INVALID: &str = "invalid_aws_sigv4_config";
const VERSION: &str = "2011-06-15";
/// Life that is asked for, and that of keys whose issuer names none.
const LIFE: SignedDuration = SignedDuration::from_hours(1);
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT_HASH: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const SESSION: HeaderName = HeaderName::from_static("x-amz-security-token");
/// What AWS says when our own keys are at fault and not the end user's role.
const OUR_KEYS: [&str; 4] = [
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "UnrecognizedClientException",
];

/// `{role_arn, region?}`, strict: the role, and the region if one was named.
pub fn form(body: &JsonMap) -> Result<(JsonMap, Option<String>), FormError> {
    let mut form = Form::new(body);
    form.text("role_arn", 0, MAX_BASIC);
    let region = form.optional("region", MAX_BASIC);
    if region.is_some_and(|region| !is_region(region)) {
        let message = "Invalid string: must match pattern /^[a-z0-9-]{1,64}$/".to_owned();
        form.issue("invalid_format", message, "region");
    }
    form.refuse_unknown(&["role_arn", "region"]);
    form.finish()?;
    let mut fields = JsonMap::new();
    fields.insert(
        "role_arn".to_owned(),
        body.get("role_arn").cloned().unwrap_or_default(),
    );
    Ok((fields, region.map(str::to_owned)))
}

/// Host names are made of it, so nothing else gets through.
fn is_region(region: &str) -> bool {
    (1..=64).contains(&region.len())
        && region
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Temporary keys.
#[derive(Clone)]
struct Keys {
    access_key: String,
    secret: Secret,
    session: Option<Secret>,
    expires_at: Timestamp,
}

/// Assuming one role.
pub struct Assumption<'a> {
    applicant: Applicant<'a>,
    plan: Plan<'a>,
    /// Once assumed, while the identity is being asked for.
    keys: Option<Keys>,
}

/// Everything that is known before anybody is asked.
struct Plan<'a> {
    role_arn: String,
    region: String,
    service: &'a str,
    external_id: String,
    sts: Sts<'a>,
}

#[derive(Clone, Copy)]
enum Sts<'a> {
    Builtin { access_key: &'a str, secret: &'a str },
    Custom(&'a str),
}

impl std::fmt::Debug for Assumption<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assumption")
            .field("role_arn", &self.plan.role_arn)
            .field("region", &self.plan.region)
            .finish_non_exhaustive()
    }
}

impl<'a> Assumption<'a> {
    /// Fails if integration, form or parameters lack something. A new connection gets its external id here.
    pub fn new(applicant: Applicant<'a>, ambient: &Ambient) -> Result<Self, ObtainError> {
        Ok(Self {
            plan: Plan::of(&applicant, ambient)?,
            applicant,
            keys: None,
        })
    }

    fn assume(&self, ambient: &Ambient) -> Result<Call, ObtainError> {
        let plan = &self.plan;
        match plan.sts {
            Sts::Builtin { access_key, secret } => {
                let mut name = [0; 8];
                ambient.entropy.fill(&mut name);
                let params = json!({
                    "Action": "AssumeRole", "Version": VERSION, "RoleArn": plan.role_arn, "ExternalId": plan.external_id,
                    "RoleSessionName": format!("nango-{}", HEXLOWER.encode(&name)),
                    "DurationSeconds": LIFE.as_secs(),
                });
                let params = params.as_object().cloned().unwrap_or_default();
                let mut call = Call::post(self.sts_url(ambient)?, &params, BodyFormat::Form);
                let keys = Signing {
                    access_key,
                    secret,
                    session: None,
                    region: &plan.region,
                    service: "sts",
                };
                keys.sign_call(&mut call, ambient.now())?;
                Ok(call)
            }
            Sts::Custom(endpoint) => self.ask_operator(endpoint),
        }
    }

    /// The operator's own token service.
    fn ask_operator(&self, endpoint: &str) -> Result<Call, ObtainError> {
        let (applicant, plan) = (&self.applicant, &self.plan);
        let url = Url::parse(endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| invalid("the credentials endpoint of the integration is no URL"))?;
        let params = json!({
            "role_arn": plan.role_arn, "external_id": plan.external_id, "region": plan.region, "service": plan.service,
        });
        let params = params.as_object().cloned().unwrap_or_default();
        let mut call = Call::post(url, &params, BodyFormat::Json);
        match applicant.custom("stsAuthType").unwrap_or("none") {
            "api_key" => {
                let unusable =
                    || invalid("the key for the credentials endpoint cannot be sent in that header");
                let name = applicant
                    .custom("stsAuthHeader")
                    .unwrap_or("x-api-key")
                    .to_ascii_lowercase();
                let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
                let key = applicant.custom("stsApiKey").ok_or_else(unusable)?;
                let mut value = HeaderValue::from_str(key).map_err(|_| unusable())?;
                value.set_sensitive(true);
                call.headers.push((name, value));
            }
            "basic" => {
                let user = applicant.custom("stsAuthUsername").unwrap_or_default();
                let password = applicant.custom("stsAuthPassword").unwrap_or_default();
                call.authorize(&encode::basic(user, password));
            }
            _ => {}
        }
        Ok(call)
    }

    /// Who are we now?
    fn identify(&self, keys: &Keys, ambient: &Ambient) -> Result<Call, ObtainError> {
        let mut url = self.sts_url(ambient)?;
        url.query_pairs_mut()
            .append_pair("Action", "GetCallerIdentity")
            .append_pair("Version", VERSION);
        let mut call = Call {
            method: Method::GET,
            url,
            headers: vec![
                (ACCEPT, HeaderValue::from_static("application/json")),
                (USER_AGENT, HeaderValue::from_static("Patchbay")),
            ],
            body: bytes::Bytes::new(),
            client_certificate: None,
        };
        let signing = Signing {
            access_key: &keys.access_key,
            secret: keys.secret.expose(),
            session: keys.session.as_ref().map(Secret::expose),
            region: &self.plan.region,
            service: "sts",
        };
        signing.sign_call(&mut call, ambient.now())?;
        Ok(call)
    }

    /// The region's token service; a definition may name another one that speaks the same protocol.
    fn sts_url(&self, ambient: &Ambient) -> Result<Url, ObtainError> {
        let region = self.plan.region.as_str();
        if self.applicant.definition.token_url(AuthMode::AwsSigV4).is_some() {
            let scope = Scope::new(ambient)
                .text("connectionConfig.region", region)
                .connection_config(self.applicant.connection_config);
            let url = endpoint::token_url(self.applicant.definition, AuthMode::AwsSigV4, &scope);
            return url.map_err(|error| invalid(&error.to_string()));
        }
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        Url::parse(&format!("https://sts.{region}.amazonaws.com{suffix}/"))
            .map_err(|_| invalid("the region makes no host name"))
    }

    fn hear_keys(&mut self, answer: &Answer, ambient: &Ambient) -> Result<Turn, ObtainError> {
        let rejection = || Rejection::read(answer, &[]);
        if !answer.is_success() {
            let text = String::from_utf8_lossy(&answer.body);
            let rejection = rejection();
            if let Some(code) = OUR_KEYS.iter().find(|code| text.contains(**code)) {
                let message = format!("AWS does not accept the integration's own keys ({code}): {rejection}");
                return Err(ObtainError::unusable(STS_FAILED, message));
            }
            // Nobody but the operator has credentials for the operator's own service.
            if matches!(self.plan.sts, Sts::Custom(_)) && answer.status == 401 {
                let message =
                    format!("the credentials endpoint does not accept the integration's key: {rejection}");
                return Err(ObtainError::unusable(STS_FAILED, message));
            }
            return Err(ObtainError::Refused {
                code: STS_FAILED,
                rejection,
            });
        }
        let keys = Keys::read(answer, ambient.now()).ok_or_else(|| ObtainError::Unreadable {
            code: STS_FAILED,
            what: "keys",
            rejection: rejection(),
        })?;
        if self.applicant.occasion == Occasion::Renewal {
            return Ok(self.done(&keys));
        }
        let call = self.identify(&keys, ambient)?;
        self.keys = Some(keys);
        Ok(Turn::Ask(Box::new(call)))
    }

    fn hear_identity(&self, keys: &Keys, answer: &Answer) -> Result<Turn, ObtainError> {
        let failed = || ObtainError::Refused {
            code: "connection_test_failed",
            rejection: Rejection::read(answer, &[]),
        };
        if !answer.is_success() {
            return Err(failed());
        }
        let object = tree(answer).unwrap_or_default();
        let arn = lookup(&object, "GetCallerIdentityResponse.GetCallerIdentityResult.Arn");
        let arn = arn.and_then(Value::as_str).unwrap_or_default();
        let role = self.plan.role_arn.rsplit('/').next().unwrap_or_default();
        if role.is_empty() || !arn.contains(role) {
            return Err(failed());
        }
        Ok(self.done(keys))
    }

    fn done(&self, keys: &Keys) -> Turn {
        let plan = &self.plan;
        let mut temporary = JsonMap::new();
        temporary.insert("access_key_id".to_owned(), keys.access_key.as_str().into());
        temporary.insert("secret_access_key".to_owned(), keys.secret.expose().into());
        if let Some(session) = &keys.session {
            temporary.insert("session_token".to_owned(), session.expose().into());
        }
        temporary.insert("expires_at".to_owned(), millis_z(keys.expires_at).into());
        let mut config_updates = JsonMap::new();
        for (name, value) in [
            ("external_id", plan.external_id.as_str()),
            ("role_arn", &plan.role_arn),
            ("region", &plan.region),
            ("service", plan.service),
        ] {
            config_updates.insert(name.to_owned(), value.into());
        }
        let mut fields = temporary.clone();
        fields.extend(config_updates.clone());
        fields.insert("raw".to_owned(), Value::Object(temporary));
        Turn::Done(Box::new(Obtained {
            credentials: Credentials::AwsSigV4(Derived { fields }),
            config_updates,
        }))
    }
}

impl Conversation for Assumption<'_> {
    fn next(&mut self, answer: Option<&Answer>, ambient: &Ambient) -> Result<Turn, ObtainError> {
        match (answer, self.keys.take()) {
            (None, _) => Ok(Turn::Ask(Box::new(self.assume(ambient)?))),
            (Some(answer), None) => self.hear_keys(answer, ambient),
            (Some(answer), Some(keys)) => self.hear_identity(&keys, answer),
        }
    }

    fn unanswered(&mut self, error: patchbay_outbound::Error) -> Result<(), ObtainError> {
        let code = if self.keys.is_some() {
            "connection_test_failed"
        } else {
            STS_FAILED
        };
        Err(ObtainError::NoAnswer { code, error })
    }
}

impl<'a> Plan<'a> {
    fn of(applicant: &Applicant<'a>, ambient: &Ambient) -> Result<Self, ObtainError> {
        let missing =
            |code: &'static str, what: &str| ObtainError::unusable(code, format!("there is no {what}"));
        let service = applicant
            .custom("service")
            .ok_or_else(|| missing("missing_aws_sigv4_service", "AWS service in the integration"))?;
        if !is_region(service) {
            return Err(invalid("the AWS service of the integration is no service code"));
        }
        let no_keys = || {
            let code = "missing_aws_sigv4_builtin_credentials";
            missing(code, "access key in the integration")
        };
        let sts = match applicant.custom("stsMode").unwrap_or("builtin") {
            "custom" => Sts::Custom(applicant.custom("stsEndpointUrl").ok_or_else(|| {
                missing(
                    "missing_aws_sigv4_sts_endpoint",
                    "credentials endpoint in the integration",
                )
            })?),
            _ => Sts::Builtin {
                access_key: applicant.custom("awsAccessKeyId").ok_or_else(no_keys)?,
                secret: applicant.custom("awsSecretAccessKey").ok_or_else(no_keys)?,
            },
        };
        let role_arn = applicant.text("role_arn").trim();
        if role_arn.is_empty() {
            return Err(missing("missing_aws_sigv4_role_arn", "role"));
        }
        let config = |config: &JsonMap, name: &str| {
            let value = config
                .get(name)
                .and_then(Value::as_str)
                .filter(|value| !value.is_empty());
            value.map(str::to_owned)
        };
        let stored = |name: &str| match applicant.occasion {
            Occasion::Again(stored) => config(stored, name),
            Occasion::First => None,
            Occasion::Renewal => {
                config(applicant.connection_config, name).or_else(|| config(applicant.fields, name))
            }
        };
        let region = stored("region")
            .or_else(|| config(applicant.connection_config, "region"))
            .or_else(|| applicant.custom("defaultRegion").map(str::to_owned))
            .ok_or_else(|| {
                missing(
                    "missing_aws_sigv4_region",
                    "region, neither given nor in the integration",
                )
            })?;
        if !is_region(&region) {
            return Err(invalid(
                "the region is none: it has lower-case letters, digits and hyphens",
            ));
        }
        let given = || config(applicant.connection_config, "external_id").filter(|id| is_uuid(id));
        let external_id = match (stored("external_id"), applicant.occasion) {
            (Some(stored), _) => stored,
            (None, Occasion::Renewal) => {
                return Err(missing(
                    "missing_aws_sigv4_external_id",
                    "external id in the connection",
                ));
            }
            (None, _) => given().unwrap_or_else(|| ambient.entropy.uuid().to_string()),
        };
        if !is_external_id(&external_id) {
            return Err(invalid("the external id has characters that AWS does not take"));
        }
        Ok(Self {
            role_arn: role_arn.to_owned(),
            region,
            service,
            external_id,
            sts,
        })
    }
}

fn invalid(message: &str) -> ObtainError {
    ObtainError::unusable(INVALID, message)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn is_external_id(text: &str) -> bool {
    (2..=1224).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&b))
}

impl Keys {
    /// AWS's answer in JSON or XML, or the operator's service's.
    fn read(answer: &Answer, now: Timestamp) -> Option<Self> {
        let object = tree(answer)?;
        let paths = ["AssumeRoleResponse.AssumeRoleResult.Credentials", "credentials"];
        let found = paths.iter().find_map(|path| lookup(&object, path)?.as_object());
        let found = found.unwrap_or(&object);
        let any = |names: &[&str]| names.iter().find_map(|name| found.get(*name));
        let text = |names: &[&str]| any(names).and_then(Value::as_str).filter(|text| !text.is_empty());
        let end = any(&["Expiration", "expiration", "expires_at", "expiresAt"]);
        let end = end.and_then(|value| expiry::at(value, now));
        Some(Self {
            access_key: text(&["AccessKeyId", "accessKeyId", "access_key_id"])?.to_owned(),
            secret: text(&["SecretAccessKey", "secretAccessKey", "secret_access_key"])?.into(),
            session: text(&["SessionToken", "sessionToken", "session_token"]).map(Secret::from),
            expires_at: end.unwrap_or_else(|| now.checked_add(LIFE).unwrap_or(Timestamp::MAX)),
        })
    }
}

fn tree(answer: &Answer) -> Option<JsonMap> {
    let text = || std::str::from_utf8(&answer.body).ok();
    answer.object().or_else(|| xml::read(text()?.trim()))
}

/// Keys and what they are used for.
pub(crate) struct Signing<'a> {
    pub(crate) access_key: &'a str,
    pub(crate) secret: &'a str,
    pub(crate) session: Option<&'a str>,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
}

impl<'a> Signing<'a> {
    /// The keys of a connection; none if something is missing.
    pub(crate) fn of(stored: &'a Derived) -> Option<Self> {
        Some(Self {
            access_key: stored.text("access_key_id")?,
            secret: stored.text("secret_access_key")?,
            session: stored.text("session_token").filter(|token| !token.is_empty()),
            region: stored.text("region")?,
            service: stored.text("service")?,
        })
    }

    /// The headers that make a request a signed one. They replace any of their names.
    pub(crate) fn headers(
        &self,
        method: &Method,
        url: &Url,
        signed: &[(&HeaderName, &HeaderValue)],
        body: &[u8],
        now: Timestamp,
    ) -> Vec<(HeaderName, String)> {
        let mut made = vec![(DATE, sigv4::stamp(now)), (CONTENT_HASH, sigv4::sha256_hex(body))];
        made.extend(self.session.map(|token| (SESSION, token.to_owned())));
        let host = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let others: Vec<(&str, String)> = signed
            .iter()
            .filter(|(name, _)| made.iter().all(|(own, _)| own != *name))
            .map(|(name, value)| {
                (
                    name.as_str(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        let own = made.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut headers: Vec<(&str, &str)> = vec![("host", &host)];
        headers.extend(own);
        headers.extend(others.iter().map(|(name, value)| (*name, value.as_str())));
        let credential = Credential {
            access_key: self.access_key,
            secret: self.secret,
            region: self.region,
            service: self.service,
        };
        let request = Request {
            method: method.as_str(),
            path: url.path(),
            query: url.query().unwrap_or_default(),
            headers: &headers,
            payload_hash: &made[1].1,
        };
        let authorization = sigv4::authorization(&credential, &request, now);
        made.push((AUTHORIZATION, authorization));
        made
    }

    fn sign_call(&self, call: &mut Call, now: Timestamp) -> Result<(), ObtainError> {
        let signed: Vec<(&HeaderName, &HeaderValue)> = call
            .headers
            .iter()
            .filter(|(name, _)| *name == CONTENT_TYPE)
            .map(|(name, value)| (name, value))
            .collect();
        for (name, value) in self.headers(&call.method, &call.url, &signed, &call.body, now) {
            let mut value =
                HeaderValue::from_str(&value).map_err(|_| invalid("the keys have line breaks in them"))?;
            value.set_sensitive(true);
            call.headers.push((name, value));
        }
        Ok(())
    }
}
