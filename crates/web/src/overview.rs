//! `GET /overview`: an environment's connections, integrations and deliveries, to look at.
//!
//! Behind HTTP Basic, whose password is an API key of the environment; a section appears if the key may list what is
//! in it. The demonstration shows its own environment without asking.

use askama::Template;
use axum::body::Body;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use patchbay_api::authenticate::{AuthFailure, Authenticator, Principal};
use patchbay_api::authenticator::ContextAuthenticator;
use patchbay_api::cors::Cors;
use patchbay_api::schema::patterns::is_uuid_v4;
use patchbay_api::{ApiError, Auth, Call, Endpoint, Rate, Route, codes};
use patchbay_connections::{Context, connections, environments, integrations, refresh};
use patchbay_store::db::DbError;
use patchbay_types::connections::{ConnectionFilter, ConnectionSummary, RefreshCause};
use patchbay_types::deliveries::{Delivery, DeliveryFilter, DeliveryStatus};
use patchbay_types::integrations::Integration;
use patchbay_types::refreshes::{RefreshEvent, RefreshReason};
use patchbay_types::{EnvironmentId, Timestamp};

use crate::Site;
use crate::assets::Files;
use crate::demo;
use crate::page::html;

/// Rows of each section.
const ROWS: u32 = 100;
const CONNECTIONS: &str = "environment:connections:list";
const INTEGRATIONS: &str = "environment:integrations:list";

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    files: Files,
    environment: String,
    connections: Option<Vec<ShownConnection>>,
    integrations: Option<Vec<ShownIntegration>>,
    deliveries: Option<Vec<ShownDelivery>>,
    rows: usize,
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    files: Files,
}

struct ShownConnection {
    name: String,
    email: String,
    integration: String,
    id: String,
    failing: bool,
    refreshes: Vec<ShownRefresh>,
    made: Moment,
}

/// An entry of a connection's timeline.
struct ShownRefresh {
    at: Moment,
    reason: &'static str,
    outcome: &'static str,
    success: bool,
    detail: String,
}

struct ShownIntegration {
    name: String,
    key: String,
    provider: String,
    mode: &'static str,
    made: Moment,
}

struct ShownDelivery {
    kind: String,
    url: String,
    state: &'static str,
    attempts: i32,
    answer: String,
    made: Moment,
}

/// A time, for machines and for people.
struct Moment {
    exact: String,
    text: String,
}

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        Self {
            exact: at.to_string(),
            text: at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        }
    }
}

pub(crate) fn route(site: &Site) -> Endpoint {
    Route::get("/overview")
        .tag("pages")
        .summary("Connections, integrations and deliveries of an environment, to look at")
        .auth(Auth::None)
        .cors(Cors::SameOrigin)
        .rate(Rate::Address(1))
        .any_query()
        .responds_with(200, "text/html")
        .responds_with(401, "text/html")
        .errors(&[&codes::SERVICE_UNAVAILABLE, &codes::FORBIDDEN])
        .handler(site, overview)
}

/// Who looks.
struct Viewer {
    environment: EnvironmentId,
    connections: bool,
    integrations: bool,
}

async fn overview(site: Site, call: Call) -> Result<Response<Body>, ApiError> {
    let context = &*site.context;
    let files = Files::from(call.parts.uri.path());
    let viewer = if let Some(running) = &site.options.demo {
        demo::only_from_here(&site, &call.parts)?;
        Viewer {
            environment: running.environment,
            connections: true,
            integrations: true,
        }
    } else if let Some(viewer) = viewer(&site, call.headers()).await? {
        viewer
    } else {
        let mut response = html(StatusCode::UNAUTHORIZED, &LoginPage { files })?;
        let challenge = HeaderValue::from_static("Basic realm=\"Patchbay\", charset=\"UTF-8\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        return Ok(response);
    };
    let Some(environment) = environments::get(context, viewer.environment).await? else {
        return Err(ApiError::new(&codes::FORBIDDEN).message("The key belongs to no environment"));
    };
    let mut page = OverviewPage {
        files,
        environment: environment.name.to_string(),
        connections: None,
        integrations: None,
        deliveries: None,
        rows: usize::try_from(ROWS).unwrap_or(usize::MAX),
    };
    if viewer.connections {
        let filter = ConnectionFilter {
            limit: ROWS,
            ..ConnectionFilter::default()
        };
        let found = connections::list(context, environment.id, filter).await?;
        let mut shown = Vec::with_capacity(found.len());
        for row in found {
            let refreshes = refresh::timeline(context, row.id).await?;
            shown.push(shown_connection(row, refreshes));
        }
        page.connections = Some(shown);
        let found = deliveries(context, environment.id).await?;
        page.deliveries = Some(found.into_iter().map(shown_delivery).collect());
    }
    if viewer.integrations {
        let found = integrations::list(context, environment.id).await?;
        page.integrations = Some(
            found
                .into_iter()
                .map(|row| shown_integration(context, row))
                .collect(),
        );
    }
    html(StatusCode::OK, &page)
}

/// The holder of the key in the header; none without one that may see anything.
async fn viewer(site: &Site, headers: &HeaderMap) -> Result<Option<Viewer>, ApiError> {
    let Some(key) = key_of(headers) else {
        return Ok(None);
    };
    let authenticator = ContextAuthenticator::new(site.context.clone());
    let principal: Principal = match authenticator.api_key(&key).await {
        Ok(principal) => principal,
        Err(AuthFailure::Unknown | AuthFailure::Deprecated) => return Ok(None),
        Err(AuthFailure::Failed(cause)) => return Err(ApiError::unexpected(cause)),
        Err(AuthFailure::Unavailable(cause)) => {
            return Err(ApiError::unavailable(std::time::Duration::from_secs(1), cause));
        }
    };
    let Some(environment) = &principal.environment else {
        return Ok(None);
    };
    let viewer = Viewer {
        environment: environment.id,
        connections: principal.may(&[CONNECTIONS]),
        integrations: principal.may(&[INTEGRATIONS]),
    };
    Ok((viewer.connections || viewer.integrations).then_some(viewer))
}

/// The password, or the user name of those who have only one field.
fn key_of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64.decode(encoded.trim().as_bytes()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    [password, user]
        .into_iter()
        .map(str::trim)
        .find(|key| is_uuid_v4(key))
        .map(str::to_owned)
}

async fn deliveries(context: &Context, environment: EnvironmentId) -> Result<Vec<Delivery>, DbError> {
    let filter = DeliveryFilter {
        environment_id: Some(environment),
        limit: ROWS,
        ..DeliveryFilter::default()
    };
    patchbay_connections::deliveries::list(context, filter).await
}

fn shown_connection(row: ConnectionSummary, refreshes: Vec<RefreshEvent>) -> ShownConnection {
    let user = row.end_user.as_ref().map(|end_user| &end_user.user);
    let tag = |name: &str| row.tags.get(name).map(str::to_owned);
    let name = tag("end_user_display_name").or_else(|| user.and_then(|user| user.display_name.clone()));
    let email = tag("end_user_email").or_else(|| user.and_then(|user| user.email.clone()));
    ShownConnection {
        name: name.unwrap_or_default(),
        email: email.unwrap_or_default(),
        failing: !row.errors.is_empty(),
        refreshes: refreshes.into_iter().map(shown_refresh).collect(),
        integration: row.integration_key.into(),
        id: row.connection_id.into(),
        made: row.created_at.into(),
    }
}

fn shown_refresh(event: RefreshEvent) -> ShownRefresh {
    ShownRefresh {
        at: event.at.into(),
        reason: match event.reason {
            RefreshReason::Expiring => "near its end",
            RefreshReason::Forced => "forced",
            RefreshReason::Unauthorized => "rejected by the API",
            RefreshReason::Background => "unused for a day",
            RefreshReason::KeepAlive => "kept in use",
            RefreshReason::Test => "tested",
            RefreshReason::Recovery => "the one before was cut off",
        },
        outcome: match event.cause {
            None => "renewed",
            Some(RefreshCause::ProviderRefused) => "the provider refused",
            Some(RefreshCause::ProviderDown) => "the provider was down",
            Some(RefreshCause::Ours) => "our fault",
            Some(RefreshCause::RefreshInterrupted) => "the answer before was lost",
        },
        success: event.success,
        detail: event.detail.unwrap_or_default(),
    }
}

fn shown_integration(context: &Context, row: Integration) -> ShownIntegration {
    let provider = context.catalogue.get(row.provider.as_str());
    let own = provider
        .as_ref()
        .map(|provider| provider.definition.display_name.clone());
    ShownIntegration {
        name: row
            .display_name
            .or(own)
            .unwrap_or_else(|| row.provider.to_string()),
        mode: provider.map_or("not in the catalogue", |provider| {
            provider.definition.auth_mode.as_str()
        }),
        key: row.unique_key.into(),
        provider: row.provider.into(),
        made: row.created_at.into(),
    }
}

fn shown_delivery(row: Delivery) -> ShownDelivery {
    let answer = match (row.last_status, row.last_error) {
        (_, Some(error)) => error,
        (Some(status), None) => status.to_string(),
        (None, None) => String::new(),
    };
    ShownDelivery {
        kind: row.kind,
        url: row.url,
        state: match row.status {
            DeliveryStatus::Delivered => "delivered",
            DeliveryStatus::Dead => "given up",
            DeliveryStatus::Pending if row.attempts > 0 => "trying again",
            DeliveryStatus::Pending => "waiting",
        },
        attempts: row.attempts,
        answer,
        made: row.created_at.into(),
    }
}
