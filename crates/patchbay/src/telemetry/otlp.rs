//! Export of traces by OTLP over HTTP, sent by our own client.
//!
//! The processor batches on a thread of its own; each export runs as a task of the serving runtime, whose reactor
//! the client's sockets need. A failed export is logged by the SDK and dropped: telemetry never holds up work.

use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector, HttpClient, HttpError};
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};
use patchbay_ambient::{Ambient, Tasks};
use patchbay_outbound::{Client, FetchRequest, Limits, Policy, PrivateNetworks, Settings, Timeouts, Trust};
use tokio::runtime::Handle;
use tracing::instrument::WithSubscriber as _;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::NoSubscriber;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, Registry};
use url::Url;

use super::TelemetryError;
use crate::config::{self, Otel};

/// The provider for these settings; none without an endpoint.
pub(super) fn provider(
    otel: &Otel,
    ambient: &Ambient,
    trust: impl FnOnce() -> Trust,
) -> Result<Option<SdkTracerProvider>, TelemetryError> {
    let Some(endpoint) = &otel.traces_endpoint else {
        return Ok(None);
    };
    let headers: HashMap<String, String> = otel
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.expose().to_owned()))
        .collect();
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Exports::new(otel, ambient, trust()))
        .with_endpoint(endpoint.as_str())
        .with_timeout(otel.timeout)
        .with_headers(headers)
        .build()
        .map_err(|error| TelemetryError::Export(error.to_string()))?;
    let batches = BatchConfigBuilder::default()
        .with_scheduled_delay(otel.schedule_delay)
        .build();
    let attributes = otel
        .resource
        .iter()
        .map(|(name, value)| KeyValue::new(name.clone(), value.clone()));
    let resource = Resource::builder_empty()
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(attributes)
        .with_service_name(otel.service_name.clone())
        .build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(
            BatchSpanProcessor::builder(exporter)
                .with_batch_config(batches)
                .build(),
        )
        .with_sampler(sampler(otel.sampler))
        .with_resource(resource)
        .build();
    Ok(Some(provider))
}

/// The layer that turns spans into traces: ours at info and above.
pub(super) fn layer(provider: &SdkTracerProvider) -> Box<dyn Layer<Registry> + Send + Sync> {
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("patchbay"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_filter(LevelFilter::INFO)
        .boxed()
}

/// The caller's span, from W3C Trace Context headers.
pub fn parent(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract(&HeaderExtractor(headers))
}

/// Puts the current span into headers of a request of ours; nothing if traces are not exported.
pub fn inject(headers: &mut HeaderMap) {
    let context = tracing::Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(headers));
}

fn sampler(sampler: config::Sampler) -> Sampler {
    let parent = |root| Sampler::ParentBased(Box::new(root));
    match sampler {
        config::Sampler::ParentAlwaysOn => parent(Sampler::AlwaysOn),
        config::Sampler::ParentAlwaysOff => parent(Sampler::AlwaysOff),
        config::Sampler::ParentRatio(share) => parent(Sampler::TraceIdRatioBased(share)),
        config::Sampler::AlwaysOn => Sampler::AlwaysOn,
        config::Sampler::AlwaysOff => Sampler::AlwaysOff,
        config::Sampler::Ratio(share) => Sampler::TraceIdRatioBased(share),
    }
}

/// The SDK's client: ours, to wherever the operator said, private networks included.
struct Exports {
    client: Client,
    limits: Limits,
    runtime: Handle,
    tasks: Tasks,
}

impl Exports {
    fn new(otel: &Otel, ambient: &Ambient, trust: Trust) -> Self {
        let everywhere =
            PrivateNetworks::Cidrs(vec![IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]);
        let settings = Settings {
            name: "otlp",
            timeouts: Timeouts::default(),
            trust,
            user_agent: None,
        };
        Self {
            client: Client::new(Policy::public(&everywhere), settings, ambient.clock.clone()),
            limits: Limits {
                total: otel.timeout,
                redirects: 0,
                ..Limits::default()
            },
            runtime: Handle::current(),
            tasks: ambient.tasks.clone(),
        }
    }

    fn send(&self, request: Request<Bytes>) -> BoxFuture<'static, Result<Response<Bytes>, HttpError>> {
        let (parts, body) = request.into_parts();
        let url = match Url::parse(&parts.uri.to_string()) {
            Ok(url) => url,
            Err(error) => return Box::pin(async move { Err(error.into()) }),
        };
        let mut fetch = FetchRequest::new(parts.method, url).limits(self.limits);
        fetch.headers = parts.headers;
        fetch.body = body;
        let client = self.client.clone();
        // No subscriber: an export that made spans would have to export them.
        let exchange = async move { client.fetch(fetch).await }.with_subscriber(NoSubscriber::new());
        let task = {
            let _runtime = self.runtime.enter();
            self.tasks.spawn(exchange)
        };
        Box::pin(async move {
            let answer = task.await??;
            let mut response = Response::new(answer.body);
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}

impl fmt::Debug for Exports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exports")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl HttpClient for Exports {
    // What the trait's `async fn` stands for, written out.
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> BoxFuture<'async_trait, Result<Response<Bytes>, HttpError>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        self.send(request)
    }
}
