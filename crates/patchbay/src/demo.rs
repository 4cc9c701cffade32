//! What `patchbay demo` adds to `serve`: the sample provider on loopback, its catalogue entries, an integration for
//! each way to connect, and what the guided page shows.
//!
//! The order matters: [`start_provider`], because its port is part of the definitions; [`write_catalogue`], whose file
//! joins the catalogue's sources; the house, with loopback opened and nothing else; [`prepare`]; then the routes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::HeaderMap;
use patchbay_ambient::Ambient;
use patchbay_connections::Context;
use patchbay_connections::api_keys::{self, ApiKeyError, KeyRef};
use patchbay_connections::environments::{self, EnvironmentError, EnvironmentRef};
use patchbay_connections::integrations::{self, AppCredentials, IntegrationError, NewIntegration};
use patchbay_sample::{Received, SampleHandle};
use patchbay_store::db::DbError;
use patchbay_types::{AccountId, AuthMode, EnvironmentId, IntegrationKey, ScopeSet, Secret};
use patchbay_web::{Demo, Observed, ObservedWebhook};
use patchbay_webhooks::sign::sign;
use tokio::net::TcpListener;

/// The environment it plays in.
const ENVIRONMENT: &str = "dev";
/// The invented company behind the sample provider.
const COMPANY: &str = "Kestrel & Finch Instruments";
/// The provider's mailbox that is the environment's webhook URL.
const MAILBOX: &str = "/hooks/demo";
/// The OAuth entry, which the guided page connects.
const OAUTH: &str = "sample-oauth";
/// Headers of a delivery that are worth showing.
const SHOWN_HEADERS: [&str; 5] = [
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "x-nango-signature",
    "x-nango-hmac-sha256",
];

/// The provider's entries. Tokens live a minute; the short buffer lets every refresh be watched.
const CATALOGUE: &str = r"# Written by `patchbay demo` at every start.
sample-oauth:
  display_name: 'COMPANY'
  categories: [other]
  auth_mode: OAUTH2
  authorization_url: BASE/oauth/authorize
  token_url: BASE/oauth/token
  token_expiration_buffer: 10
  default_scopes: ['contacts:read', 'invoices:read']
  proxy:
    base_url: BASE
  docs: BASE/
sample-api-key:
  display_name: 'COMPANY (API key)'
  categories: [other]
  auth_mode: API_KEY
  proxy:
    base_url: BASE
    headers:
      x-api-key: ${apiKey}
    verification:
      method: GET
      endpoints: [/whoami]
  docs: BASE/
  credentials:
    apiKey:
      type: string
      title: API key
      description: For the demonstration it is KEY.
      secret: true
sample-basic:
  display_name: 'COMPANY (user name)'
  categories: [other]
  auth_mode: BASIC
  proxy:
    base_url: BASE
    verification:
      method: GET
      endpoints: [/whoami]
  docs: BASE/
  credentials:
    username:
      type: string
      title: User name
      description: For the demonstration it is USER.
    password:
      type: string
      title: Password
      description: For the demonstration it is PASSWORD.
      secret: true
sample-client-credentials:
  display_name: 'COMPANY (client credentials)'
  categories: [other]
  auth_mode: OAUTH2_CC
  token_url: BASE/oauth/token
  token_params:
    grant_type: client_credentials
  token_expiration_buffer: 10
  proxy:
    base_url: BASE
  docs: BASE/
  credentials:
    client_id:
      type: string
      title: Client ID
      description: For the demonstration it is CLIENT.
    client_secret:
      type: string
      title: Client secret
      description: For the demonstration it is SECRET.
      secret: true
";

/// Why the demonstration cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The environment is gone.
    #[error("the environment `{ENVIRONMENT}`: {0}")]
    Environment(#[from] EnvironmentError),
    /// An integration cannot be made.
    #[error("the integration `{0}`: {1}")]
    Integration(&'static str, IntegrationError),
    /// No key opens the whole environment.
    #[error("no API key of `{ENVIRONMENT}` may do everything there; make one with `patchbay keys create`")]
    NoKey,
    /// The key cannot be read.
    #[error(transparent)]
    Key(#[from] ApiKeyError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] DbError),
}

/// Starts the sample provider on a free loopback port; it runs until shutdown.
///
/// # Errors
/// Loopback takes no listener.
pub async fn start_provider(ambient: &Ambient) -> io::Result<SampleHandle> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    patchbay_sample::serve(listener, ambient, patchbay_sample::Options::default())
}

/// The catalogue entries of a provider at `base_url`, which has no trailing slash.
pub fn catalogue_text(base_url: &str) -> String {
    [
        ("COMPANY", COMPANY),
        ("BASE", base_url),
        ("KEY", patchbay_sample::API_KEY),
        ("USER", patchbay_sample::BASIC_USER),
        ("PASSWORD", patchbay_sample::BASIC_PASSWORD),
        ("CLIENT", patchbay_sample::CLIENT_ID),
        ("SECRET", patchbay_sample::CLIENT_SECRET),
    ]
    .into_iter()
    .fold(CATALOGUE.to_owned(), |text, (placeholder, value)| {
        replace_word(&text, placeholder, value)
    })
}

/// Replaces `word` where no letter follows or precedes it, so that `API_KEY` keeps its `KEY`.
fn replace_word(text: &str, word: &str, value: &str) -> String {
    let is_part = |character: Option<char>| character.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let part = is_part(before.chars().next_back()) || is_part(after.chars().next());
        done.push_str(before);
        done.push_str(if part { word } else { value });
        rest = after;
    }
    done.push_str(rest);
    done
}

/// Writes the entries into `folder`; the file belongs among the catalogue's sources.
///
/// # Errors
/// The folder takes no file.
pub fn write_catalogue(folder: &Path, provider: &SampleHandle) -> io::Result<PathBuf> {
    let path = folder.join("demo-providers.yaml");
    std::fs::write(&path, catalogue_text(&provider.base_url))?;
    Ok(path)
}

/// Makes what is missing: an integration per entry, the webhook URL (unless the operator set another). Changes
/// nothing that is there already.
///
/// # Errors
/// See [`DemoError`].
pub async fn prepare(context: &Arc<Context>, provider: &SampleHandle) -> Result<Demo, DemoError> {
    let account = api_keys::default_account(context).await?;
    let by = EnvironmentRef::Name(ENVIRONMENT.to_owned());
    let mailbox = provider.url(MAILBOX);
    let environment = environments::update_settings(context, account, by, move |settings| {
        let url = &mut settings.webhooks.primary_url;
        // One of ours belonged to a provider of an earlier run, at another port.
        if url.as_ref().is_none_or(|url| url.ends_with(MAILBOX)) {
            *url = Some(mailbox);
        }
    })
    .await?;
    for key in [
        OAUTH,
        "sample-api-key",
        "sample-basic",
        "sample-client-credentials",
    ] {
        integrate(context, environment.id, key)
            .await
            .map_err(|error| DemoError::Integration(key, error))?;
    }
    let (provider, signing_key) = (provider.clone(), environment.signing_key.clone());
    Ok(Demo {
        account,
        environment: environment.id,
        api_key: key_of(context, account, environment.id).await?,
        integration: key_named(OAUTH),
        provider_name: COMPANY.to_owned(),
        provider_url: provider.base_url.clone(),
        observe: Arc::new(move || observed(&provider, &signing_key)),
    })
}

async fn integrate(
    context: &Context,
    environment: EnvironmentId,
    name: &'static str,
) -> Result<(), IntegrationError> {
    if integrations::get(context, environment, name).await?.is_some() {
        return Ok(());
    }
    let new = NewIntegration {
        provider: name.to_owned(),
        unique_key: key_named(name),
        display_name: None,
        forward_webhooks: false,
        credentials: (name == OAUTH).then(|| AppCredentials::OAuth {
            mode: AuthMode::OAuth2,
            client_id: Some(patchbay_sample::CLIENT_ID.to_owned()),
            client_secret: Some(patchbay_sample::CLIENT_SECRET.into()),
            scopes: None,
            webhook_secret: None,
        }),
        integration_config: None,
        custom: None,
    };
    match integrations::create(context, environment, new).await {
        // Another process was faster; it is there, which is what matters.
        Ok(_) | Err(IntegrationError::KeyTaken) => Ok(()),
        Err(error) => Err(error),
    }
}

fn key_named(name: &'static str) -> IntegrationKey {
    IntegrationKey::parse(name).expect("the demonstration's keys are lower-case letters and hyphens")
}

/// A key for the commands to copy: one that may do everything in the environment.
async fn key_of(
    context: &Context,
    account: AccountId,
    environment: EnvironmentId,
) -> Result<Secret, DemoError> {
    let all = api_keys::list(context, account, Some(environment)).await?;
    let full = ScopeSet::full_environment();
    let found = all
        .into_iter()
        .find(|key| key.scopes == full)
        .ok_or(DemoError::NoKey)?;
    let key = api_keys::get(context, account, Some(environment), KeyRef::Id(found.id)).await?;
    Ok(key.secret)
}

fn observed(provider: &SampleHandle, signing_key: &Secret) -> Observed {
    let counts = provider.counts();
    let name = MAILBOX.rsplit('/').next().unwrap_or_default();
    let received = provider.received(name);
    Observed {
        refreshes: counts.token_refresh,
        requests: counts.api + counts.whoami,
        webhooks: received
            .iter()
            .map(|delivery| observed_webhook(delivery, signing_key))
            .collect(),
    }
}

fn observed_webhook(delivery: &Received, signing_key: &Secret) -> ObservedWebhook {
    let body = String::from_utf8_lossy(&delivery.body).into_owned();
    let shown = SHOWN_HEADERS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), text(&delivery.headers, name)?.to_owned())));
    ObservedWebhook {
        at: delivery.at.to_string(),
        headers: shown.collect(),
        genuine: is_genuine(&delivery.headers, &body, signing_key),
        body,
    }
}

/// As a receiver checks it (Standard Webhooks).
fn is_genuine(headers: &HeaderMap, body: &str, signing_key: &Secret) -> bool {
    let (Some(id), Some(at), Some(signature)) = (
        text(headers, "webhook-id"),
        text(headers, "webhook-timestamp").and_then(|at| at.parse().ok()),
        text(headers, "webhook-signature"),
    ) else {
        return false;
    };
    let expected = Secret::new(sign([signing_key], id, at, body).standard);
    signature.split(' ').any(|one| expected == Secret::from(one))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use patchbay_catalog::Catalogue;

    use super::*;

    #[test]
    fn its_entries_are_well_formed() {
        let text = catalogue_text("http://127.0.0.1:4000");
        let (catalogue, findings) = Catalogue::from_text("demo-providers.yaml", &text);
        assert_eq!(findings, []);
        assert_eq!(catalogue.len(), 4);
        let oauth = catalogue.get(OAUTH).unwrap();
        assert_eq!(oauth.definition.token_expiration_buffer, Some(10));
    }

    #[test]
    fn only_whole_words_are_placeholders() {
        assert_eq!(replace_word("API_KEY is KEY.", "KEY", "k"), "API_KEY is k.");
    }
}
