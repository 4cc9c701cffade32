//! What the operator and the end user would have entered: examples of the definition where it has some, else names
//! that say what they stand for.

use std::collections::BTreeMap;

use patchbay_catalog::definition::{Field, Fields, Format, TokenAuthMethod};
use patchbay_catalog::{Form, FormContext, Provider};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{AuthMode, JsonMap, Secret};
use serde_json::Value;

use crate::fake::Fake;
use crate::scenario::Planted;

/// A key for tests only: RSA, 2048 bits, PKCS #8.
pub(crate) const RSA_KEY: &str = include_str!("for-tests-only-rsa.pem");
/// A key for tests only: P-256, PKCS #8.
pub(crate) const EC_KEY: &str = include_str!("for-tests-only-ec.pem");

/// The RSA key as a JWK.
const JWK: &str = include_str!("for-tests-only-rsa.jwk.json");

/// What was entered.
pub(crate) struct Inputs {
    pub(crate) secrets: IntegrationSecrets,
    pub(crate) config: JsonMap,
    pub(crate) credentials: JsonMap,
    pub(crate) assertion: JsonMap,
}

impl Inputs {
    pub(crate) fn of(fake: &Fake, provider: &Provider) -> Self {
        let definition = &provider.definition;
        let form = Form::derive(definition, &FormContext::default());
        let known = |fields: &Fields| {
            let mut values = JsonMap::new();
            for field in fields {
                if let Some(value) = value(fake, provider, field) {
                    values.insert(field.name.clone(), value.into());
                }
            }
            values
        };
        let mut credentials = known(&definition.credentials);
        for field in &form.fields {
            if field.group == patchbay_catalog::forms::Group::Credentials
                && !credentials.contains_key(&field.name)
            {
                credentials.insert(field.name.clone(), format!("the-{}", field.name).into());
            }
        }
        if definition.token_request_auth_method == Some(TokenAuthMethod::PrivateKeyJwt) {
            credentials.insert("client_private_key".to_owned(), JWK.into());
        }
        let mut config = known(&definition.connection_config);
        // What post-connection steps and the provider's answers fill.
        for name in definition
            .connection_configuration
            .iter()
            .chain(&definition.redirect_uri_metadata)
        {
            config
                .entry(name.as_str())
                .or_insert_with(|| fake.value_of(provider, name, &format!("the-{name}")).into());
        }
        let mut custom: BTreeMap<String, Secret> = known(&definition.integration_config)
            .into_iter()
            .filter_map(|(name, value)| Some((name, Secret::new(value.as_str()?))))
            .collect();
        if definition.auth_mode == AuthMode::InstallPlugin {
            for name in ["username", "password"] {
                custom.insert(name.to_owned(), Secret::new(format!("the-{name}")));
            }
        }
        let key = matches!(definition.auth_mode, AuthMode::App | AuthMode::Custom);
        let encoded = data_encoding::BASE64.encode(RSA_KEY.as_bytes());
        let wire = Value::Object(provider.wire.clone()).to_string();
        let signs = definition.auth_mode == AuthMode::OAuth2 && wire.contains("client_assertion");
        let secrets = IntegrationSecrets {
            client_id: Some("the-client".to_owned()),
            client_secret: Some(match definition.auth_mode {
                AuthMode::App => encoded.clone().into(),
                _ if signs => RSA_KEY.into(),
                _ => "the-client-secret".into(),
            }),
            scopes: Some("one,two".to_owned()),
            app_link: Some("https://apps.example.com/the-app".to_owned()),
            app_id: key.then(|| "12345".to_owned()),
            private_key: key.then(|| encoded.into()),
            custom,
        };
        Self {
            secrets,
            config,
            credentials,
            assertion: known(&definition.assertion_option),
        }
    }
}

impl Inputs {
    /// The secrets among what was entered, and the tokens the fake will issue.
    pub(crate) fn planted(&self, provider: &Provider) -> Vec<Planted> {
        let definition = &provider.definition;
        let mut planted = Vec::new();
        let mut plant = |variables: &[&str], value: &str| {
            // Shorter ones are found by chance.
            if value.len() >= 8 {
                planted.push(Planted {
                    variables: variables.iter().map(|name| (*name).to_owned()).collect(),
                    value: value.to_owned(),
                });
            }
        };
        plant(
            &["accessToken", "answer.access_token", "step1"],
            "the-access-token",
        );
        plant(&["refreshToken", "refresh_token"], "the-refresh-token");
        if definition.auth_mode == AuthMode::OAuth1 {
            // The temporary token is shown to browsers, and the fake knows no other.
            plant(&[], "the-token-secret");
        } else {
            plant(&["accessToken", "credentials.token", "step1"], "the-token");
        }
        if let Some(secret) = &self.secrets.client_secret {
            plant(&["clientSecret"], secret.expose());
        }
        for field in definition.credentials.into_iter().filter(|field| field.secret) {
            if let Some(value) = self.credentials.get(&field.name).and_then(Value::as_str) {
                plant(&[&field.name], value);
            }
        }
        for field in definition
            .integration_config
            .into_iter()
            .filter(|field| field.secret)
        {
            if let Some(value) = self.secrets.custom.get(&field.name) {
                plant(&[&field.name], value.expose());
            }
        }
        planted
    }
}

fn value(fake: &Fake, provider: &Provider, field: &Field) -> Option<String> {
    if field.automated && field.default_value.is_none() && field.example.is_none() {
        return Some(fake.value_of(provider, &field.name, &format!("the-{}", field.name)));
    }
    let fits = |text: &str| {
        field.pattern.as_ref().is_none_or(|pattern| pattern.matches(text))
            && field.format.is_none_or(|format| format.matches(text))
    };
    if let Some(first) = field.choices.first() {
        let chosen = field.default_value.as_ref().unwrap_or(first);
        return Some(fake.value_of(provider, &field.name, chosen));
    }
    let pem = |text: &str| text.contains("PRIVATE KEY");
    let about = format!("{} {}", field.name, field.example.as_deref().unwrap_or_default());
    let is_key = pem(&about)
        || field
            .pattern
            .as_ref()
            .is_some_and(|pattern| pem(pattern.source()))
        // By that name some mean a text of another form, and their pattern says so.
        || (["privateKey", "private_key"].contains(&field.name.as_str()) && fits(RSA_KEY));
    if is_key {
        let elliptic = Value::Object(provider.wire.clone())
            .to_string()
            .contains("\"ES256\"");
        return Some(if elliptic { EC_KEY } else { RSA_KEY }.to_owned());
    }
    let named = format!("the-{}", field.name);
    let candidates = [
        field.default_value.clone().filter(|text| !text.is_empty()),
        field.example.clone(),
        Some(named),
        Some("https://the-host.example.com".to_owned()),
        Some("the-host.example.com".to_owned()),
        Some("6f1c0f2e-5d1c-4d9d-9a4e-0c6d6d2f5a11".to_owned()),
        Some("someone@example.com".to_owned()),
        Some("12345678".to_owned()),
        Some("ABCDEFGHIJKLMNOP".to_owned()),
        Some("abcdefabcdefabcdefabcdefabcdefab".to_owned()),
    ];
    let found = candidates.into_iter().flatten().find(|text| fits(text))?;
    Some(
        if field.format == Some(Format::Uri) || found.starts_with("https://") {
            fake.lead_text(&found)
        } else {
            fake.value_of(provider, &field.name, &found)
        },
    )
}
