//! TBA: NetSuite's token-based authentication (auth-flows §17). The end user types tokens; each request is signed with
//! them and with a consumer, the connection's own or the integration's, which is looked up when signing.

use patchbay_types::credentials::{ConfigOverride, Tba};
use patchbay_types::{Credentials, JsonMap, Secret};

use crate::forms::{Form, FormError, MAX_CLIENT_FIELD};

/// `{token_id, token_secret, oauth_client_id_override?, oauth_client_secret_override?}`, strict.
pub fn form(body: &JsonMap) -> Result<Credentials, FormError> {
    let mut form = Form::new(body);
    let token_id = form.text("token_id", 1, MAX_CLIENT_FIELD);
    let token_secret = form.text("token_secret", 1, MAX_CLIENT_FIELD);
    let client_id = form.optional("oauth_client_id_override", MAX_CLIENT_FIELD);
    let client_secret = form.optional("oauth_client_secret_override", MAX_CLIENT_FIELD);
    form.refuse_unknown(&[
        "token_id",
        "token_secret",
        "oauth_client_id_override",
        "oauth_client_secret_override",
    ]);
    form.finish()?;
    Ok(Credentials::Tba(Tba {
        token_id: Secret::new(token_id),
        token_secret: Secret::new(token_secret),
        config_override: ConfigOverride {
            client_id: client_id.map(str::to_owned),
            client_secret: client_secret.map(Secret::new),
        },
    }))
}
