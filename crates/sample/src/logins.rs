//! Ways to be let in that are not OAuth's token endpoint: a login that gives a token or a session, a service that hands
//! out the keys of a role, an app's installation. All heed the switches, as [`Grant::Login`].

use std::sync::Arc;

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use axum::Router;
use axum::extract::{Path, State as Injected};
use axum::response::Response;
use axum::routing::post;
use bytes::Bytes;
use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use serde_json::{Map, Value, json};

use crate::behaviour::{Grant, TokenBehaviour};
use crate::oauth::{Parameters, text, value};
use crate::server::State;
use crate::token::{Asked, answer, token_parameters};
use crate::tokens::{Approval, Issued, Refused};

pub(crate) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/login", post(token))
        .route("/login/session", post(session))
        .route("/login/role", post(role))
        .route("/login/installations/{client}/tokens", post(installation))
}

type Fields = Map<String, Value>;

const REFUSED: Refused = Refused("invalid_client", "unknown, or not with this secret");

/// `client_id` and `client_secret` for a token that can be refreshed at the token endpoint.
async fn token(Injected(state): Injected<Arc<State>>, headers: HeaderMap, body: Bytes) -> Response {
    let parameters = token_parameters(&headers, &body);
    let (client, secret) = (
        value(&parameters, "client_id"),
        value(&parameters, "client_secret"),
    );
    let known = client.is_some_and(|client| state.knows(client, secret));
    let grant = |behaviour: &TokenBehaviour| {
        let approval = Approval {
            client: client.unwrap_or_default().to_owned(),
            redirect_uri: String::new(),
            scope: "read".to_owned(),
            challenge: None,
        };
        let mut tokens = state.tokens();
        let code = tokens.approve(approval, state.world());
        let client = client.unwrap_or_default();
        tokens.exchange(client, &code, Some(""), None, behaviour, state.world())
    };
    enter(
        &state,
        &headers,
        client,
        &parameters,
        |fields| fields,
        known,
        grant,
    )
    .await
}

/// `username`, `password`, `organizationId` and `devKey` for a session of no announced length.
async fn session(Injected(state): Injected<Arc<State>>, headers: HeaderMap, body: Bytes) -> Response {
    fn written(mut fields: Fields) -> Fields {
        let token = fields.remove("access_token");
        object(json!({ "sessionId": token, "organizationId": "00801", "userId": "006" }))
    }
    let parameters = token_parameters(&headers, &body);
    let (client, secret) = (value(&parameters, "username"), value(&parameters, "password"));
    let complete = value(&parameters, "organizationId").is_some() && value(&parameters, "devKey").is_some();
    let known = complete && client.is_some_and(|client| state.knows(client, secret));
    let grant = |_: &TokenBehaviour| Ok(own_token(&state, client));
    enter(&state, &headers, client, &parameters, written, known, grant).await
}

/// Keys of the role that is named like a client, for whoever has that client's secret as `x-api-key`.
async fn role(Injected(state): Injected<Arc<State>>, headers: HeaderMap, body: Bytes) -> Response {
    fn written(mut fields: Fields) -> Fields {
        let token = fields.remove("access_token");
        for made in ["token_type", "scope"] {
            fields.remove(made);
        }
        fields.insert("accessKeyId".to_owned(), token.into());
        fields.insert("secretAccessKey".to_owned(), "sample-secret-access-key".into());
        fields.insert("sessionToken".to_owned(), "sample-session-token".into());
        fields
    }
    let parameters = token_parameters(&headers, &body);
    let arn = value(&parameters, "role_arn").unwrap_or_default();
    let client = arn.rsplit('/').next();
    let key = headers.get("x-api-key").and_then(|key| key.to_str().ok());
    let named = ["external_id", "region", "service"]
        .iter()
        .all(|name| value(&parameters, name).is_some());
    let known = named && client.is_some_and(|client| state.knows(client, key));
    let grant = |_: &TokenBehaviour| Ok(own_token(&state, client));
    enter(&state, &headers, client, &parameters, written, known, grant).await
}

/// A token of the installation that is named like a client, for the app whose public RSA key (base64 of its DER) is that
/// client's secret, and which proves it with a JWT.
async fn installation(
    Injected(state): Injected<Arc<State>>,
    Path(client): Path<String>,
    headers: HeaderMap,
) -> Response {
    fn written(mut fields: Fields) -> Fields {
        let (token, end) = (fields.remove("access_token"), fields.remove("expires_at"));
        object(json!({ "token": token, "expires_at": end }))
    }
    let header = text(&headers, &AUTHORIZATION).unwrap_or_default();
    let jwt = header.strip_prefix("Bearer ").unwrap_or_default();
    let known = state
        .secret_of(&client)
        .is_some_and(|key| is_signed_with(&key, jwt));
    let grant = |_: &TokenBehaviour| Ok(own_token(&state, Some(&client)));
    let parameters = Parameters::new();
    enter(
        &state,
        &headers,
        Some(&client),
        &parameters,
        written,
        known,
        grant,
    )
    .await
}

async fn enter(
    state: &State,
    headers: &HeaderMap,
    client: Option<&str>,
    parameters: &Parameters,
    written: fn(Fields) -> Fields,
    known: bool,
    grant: impl FnOnce(&TokenBehaviour) -> Result<Issued, Refused>,
) -> Response {
    let asked = Asked {
        client,
        grant: Some(Grant::Login),
        parameters,
        headers,
        written,
    };
    answer(
        state,
        &asked,
        |_, behaviour| if known { grant(behaviour) } else { Err(REFUSED) },
    )
    .await
}

fn own_token(state: &State, client: Option<&str>) -> Issued {
    let client = client.unwrap_or_default();
    state.tokens().client_token(client, "read", state.world())
}

fn is_signed_with(key: &str, jwt: &str) -> bool {
    let Some((input, signature)) = jwt.rsplit_once('.') else {
        return false;
    };
    let (Ok(key), Ok(signature)) = (
        BASE64.decode(key.as_bytes()),
        BASE64URL_NOPAD.decode(signature.as_bytes()),
    ) else {
        return false;
    };
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
    key.verify(input.as_bytes(), &signature).is_ok()
}

fn object(value: Value) -> Fields {
    match value {
        Value::Object(fields) => fields,
        _ => Fields::new(),
    }
}
