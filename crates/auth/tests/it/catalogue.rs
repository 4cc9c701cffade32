//! What holds for every provider we ship, in the modes that are built.

use std::collections::BTreeMap;

use http::Method;
use patchbay_auth::client_credentials::{self, MintInput};
use patchbay_auth::message::Call;
use patchbay_auth::oauth2::authorize::{AuthorizeError, AuthorizeInput, authorize};
use patchbay_auth::oauth2::token::{ExchangeInput, exchange_request};
use patchbay_auth::renewal::{self, RenewInput};
use patchbay_auth::request::{Subject, Wanted, build, injected_body};
use patchbay_catalog::{Catalogue, Definition, Provider};
use patchbay_types::integrations::IntegrationSecrets;
use patchbay_types::{AuthMode, Credentials, JsonMap, Secret};
use serde_json::{Value, json};

use crate::client_credentials::jwk;
use crate::support::{ambient, body_of, credentials, object, secrets};

/// A value for every field an end user or a flow would fill, as the definition's own examples have it.
fn filled(definition: &Definition) -> JsonMap {
    let mut config = JsonMap::new();
    for field in &definition.connection_config {
        let value = field
            .example
            .clone()
            .or_else(|| field.default_value.clone().filter(|value| !value.is_empty()))
            .or_else(|| field.choices.first().cloned())
            .unwrap_or_else(|| match field.format {
                Some(patchbay_catalog::definition::Format::Uri) => "https://acme.example.com".to_owned(),
                _ => "acme".to_owned(),
            });
        config.insert(field.name.clone(), value.into());
    }
    // Older entries name what a token answer fills without declaring it as a field.
    for name in &definition.token_response_metadata {
        config.entry(name.clone()).or_insert_with(|| "acme".into());
    }
    // What begins a URL is one itself.
    let base = definition
        .proxy
        .base_url
        .as_ref()
        .map_or("", |template| template.source());
    for (name, value) in &mut config {
        if base.starts_with(&format!("${{connectionConfig.{name}}}"))
            && value.as_str().is_some_and(|v| !v.contains("://"))
        {
            *value = "https://acme.example.com".into();
        }
    }
    config
}

fn operator() -> IntegrationSecrets {
    let custom = [("baseUrl", "https://own.example.com"), ("keyName", "x-own-key")];
    IntegrationSecrets {
        custom: custom
            .map(|(name, value)| (name.to_owned(), Secret::new(value)))
            .into(),
        ..secrets()
    }
}

fn of_mode(mode: AuthMode) -> Vec<std::sync::Arc<Provider>> {
    let catalogue = Catalogue::built_in();
    let found: Vec<_> = catalogue
        .iter()
        .filter(|provider| provider.definition.auth_mode == mode)
        .cloned()
        .collect();
    assert!(!found.is_empty(), "{mode}");
    found
}

fn check_call(name: &str, call: &Call) -> Value {
    assert_eq!(call.url.scheme(), "https", "{name}: {}", call.url);
    let body = body_of(call);
    let shown = format!("{} {body}", call.url);
    assert!(
        !shown.contains("${") && !shown.contains("$%7B"),
        "{name}: {shown}"
    );
    body
}

#[test]
fn oauth_2_providers_authorize_exchange_and_refresh() {
    let (mut worked, mut refused) = (0, Vec::new());
    for provider in of_mode(AuthMode::OAuth2) {
        let (name, definition) = (provider.name.as_str(), &provider.definition);
        let (secrets, config) = (operator(), filled(definition));
        let (params, overrides) = (BTreeMap::new(), BTreeMap::new());
        let started = authorize(
            &AuthorizeInput {
                provider: &provider,
                secrets: &secrets,
                connection_config: &config,
                authorization_params: &params,
                user_scopes: None,
                client_override: &overrides,
                state: "the-state",
                callback_url: "https://connect.example.com/oauth/callback",
            },
            &ambient(),
        );
        let started = match started {
            Err(AuthorizeError::InstalledElsewhere(_)) => {
                refused.push(name.to_owned());
                continue;
            }
            started => started.unwrap_or_else(|error| panic!("{name}: {error}")),
        };
        let url = started.url.as_str();
        assert_eq!(started.url.scheme(), "https", "{name}");
        assert!(
            url.contains("the-state") && url.contains("the-client") && !url.contains("${"),
            "{name}: {url}"
        );
        assert!(!url.contains("planted"), "{name}: {url}");
        assert_eq!(started.code_verifier.is_none(), definition.disable_pkce, "{name}");

        let exchange = ExchangeInput {
            definition,
            secrets: &secrets,
            connection_config: &config,
            client_override: &overrides,
            code: "the-code",
            code_verifier: started.code_verifier.as_ref(),
            state: "the-state",
            callback_url: "https://connect.example.com/oauth/callback",
        };
        let usual = definition.token_client.is_none();
        let call = match exchange_request(&exchange, &ambient()) {
            // Its secret is a private key.
            Err(error) if error.to_string().contains("PEM") => continue,
            call => call.unwrap_or_else(|error| panic!("{name}: {error}")),
        };
        let body = check_call(name, &call);
        // Those with a way of their own are looked at one by one, in `token_client`.
        if usual {
            assert_eq!(
                (&body["code"], &body["grant_type"]),
                (&json!("the-code"), &json!("authorization_code")),
                "{name}"
            );
            assert!(
                body.get("client_secret").is_some() || call.header("authorization").is_some(),
                "{name}"
            );
        }

        let stored = credentials(
            json!({"type": "OAUTH2", "access_token": "a", "refresh_token": "the-refresh", "raw": {}}),
        );
        let input = RenewInput {
            definition,
            secrets: &secrets,
            credentials: &stored,
            connection_config: &config,
            callback_url: "https://connect.example.com/oauth/callback",
        };
        let call = renewal::request(&input, &ambient()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let body = check_call(name, &call);
        if usual {
            assert_eq!(
                (&body["refresh_token"], &body["grant_type"]),
                (&json!("the-refresh"), &json!("refresh_token")),
                "{name}"
            );
        }
        worked += 1;
    }
    assert!(worked > 100, "{worked}");
    // Installed from the provider's own side.
    assert_eq!(refused, ["sentry-oauth"]);
}

#[test]
fn clients_are_minted_for() {
    for provider in of_mode(AuthMode::OAuth2Cc) {
        let (name, definition) = (provider.name.as_str(), &provider.definition);
        let (secrets, config, params) = (operator(), filled(definition), BTreeMap::new());
        let (secret, key) = (Secret::new("their-secret"), jwk());
        let input = MintInput {
            definition,
            secrets: &secrets,
            connection_config: &config,
            authorization_params: &params,
            client_id: "their-client",
            client_secret: Some(&secret),
            client_certificate: None,
            client_private_key: Some(&key),
        };
        let call =
            client_credentials::request(&input, &ambient()).unwrap_or_else(|error| panic!("{name}: {error}"));
        if call.url.query().is_none() {
            check_call(name, &call);
        }
    }
}

#[test]
fn calls_carry_the_credential_and_nothing_unresolved() {
    for (mode, given) in [
        (
            AuthMode::OAuth2,
            json!({"type": "OAUTH2", "access_token": "planted-secret", "raw": {}}),
        ),
        (
            AuthMode::OAuth2Cc,
            json!({"type": "OAUTH2_CC", "token": "planted-secret", "client_id": "i", "raw": {}}),
        ),
        (
            AuthMode::ApiKey,
            json!({"type": "API_KEY", "apiKey": "planted-secret"}),
        ),
        (
            AuthMode::Basic,
            json!({"type": "BASIC", "username": "u", "password": "planted-secret"}),
        ),
    ] {
        let given: Credentials = credentials(given);
        for provider in of_mode(mode) {
            let (name, definition) = (provider.name.as_str(), &provider.definition);
            let (secrets, config, metadata) = (operator(), filled(definition), object(json!({})));
            let subject = Subject {
                definition,
                secrets: &secrets,
                credentials: &given,
                connection_config: &config,
                connection_id: "conn-1",
                metadata: Some(&metadata),
            };
            let wanted = Wanted {
                method: &Method::POST,
                endpoint: "/things?page=1",
                base_url_override: None,
                templates: &[],
                headers: &[],
                content_type: None,
                body: b"{}",
            };
            let built = match build(&subject, &wanted, &ambient()) {
                Err(error) if error.code() == "unsupported_provider" => continue,
                built => built.unwrap_or_else(|error| panic!("{name}: {error}")),
            };
            assert_eq!(built.url.scheme(), "https", "{name}: {}", built.url);
            let body = injected_body(&subject, &Method::POST, &ambient());
            let headers: Vec<_> = built
                .headers
                .iter()
                .map(|header| String::from_utf8_lossy(header.value.as_bytes()).into_owned())
                .collect();
            let everything = format!(
                "{} {headers:?} {}",
                built.url,
                Value::Object(body.unwrap_or_default())
            );
            assert!(
                !everything.contains("${") && !everything.contains("$%7B"),
                "{name}: {everything}"
            );
            // Digests and base64 hide it; then at least something that is no fixed text is there.
            let secret_headers = built.headers.iter().any(|header| header.value.is_sensitive());
            assert!(
                everything.contains("planted-secret") || secret_headers || !built.secret_query.is_empty(),
                "{name}: {everything}"
            );
        }
    }
}
