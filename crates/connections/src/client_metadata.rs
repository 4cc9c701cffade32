//! Who we are to servers where nobody registered us: the profile a registration carries, and the document that stands
//! for one (auth-flows §12.3).

use patchbay_auth::driver::ClientProfile;
use patchbay_auth::mcp::client_metadata_document;
use patchbay_types::environments::Environment;
use patchbay_types::integrations::Integration;
use patchbay_types::{AuthMode, JsonMap, Secret};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::context::Context;

/// What stays as it is in a path segment (RFC 3986 §2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// How an integration introduces itself: as the operator says in `custom`, else as Patchbay.
pub(crate) fn profile(integration: &Integration) -> ClientProfile {
    let custom = |name: &str| {
        let value = integration.secrets.custom.get(name).map(Secret::expose);
        value.filter(|value| !value.is_empty()).map(str::to_owned)
    };
    ClientProfile {
        name: custom("oauth_client_name").unwrap_or_else(|| "Patchbay".to_owned()),
        uri: custom("oauth_client_uri"),
        logo_uri: custom("oauth_client_logo_uri"),
    }
}

/// The document's address, which is the client's id; none without a public https address. It changes with the
/// integration's key.
pub(crate) fn address(
    context: &Context,
    environment: &Environment,
    integration: &Integration,
) -> Option<String> {
    address_of(context, environment, integration.unique_key.as_str())
}

pub(crate) fn address_of(context: &Context, environment: &Environment, key: &str) -> Option<String> {
    if context.settings.public_url.scheme() != "https" {
        return None;
    }
    let key = utf8_percent_encode(key, SEGMENT);
    Some(context.public(&format!("oauth/client-metadata/{}/{key}", environment.uuid)))
}

/// The document of an MCP integration; none for others, and without a public https address.
pub fn document(context: &Context, environment: &Environment, integration: &Integration) -> Option<JsonMap> {
    let provider = context.catalogue.get(integration.provider.as_str())?;
    if !matches!(
        provider.definition.auth_mode,
        AuthMode::McpOAuth2 | AuthMode::McpOAuth2Generic
    ) {
        return None;
    }
    let id = address(context, environment, integration)?;
    let callback = context.callback_url(environment);
    Some(client_metadata_document(&id, &callback, &profile(integration)))
}
