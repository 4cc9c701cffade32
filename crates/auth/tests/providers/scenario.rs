//! The life of one connection, as far as the provider sees it.

use std::collections::BTreeMap;
use std::fmt;

use http::Method;
use patchbay_auth::app::{self, AppKeys};
use patchbay_auth::driver::{
    self, AppInput, Applicant, Becoming, ClientProfile, ExchangeInput, HandshakeInput, MintInput, Occasion,
    RenewInput,
};
use patchbay_auth::mcp::generic;
use patchbay_auth::oauth1::handshake;
use patchbay_auth::oauth2::authorize::{AuthorizeInput, authorize};
use patchbay_auth::oauth2::pkce;
use patchbay_auth::request::{self, Subject, Wanted};
use patchbay_auth::verification::{Candidate, verify};
use patchbay_auth::{forms, modes, plugin, tba};
use patchbay_catalog::Provider;
use patchbay_catalog::definition::ClientRegistration;
use patchbay_types::{AuthMode, Credentials, JsonMap, Secret};
use serde_json::Value;
use url::Url;

use crate::fake::Fake;
use crate::inputs::Inputs;

const CALLBACK: &str = "https://connect.example.com/oauth/callback";
const STATE: &str = "the-state";
/// The client metadata document of an integration.
const DOCUMENT: &str = "https://connect.example.com/oauth/client-metadata/the-environment/the-integration";

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// A part of the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// How an integration becomes the provider's client.
    Register,
    /// How an end user's server says where to sign in.
    Discover,
    /// Where the browser is sent.
    Authorize,
    /// How the first credentials are had.
    Obtain,
    /// How they are renewed.
    Renew,
    /// How they are tested.
    Verify,
    /// A call of the product.
    Call,
}

#[derive(Debug)]
pub(crate) struct Story {
    title: String,
    pub(crate) mode: AuthMode,
    pub(crate) tells: Vec<(Part, Told)>,
    /// What was planted and must not go astray.
    pub(crate) secrets: Vec<Planted>,
}

#[derive(Debug)]
pub(crate) enum Told {
    Sent(Exchange),
    /// It did not come to that: why, in our words.
    Not(String),
}

/// A secret, and the variables by which a definition can mean it.
#[derive(Debug)]
pub(crate) struct Planted {
    pub(crate) variables: Vec<String>,
    pub(crate) value: String,
}

impl Story {
    pub(crate) async fn tell(fake: &Fake, provider: &Provider, original: &Provider) -> Self {
        let mode = provider.definition.auth_mode;
        let mut story = Self {
            title: provider.name.clone(),
            mode,
            tells: Vec::new(),
            secrets: Vec::new(),
        };
        fake.be(provider);
        let mut inputs = Inputs::of(fake, provider);
        story.secrets = inputs.planted(provider);
        let Some(credentials) = story.obtain(fake, provider, &mut inputs).await else {
            return story;
        };
        story.renew(fake, provider, &mut inputs, &credentials).await;
        story.verify(fake, provider, &inputs, &credentials).await;
        // The call is only built, not sent: with the unchanged definition and unchanged values.
        inputs.config = back(fake, &inputs.config);
        for value in inputs.secrets.custom.values_mut() {
            *value = fake.lead_back(value.expose()).into();
        }
        story.call(fake, original, &inputs, &credentials);
        story
    }

    async fn obtain(&mut self, fake: &Fake, provider: &Provider, inputs: &mut Inputs) -> Option<Credentials> {
        let ambient = fake.ambient();
        let client = fake.client();
        let definition = &provider.definition;
        let made = match definition.auth_mode {
            AuthMode::None => return Some(Credentials::None {}),
            AuthMode::ApiKey => forms::api_key(&inputs.credentials).map_err(|error| error.to_string()),
            AuthMode::Basic => forms::basic(&inputs.credentials).map_err(|error| error.to_string()),
            AuthMode::Tba => tba::form(&inputs.credentials).map_err(|error| error.to_string()),
            AuthMode::OAuth2 => self.consent(fake, provider, inputs).await,
            AuthMode::McpOAuth2 => match self.become_client(fake, provider, inputs).await {
                Ok(()) => self.consent(fake, provider, inputs).await,
                Err(error) => Err(error),
            },
            AuthMode::McpOAuth2Generic => self.discover(fake, provider, inputs).await,
            AuthMode::App | AuthMode::Custom => self.install_app(fake, provider, inputs).await,
            AuthMode::InstallPlugin => self.install_plugin(fake, provider, inputs),
            AuthMode::OAuth1 => self.handshake(fake, provider, inputs).await,
            AuthMode::OAuth2Cc => match forms::client_credentials(&inputs.credentials) {
                Err(error) => Err(error.to_string()),
                Ok(form) => {
                    let input = MintInput {
                        definition,
                        secrets: &inputs.secrets,
                        connection_config: &inputs.config,
                        authorization_params: &BTreeMap::new(),
                        client_id: &form.client_id,
                        client_secret: Some(&form.client_secret).filter(|secret| !secret.is_empty()),
                        client_certificate: None,
                        client_private_key: form.client_private_key.as_ref(),
                    };
                    let minted = driver::mint_client_credentials(&client, &input, &ambient).await;
                    minted
                        .map(|minted| {
                            inputs.config.extend(minted.config_updates);
                            minted.credentials
                        })
                        .map_err(|error| error.to_string())
                }
            },
            AuthMode::TwoStep | AuthMode::Jwt | AuthMode::Bill | AuthMode::Signature | AuthMode::AwsSigV4 => {
                let applicant = Applicant {
                    definition,
                    secrets: &inputs.secrets,
                    connection_config: &inputs.config,
                    fields: &inputs.credentials,
                    assertion_option: &inputs.assertion,
                    occasion: Occasion::First,
                };
                let obtained = driver::obtain(&client, &applicant, &ambient).await;
                obtained
                    .map(|obtained| {
                        inputs.config.extend(obtained.config_updates);
                        obtained.credentials
                    })
                    .map_err(|error| error.to_string())
            }
        };
        self.asked(Part::Obtain, fake);
        match made {
            Ok(credentials) => Some(credentials),
            Err(error) => {
                self.not(Part::Obtain, fake.lead_back(&error));
                None
            }
        }
    }

    /// The code grant. An app installed from the provider's side has no page: it begins with the provider's webhook.
    async fn consent(
        &mut self,
        fake: &Fake,
        provider: &Provider,
        inputs: &mut Inputs,
    ) -> Result<Credentials, String> {
        let no_override = BTreeMap::new();
        let mut verifier = None;
        if !provider.definition.is_outbound_installation {
            let input = AuthorizeInput {
                provider,
                secrets: &inputs.secrets,
                connection_config: &inputs.config,
                authorization_params: &BTreeMap::new(),
                user_scopes: None,
                client_override: &no_override,
                state: STATE,
                callback_url: CALLBACK,
            };
            let begun = authorize(&input, &fake.ambient()).map_err(|error| error.to_string())?;
            self.sent(Part::Authorize, browse(fake, &begun.url));
            verifier = begun.code_verifier;
        }
        let input = exchange(provider, inputs, &no_override, verifier.as_ref());
        let exchanged = driver::exchange_code(&fake.client(), &input, &fake.ambient())
            .await
            .map_err(|error| error.to_string())?;
        inputs.config.extend(exchanged.token_metadata);
        Ok(exchanged.credentials)
    }

    /// What happens when an integration with a catalogued MCP server is made.
    async fn become_client(
        &mut self,
        fake: &Fake,
        provider: &Provider,
        inputs: &mut Inputs,
    ) -> Result<(), String> {
        let definition = &provider.definition;
        match definition.client_registration {
            Some(ClientRegistration::Dynamic) => {
                let registered = driver::register_client(
                    &fake.client(),
                    definition.registration_url.as_deref().unwrap_or_default(),
                    CALLBACK,
                    &profile(),
                    &definition.registration_params,
                    &fake.ambient(),
                )
                .await;
                self.asked(Part::Register, fake);
                let registered = registered.map_err(|error| error.to_string())?;
                inputs.secrets.client_id = Some(registered.id);
                inputs.secrets.client_secret = registered.secret;
            }
            Some(ClientRegistration::Cimd) => {
                inputs.secrets.client_id = Some(DOCUMENT.to_owned());
                inputs.secrets.client_secret = None;
            }
            _ => {}
        }
        Ok(())
    }

    /// A server of which the end user knows the address.
    async fn discover(
        &mut self,
        fake: &Fake,
        provider: &Provider,
        inputs: &mut Inputs,
    ) -> Result<Credentials, String> {
        let (client, ambient) = (fake.client(), fake.ambient());
        let address = provider
            .definition
            .mcp_server_url
            .as_deref()
            .map_or_else(|| fake.local("mcp", "/mcp"), str::to_owned);
        let server =
            generic::guard("server address", &address, client.policy()).map_err(|error| error.to_string())?;
        let becoming = Becoming {
            profile: profile(),
            document: None,
            callback: CALLBACK,
        };
        let discovered = driver::discover(&client, &server, &becoming, &ambient).await;
        self.asked(Part::Discover, fake);
        let discovered = discovered.map_err(|error| error.to_string())?;
        let verifier = pkce::new_verifier(ambient.entropy.as_ref());
        let page = discovered
            .authorization_page(&[], CALLBACK, STATE, &verifier)
            .map_err(|error| error.to_string())?;
        self.sent(Part::Authorize, browse(fake, &page));
        inputs.config.extend(discovered.config());
        let no_override = BTreeMap::new();
        let input = exchange(provider, inputs, &no_override, Some(&verifier));
        let exchanged = driver::exchange_discovered(&client, &input, &ambient)
            .await
            .map_err(|error| error.to_string())?;
        Ok(exchanged.credentials)
    }

    /// An app is installed; in CUSTOM its user consents as well.
    async fn install_app(
        &mut self,
        fake: &Fake,
        provider: &Provider,
        inputs: &mut Inputs,
    ) -> Result<Credentials, String> {
        let (client, ambient) = (fake.client(), fake.ambient());
        let definition = &provider.definition;
        let keys = AppKeys::of(definition.auth_mode, &inputs.secrets).map_err(|error| error.to_string())?;
        let page = app::installation_page(definition, &keys, &JsonMap::new(), STATE, &ambient)
            .map_err(|error| error.to_string())?;
        self.sent(Part::Authorize, browse(fake, &page));
        if definition.auth_mode == AuthMode::Custom {
            let no_override = BTreeMap::new();
            let input = exchange(provider, inputs, &no_override, None);
            let user = driver::exchange_code(&client, &input, &ambient)
                .await
                .map_err(|error| error.to_string())?;
            let user = user.credentials.to_json().into();
            inputs.config.insert(app::USER_CREDENTIALS.to_owned(), user);
        }
        inputs
            .config
            .insert(app::INSTALLATION_ID.to_owned(), "12345678".into());
        let input = AppInput {
            definition,
            secrets: &inputs.secrets,
            connection_config: &inputs.config,
        };
        let minted = driver::mint_app_token(&client, &input, &ambient)
            .await
            .map_err(|error| error.to_string())?;
        inputs.config.extend(minted.config);
        Ok(Credentials::App(minted.credentials))
    }

    fn install_plugin(
        &mut self,
        fake: &Fake,
        provider: &Provider,
        inputs: &Inputs,
    ) -> Result<Credentials, String> {
        let definition = &provider.definition;
        let page = plugin::installation_page(definition, &inputs.secrets, STATE)
            .map_err(|error| error.to_string())?;
        self.sent(Part::Authorize, browse(fake, &page));
        plugin::credentials(definition, &inputs.secrets).ok_or_else(|| "no credentials".to_owned())
    }

    async fn handshake(
        &mut self,
        fake: &Fake,
        provider: &Provider,
        inputs: &Inputs,
    ) -> Result<Credentials, String> {
        let (client, ambient) = (fake.client(), fake.ambient());
        let input = HandshakeInput {
            definition: &provider.definition,
            secrets: &inputs.secrets,
            connection_config: &inputs.config,
        };
        let callback = handshake::callback_with_state(CALLBACK, STATE);
        let temporary = driver::request_token(&client, &input, &callback, &ambient)
            .await
            .map_err(|error| error.to_string())?;
        self.asked(Part::Obtain, fake);
        let page = handshake::authorization_page(&input, &temporary, &callback, &BTreeMap::new(), &ambient)
            .map_err(|error| error.to_string())?;
        self.sent(Part::Authorize, browse(fake, &page));
        driver::access_token(
            &client,
            &input,
            &temporary.token,
            &temporary.secret,
            "the-verifier",
            &ambient,
        )
        .await
        .map(Credentials::OAuth1)
        .map_err(|error| error.to_string())
    }

    async fn renew(
        &mut self,
        fake: &Fake,
        provider: &Provider,
        inputs: &mut Inputs,
        credentials: &Credentials,
    ) {
        if modes::mode(self.mode).renewal != modes::Renewal::Refresh {
            return;
        }
        let input = RenewInput {
            definition: &provider.definition,
            secrets: &inputs.secrets,
            credentials,
            connection_config: &inputs.config,
            callback_url: CALLBACK,
        };
        let renewed = driver::renew(&fake.client(), &input, &fake.ambient()).await;
        self.asked(Part::Renew, fake);
        if let Err(error) = renewed {
            self.not(Part::Renew, fake.lead_back(&error.to_string()));
        }
    }

    async fn verify(&mut self, fake: &Fake, provider: &Provider, inputs: &Inputs, credentials: &Credentials) {
        let candidate = Candidate {
            definition: &provider.definition,
            secrets: &inputs.secrets,
            credentials,
            connection_config: &inputs.config,
        };
        let verified = verify(&fake.client(), &candidate, &fake.ambient()).await;
        self.asked(Part::Verify, fake);
        if let Err(error) = verified {
            self.not(Part::Verify, fake.lead_back(&error.to_string()));
        }
    }

    fn call(&mut self, fake: &Fake, provider: &Provider, inputs: &Inputs, credentials: &Credentials) {
        let subject = Subject {
            definition: &provider.definition,
            secrets: &inputs.secrets,
            credentials,
            connection_config: &inputs.config,
            connection_id: "the-connection",
            metadata: None,
        };
        let wanted = Wanted {
            method: &Method::GET,
            endpoint: "/things?page=1",
            base_url_override: provider
                .definition
                .proxy
                .base_url
                .is_none()
                .then_some("https://the-host.example.com"),
            templates: &[],
            headers: &[],
            content_type: None,
            body: &[],
        };
        match request::build(&subject, &wanted, &fake.ambient()) {
            Ok(built) => {
                if built.url.scheme() != "https" {
                    self.not(Part::Call, format!("it would go to {}", built.url));
                }
                let mut headers: Vec<(String, String)> = built
                    .headers
                    .iter()
                    .map(|header| {
                        let value = String::from_utf8_lossy(header.value.as_bytes()).into_owned();
                        (header.name.to_string(), value)
                    })
                    .collect();
                headers.sort();
                let exchange = Exchange {
                    method: "GET".to_owned(),
                    url: built.url.into(),
                    headers,
                    body: String::new(),
                };
                self.sent(Part::Call, fake.tidy(exchange));
            }
            Err(error) => self.not(Part::Call, error),
        }
    }

    fn asked(&mut self, part: Part, fake: &Fake) {
        for exchange in fake.take() {
            self.sent(part, exchange);
        }
    }

    fn sent(&mut self, part: Part, exchange: Exchange) {
        self.tells.push((part, Told::Sent(exchange)));
    }

    fn not(&mut self, part: Part, why: impl fmt::Display) {
        self.tells.push((part, Told::Not(why.to_string())));
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.title, self.mode)?;
        for (part, told) in &self.tells {
            match told {
                Told::Not(why) => writeln!(f, "\n{part:?}: {why}")?,
                Told::Sent(exchange) => {
                    let (address, query) = exchange.url.split_once('?').unwrap_or((&exchange.url, ""));
                    writeln!(f, "\n{part:?}: {} {address}", exchange.method)?;
                    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
                        writeln!(f, "    ? {pair}")?;
                    }
                    for (name, value) in &exchange.headers {
                        writeln!(f, "    {name}: {value}")?;
                    }
                    let form = exchange.headers.iter().any(|(name, value)| {
                        name == "content-type" && value.contains("x-www-form-urlencoded")
                    });
                    let pieces: Vec<&str> = if form {
                        exchange.body.split('&').collect()
                    } else {
                        exchange.body.lines().collect()
                    };
                    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                        writeln!(f, "    > {piece}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn exchange<'a>(
    provider: &'a Provider,
    inputs: &'a Inputs,
    no_override: &'a BTreeMap<String, Secret>,
    code_verifier: Option<&'a Secret>,
) -> ExchangeInput<'a> {
    ExchangeInput {
        definition: &provider.definition,
        secrets: &inputs.secrets,
        connection_config: &inputs.config,
        client_override: no_override,
        code: "the-code",
        state: STATE,
        code_verifier,
        callback_url: CALLBACK,
    }
}

fn profile() -> ClientProfile {
    ClientProfile {
        name: "Patchbay".to_owned(),
        ..ClientProfile::default()
    }
}

/// Where a browser is sent, as a request.
fn browse(fake: &Fake, url: &Url) -> Exchange {
    Exchange {
        method: "GET".to_owned(),
        url: fake.lead_back(url.as_str()),
        headers: Vec::new(),
        body: String::new(),
    }
}

fn back(fake: &Fake, config: &JsonMap) -> JsonMap {
    let turn = |value: &Value| match value {
        Value::String(text) => fake.lead_back(text).into(),
        other => other.clone(),
    };
    config
        .iter()
        .map(|(name, value)| (name.clone(), turn(value)))
        .collect()
}
