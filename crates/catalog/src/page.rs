//! The public page of a provider, in Markdown, from its definition alone.
//!
//! What a developer wants to know before choosing a provider: what the end user is asked for, what must be registered
//! at the provider, how calls are made, and where the provider's own documentation is.

use std::fmt::Write as _;

use patchbay_types::AuthMode;

use crate::catalogue::{Catalogue, Provider};
use crate::definition::{Definition, PaginationKind, Retry};
use crate::forms::{Control, Form, FormContext, FormField};

/// The page of one provider.
pub fn provider(provider: &Provider) -> String {
    let definition = &provider.definition;
    let mut page = Page::default();
    page.line(format!("# {}", definition.display_name));
    page.paragraph(format!(
        "Provider `{}`. {}{}",
        provider.name,
        mode(definition),
        match definition.categories.as_slice() {
            [] => String::new(),
            categories => format!(" Categories: {}.", categories.join(", ")),
        }
    ));
    page.links(definition);
    page.setup(definition);
    page.form(definition);
    page.calls(definition);
    page.scopes(definition);
    page.afterwards(definition);
    page.0
}

/// The list of all pages, by first letter.
pub fn index(catalogue: &Catalogue) -> String {
    let mut entries: Vec<_> = catalogue.iter().collect();
    entries.sort_by_cached_key(|entry| (entry.definition.display_name.to_lowercase(), entry.name.clone()));
    let mut page = Page::default();
    page.line("# Providers");
    page.paragraph(format!(
        "{} APIs that Patchbay connects to out of the box. Each page is printed from the provider's definition in \
         `catalog/`; a definition of your own, or a corrected one, is a YAML file given with `--catalog`.",
        entries.len()
    ));
    let mut letter = None;
    for entry in entries {
        let name = &entry.definition.display_name;
        let first = name.chars().next().map(|first| first.to_ascii_uppercase());
        if first != letter {
            letter = first;
            page.heading(&first.map(String::from).unwrap_or_default());
            page.line("");
        }
        page.line(format!(
            "- [{name}]({file}.md) `{file}`, {mode}",
            file = entry.name,
            mode = entry.definition.auth_mode
        ));
    }
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, text: impl AsRef<str>) {
        self.0.push_str(text.as_ref());
        self.0.push('\n');
    }

    fn paragraph(&mut self, text: impl AsRef<str>) {
        self.line("");
        self.line(text);
    }

    fn heading(&mut self, text: &str) {
        self.line(format!("\n## {text}"));
    }

    fn links(&mut self, definition: &Definition) {
        let mut links = Vec::new();
        if let Some(url) = &definition.docs {
            links.push(format!("[API documentation]({url})"));
        }
        if let Some(url) = &definition.setup_guide_url {
            links.push(format!("[how to register an app]({url})"));
        }
        if let Some(url) = &definition.docs_connect {
            links.push(format!("[guide for end users]({url})"));
        }
        if !links.is_empty() {
            self.paragraph(format!("At the provider: {}.", links.join(", ")));
        }
    }

    /// What the operator enters once.
    fn setup(&mut self, definition: &Definition) {
        let needs = match definition.auth_mode {
            AuthMode::OAuth2 | AuthMode::OAuth1 | AuthMode::Tba => Some(
                "Register an app at the provider with the callback URL `<public URL>/oauth/callback`, and create an \
                 integration with its client id and secret.",
            ),
            AuthMode::App | AuthMode::Custom => Some(
                "Register an app at the provider, and create an integration with its id, its private key and the \
                 link people install it from.",
            ),
            AuthMode::McpOAuth2 | AuthMode::McpOAuth2Generic => Some(
                "Create an integration; the OAuth client is registered by itself where the server allows it.",
            ),
            _ => None,
        };
        if needs.is_none() && definition.integration_config.is_empty() {
            return;
        }
        self.heading("Set up");
        if let Some(needs) = needs {
            self.paragraph(needs);
        }
        if !definition.integration_config.is_empty() {
            self.paragraph("The integration also takes:");
            self.line("");
            for field in &definition.integration_config {
                let title = if field.title.is_empty() {
                    &field.name
                } else {
                    &field.title
                };
                self.line(format!("- `{}`: {}", field.name, one_line(title)));
            }
        }
    }

    /// What the end user is asked for.
    fn form(&mut self, definition: &Definition) {
        let form = Form::derive(definition, &FormContext::default());
        let shown: Vec<_> = form.fields.iter().filter(|field| !field.hidden).collect();
        self.heading("What your customer is asked for");
        if shown.is_empty() {
            self.paragraph(if definition.auth_mode == AuthMode::None {
                "Nothing: the API is open."
            } else {
                "Nothing to type: the provider asks for consent on its own page."
            });
            return;
        }
        self.line("");
        self.line("| field | what it is | example |");
        self.line("|---|---|---|");
        for field in shown {
            self.line(format!(
                "| {} `{}` | {} | {} |",
                cell(&field.label),
                field.name,
                cell(&about(field)),
                example(field)
            ));
        }
    }

    /// How requests are made.
    fn calls(&mut self, definition: &Definition) {
        let proxy = &definition.proxy;
        self.heading("Calls");
        match &proxy.base_url {
            Some(base) => self.paragraph(format!("Base URL: `{}`.", base.source())),
            None => self.paragraph("No fixed base URL: calls name theirs with `Base-Url-Override`."),
        }
        let mut facts = Vec::new();
        if let Some(call) = &proxy.verification {
            let endpoints: Vec<_> = call
                .endpoints
                .iter()
                .map(|endpoint| format!("`{} {}`", call.method.to_uppercase(), endpoint.source()))
                .collect();
            facts.push(format!(
                "Credentials are tested with {}.",
                endpoints.join(", else ")
            ));
        }
        if let Some(paginate) = &proxy.paginate {
            let kind = match &paginate.kind {
                PaginationKind::Cursor { name_in_request, .. } => format!(
                    "by cursor{}",
                    name_in_request
                        .as_ref()
                        .map(|name| format!(" in `{name}`"))
                        .unwrap_or_default()
                ),
                PaginationKind::Link(_) => "by link".to_owned(),
                PaginationKind::Offset { name_in_request, .. } => format!(
                    "by offset{}",
                    name_in_request
                        .as_ref()
                        .map(|name| format!(" in `{name}`"))
                        .unwrap_or_default()
                ),
            };
            facts.push(format!("Lists are walked {kind}."));
        }
        if let Some(hint) = retries(&proxy.retry) {
            facts.push(hint);
        }
        if !facts.is_empty() {
            self.line("");
        }
        for fact in facts {
            self.line(format!("- {fact}"));
        }
    }

    fn scopes(&mut self, definition: &Definition) {
        if definition.available_scopes.is_empty() && definition.default_scopes.is_empty() {
            return;
        }
        let code = |scopes: &[String]| {
            let scopes: Vec<_> = scopes.iter().map(|scope| format!("`{scope}`")).collect();
            scopes.join(", ")
        };
        self.heading("Scopes");
        if !definition.default_scopes.is_empty() {
            self.paragraph(format!(
                "Asked for unless the integration says otherwise: {}.",
                code(&definition.default_scopes)
            ));
        }
        if !definition.available_scopes.is_empty() {
            self.paragraph(format!("Known: {}.", code(&definition.available_scopes)));
        }
    }

    /// What is found out once the connection stands.
    fn afterwards(&mut self, definition: &Definition) {
        let mut kept: Vec<_> = definition
            .redirect_uri_metadata
            .iter()
            .chain(&definition.token_response_metadata)
            .chain(&definition.connection_configuration)
            .map(|name| format!("`{name}`"))
            .collect();
        kept.sort_unstable();
        kept.dedup();
        if !kept.is_empty() {
            self.heading("Kept with the connection");
            self.paragraph(format!("In `connection_config`: {}.", kept.join(", ")));
        }
    }
}

fn mode(definition: &Definition) -> String {
    let means = match definition.auth_mode {
        AuthMode::OAuth2 => "your customer consents on the provider's page, tokens are refreshed for you",
        AuthMode::OAuth1 => "your customer consents on the provider's page, every call is signed",
        AuthMode::OAuth2Cc => "your customer enters the credentials of a client, tokens are minted for you",
        AuthMode::ApiKey => "your customer enters an API key",
        AuthMode::Basic => "your customer enters a user name and a password",
        AuthMode::TwoStep => {
            "your customer enters credentials, which are exchanged for a token that is kept fresh"
        }
        AuthMode::Jwt => "your customer enters a key, with which short-lived tokens are signed",
        AuthMode::Signature => {
            "your customer enters a user name and a password, which sign short-lived tokens"
        }
        AuthMode::Tba => "your customer enters a token and its secret, which sign every call",
        AuthMode::Bill => "your customer enters credentials, with which a session is kept open",
        AuthMode::AwsSigV4 => "your customer grants a role, and every call is signed",
        AuthMode::App | AuthMode::Custom => "your customer installs your app, tokens are minted for you",
        AuthMode::McpOAuth2 | AuthMode::McpOAuth2Generic => {
            "an MCP server: your customer consents on its page, tokens are refreshed for you"
        }
        AuthMode::InstallPlugin => "your customer installs your plugin",
        AuthMode::None => "no credentials",
    };
    format!("Auth mode `{}`: {means}.", definition.auth_mode)
}

fn retries(retry: &Retry) -> Option<String> {
    let headers: Vec<_> = retry
        .after
        .iter()
        .chain(&retry.at)
        .map(|name| format!("`{name}`"))
        .collect();
    match (headers.as_slice(), &retry.remaining) {
        ([], None) => None,
        ([], Some(remaining)) => Some(format!("A limit is reached when `{remaining}` is 0.")),
        (headers, _) => Some(format!(
            "When a limit is reached, {} says how long to wait.",
            headers.join(" or ")
        )),
    }
}

fn about(field: &FormField) -> String {
    let mut text = field.description.as_deref().map(one_line).unwrap_or_default();
    if !field.required {
        text = format!("Optional. {text}");
    }
    if field.control == Control::Select {
        text = format!("{text} One of: {}.", field.choices.join(", "));
    }
    text.trim().to_owned()
}

fn example(field: &FormField) -> String {
    let shows = |text: &&str| !text.is_empty() && *text != field.label;
    let Some(example) = field.placeholder.as_deref().filter(shows) else {
        return String::new();
    };
    let mut text = String::new();
    let parts = [field.prefix.as_deref(), Some(example), field.suffix.as_deref()];
    for part in parts.into_iter().flatten() {
        text.push_str(part);
    }
    let mut quoted = String::new();
    let _ = write!(quoted, "`{}`", cell(&one_line(&text)).replace('`', "'"));
    quoted
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A pipe would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
