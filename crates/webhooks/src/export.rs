//! Operations on their way to an environment's own OpenTelemetry collector (dashboard-and-observability §5): one
//! span an operation, as OTLP JSON over HTTP.
//!
//! Operations are read from the database in the order they ended, by one node at a time, and the place reached is
//! stored after every accepted batch. A collector that is down gets what it missed later. A crash in between sends a
//! batch twice; the ids of spans are made of those of operations, so a collector can tell.
//!
//! Only what ended `SETTLED` ago is read: transactions commit a little later than the time they write.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use http::{HeaderName, HeaderValue, Method};
use patchbay_connections::Context;
use patchbay_outbound::{Client, FetchRequest, Limits};
use patchbay_store::db::DbError;
use patchbay_store::operations::{EndCursor, EndedOperation};
use patchbay_store::{environments, leases, operations, settings};
use patchbay_types::environments::Environment;
use patchbay_types::operations::OperationState;
use patchbay_types::{EnvironmentId, Timestamp};
use serde_json::{Value, json};
use url::Url;

/// How often operations are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// See the module.
const SETTLED: Duration = Duration::from_secs(5);
/// Spans of one request.
const BATCH: u32 = 256;
/// Longest a collector is waited for.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Life of the lease, renewed with every batch: longer than one batch takes.
const LEASE: Duration = Duration::from_mins(1);
const LEASE_NAME: &str = "operation-export";

/// Sends operations to the collectors of their environments.
#[derive(Debug)]
pub struct Exporter {
    context: Arc<Context>,
    client: Client,
    /// Environments whose collector did not take the last batch: said once, not every time.
    failing: Mutex<BTreeSet<EnvironmentId>>,
}

impl Exporter {
    /// An exporter of this node. `client` carries the address policy of webhooks: the URL is as freely chosen.
    pub fn new(context: Arc<Context>, client: Client) -> Arc<Self> {
        Arc::new(Self {
            context,
            client,
            failing: Mutex::default(),
        })
    }

    /// Exports in the background until shutdown.
    pub fn start(self: &Arc<Self>) {
        let exporter = self.clone();
        let stopping = self.context.ambient.tasks.stopping();
        self.context.ambient.tasks.spawn(async move {
            let clock = exporter.context.ambient.clock.clone();
            while stopping
                .run_until_cancelled(clock.sleep(LOOK_EVERY))
                .await
                .is_some()
            {
                if let Err(error) = exporter.look().await {
                    tracing::warn!(%error, "operations were not exported, trying again");
                }
            }
        });
    }

    /// One round over all environments, unless another node is at it.
    async fn look(&self) -> Result<(), DbError> {
        let store = &self.context.store;
        let all = store.read(|tx| Box::pin(environments::list_all(tx))).await?;
        let exporting: Vec<Environment> = all
            .into_iter()
            .filter(|environment| environment.settings.otlp_endpoint.is_some())
            .collect();
        if exporting.is_empty() {
            return Ok(());
        }
        let ambient = &self.context.ambient;
        let holder = format!("{}/{}", self.context.settings.node, ambient.entropy.uuid());
        let lease = store
            .write(move |tx| Box::pin(async move { leases::acquire(tx, LEASE_NAME, &holder, LEASE).await }));
        let Some(mut lease) = lease.await? else {
            return Ok(());
        };
        'all: for environment in &exporting {
            while self.export(environment).await? == Progress::More {
                let held = lease.clone();
                let renewed =
                    store.write(move |tx| Box::pin(async move { leases::renew(tx, &held, LEASE).await }));
                match renewed.await? {
                    Some(renewed) if !ambient.tasks.is_stopping() => lease = renewed,
                    _ => break 'all,
                }
            }
        }
        store
            .write(move |tx| Box::pin(async move { leases::release(tx, &lease).await }))
            .await
    }

    /// One batch of one environment.
    async fn export(&self, environment: &Environment) -> Result<Progress, DbError> {
        let id = environment.id;
        let now = self.context.ambient.now();
        let (until, from) = (earlier(now, SETTLED), earlier(now, LOOK_EVERY + SETTLED));
        let store = &self.context.store;
        let stored = store
            .read(move |tx| Box::pin(async move { settings::get(tx, &place(id)).await }))
            .await?;
        let after = if let Some(after) = stored.as_deref().and_then(parse_cursor) {
            after
        } else {
            // What ended before the export was switched on is not sent.
            let begin = EndCursor {
                ended_at: from,
                id: String::new(),
            };
            self.reached(id, begin.clone()).await?;
            begin
        };
        let batch = store
            .read(move |tx| {
                Box::pin(async move { operations::ended_page(tx, id, &after, until, BATCH).await })
            })
            .await?;
        let Some(last) = batch.last() else {
            return Ok(Progress::Done);
        };
        if !self.send(environment, &batch).await {
            return Ok(Progress::Done);
        }
        self.reached(id, last.cursor.clone()).await?;
        let full = u32::try_from(batch.len()).is_ok_and(|count| count == BATCH);
        Ok(if full { Progress::More } else { Progress::Done })
    }

    async fn reached(&self, id: EnvironmentId, cursor: EndCursor) -> Result<(), DbError> {
        let text = format!("{}/{}", cursor.ended_at.as_microsecond(), cursor.id);
        self.context
            .store
            .write(move |tx| Box::pin(async move { settings::set(tx, &place(id), &text).await }))
            .await
    }

    /// Whether the batch is done with: accepted, or refused for good.
    async fn send(&self, environment: &Environment, batch: &[EndedOperation]) -> bool {
        let outcome = match request(environment, batch) {
            Ok(request) => match self.client.fetch(request).await {
                Ok(response) => Ok(response.status.as_u16()),
                Err(error) => Err(error.to_string()),
            },
            Err(words) => Err(words),
        };
        let spans = batch.len();
        let name = &environment.name;
        let first_failure = {
            let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            match outcome {
                Ok(200..=299) => {
                    failing.remove(&environment.id);
                    false
                }
                _ => failing.insert(environment.id),
            }
        };
        match outcome {
            Ok(200..=299) => true,
            Ok(status @ (400..=407 | 409..=428 | 430..=499)) => {
                tracing::warn!(environment = %name, status, spans, "the collector refused operations, they are not sent again");
                true
            }
            Ok(status) => {
                if first_failure {
                    tracing::warn!(environment = %name, status, "the collector did not take operations, trying again");
                }
                false
            }
            Err(error) => {
                if first_failure {
                    tracing::warn!(environment = %name, error, "operations cannot be exported, trying again");
                }
                false
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    More,
    Done,
}

/// The setting that holds the place reached.
fn place(environment: EnvironmentId) -> String {
    format!("operation_export.{environment}")
}

fn parse_cursor(text: &str) -> Option<EndCursor> {
    let (micros, id) = text.split_once('/')?;
    Some(EndCursor {
        ended_at: Timestamp::from_microsecond(micros.parse().ok()?).ok()?,
        id: id.to_owned(),
    })
}

fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

fn request(environment: &Environment, batch: &[EndedOperation]) -> Result<FetchRequest, String> {
    let endpoint = environment.settings.otlp_endpoint.as_deref().unwrap_or_default();
    let mut url: Url = endpoint
        .parse()
        .map_err(|error| format!("otlp_endpoint is no URL: {error}"))?;
    let path = url.path().trim_end_matches('/');
    if !path.ends_with("/v1/traces") {
        url.set_path(&format!("{path}/v1/traces"));
    }
    let mut request = FetchRequest::new(Method::POST, url).limits(Limits {
        body: 64 * 1024,
        total: TIMEOUT,
        ..Limits::default()
    });
    for header in &environment.settings.otlp_headers {
        let name = HeaderName::try_from(header.name.as_str());
        let value = HeaderValue::try_from(header.value.expose());
        let (Ok(name), Ok(mut value)) = (name, value) else {
            return Err(format!("otlp_headers.{} is no header", header.name));
        };
        value.set_sensitive(true);
        request.headers.insert(name, value);
    }
    request = request.header("content-type", HeaderValue::from_static("application/json"));
    request.body = spans(environment, batch).to_string().into();
    Ok(request)
}

/// The OTLP document of a batch.
fn spans(environment: &Environment, batch: &[EndedOperation]) -> Value {
    let spans: Vec<Value> = batch.iter().map(|ended| span(environment, ended)).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": attributes([("service.name", Some("nango-otlp"))])},
        "scopeSpans": [{
            "scope": {"name": "patchbay", "version": env!("CARGO_PKG_VERSION")},
            "spans": spans,
        }],
    }]})
}

fn span(environment: &Environment, ended: &EndedOperation) -> Value {
    let operation = &ended.operation;
    let hash = HEXLOWER.encode(digest(&SHA256, operation.id.0.as_bytes()).as_ref());
    let failed = operation.state == OperationState::Failed;
    let error = failed.then(|| ended.error.as_deref().unwrap_or(&operation.title));
    let account = environment.account_id.to_string();
    // STATUS_CODE_OK, STATUS_CODE_ERROR.
    let mut status = json!({"code": if failed { 2 } else { 1 }});
    if let Some(error) = error {
        status["message"] = error.into();
    }
    json!({
        "traceId": hash[..32],
        "spanId": hash[32..48],
        "name": format!("nango.{}.{}", operation.kind, operation.action),
        // SPAN_KIND_INTERNAL.
        "kind": 1,
        "startTimeUnixNano": operation.started_at.as_nanosecond().to_string(),
        "endTimeUnixNano": ended.cursor.ended_at.as_nanosecond().to_string(),
        "attributes": attributes([
            ("nango.operation.id", Some(operation.id.0.as_str())),
            ("nango.operation.type", Some(&operation.kind)),
            ("nango.operation.action", Some(&operation.action)),
            ("nango.operation.message", Some(&operation.title)),
            ("nango.operation.status", Some(operation.state.as_str())),
            ("nango.account", Some(&account)),
            ("nango.environment", Some(environment.name.as_str())),
            ("nango.provider", ended.provider.as_deref()),
            ("nango.integration", ended.integration_key.as_deref()),
            ("nango.connection", ended.connection_id.as_deref()),
            ("nango.error.message", error),
        ]),
        "status": status,
    })
}

fn attributes<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Vec<Value> {
    pairs
        .into_iter()
        .filter_map(|(key, value)| Some(json!({"key": key, "value": {"stringValue": value?}})))
        .collect()
}
