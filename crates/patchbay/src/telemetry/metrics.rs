//! Metrics in the Prometheus text format.

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use patchbay_ambient::Ambient;

/// From half a millisecond, a cached read, to half a minute, a slow provider behind the proxy.
const BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// How often recorded values are folded into their histograms.
const UPKEEP: Duration = Duration::from_secs(30);

/// Counters that tell outcomes apart, with every outcome there is: they begin at zero, so that the first failure is a
/// rise that an alert sees.
const OUTCOMES: &[(&str, &[&str])] = &[
    (
        "patchbay_proxy_calls_total",
        &["success", "upstream_error", "refused", "broken", "abandoned"],
    ),
    ("patchbay_log_entries_total", &["written", "sampled", "dropped"]),
    ("patchbay_refreshes_total", &["success", "failure"]),
    ("patchbay_credential_tests_total", &["success", "failure"]),
    (
        "patchbay_webhook_attempts_total",
        &["delivered", "failed", "dead"],
    ),
];

/// The process's recorder. The facade is global, so servers of one process (in tests) share it.
pub fn recorder() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), BUCKETS)
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // Fails only if another library installed one; then its metrics are not ours to print.
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed; /metrics stays empty");
        }
        describe_counter!("patchbay_http_requests_total", "Requests answered.");
        describe_histogram!(
            "patchbay_http_request_seconds",
            Unit::Seconds,
            "Time to the head of the response."
        );
        describe_histogram!(
            "patchbay_outbound_response_seconds",
            Unit::Seconds,
            "Time to the head of the response to a request of ours."
        );
        describe_counter!("patchbay_proxy_calls_total", "Proxied calls, by how they ended.");
        describe_counter!(
            "patchbay_proxy_response_bytes_total",
            "Bytes of response bodies passed on by the proxy."
        );
        describe_counter!(
            "patchbay_log_entries_total",
            "Log entries of calls: written, sampled (beyond the allowance) or dropped (queue full, database away)."
        );
        describe_counter!("patchbay_refreshes_total", "Credentials refreshed, or not.");
        describe_counter!(
            "patchbay_credential_tests_total",
            "Daily tests of credentials that do not end by themselves."
        );
        describe_counter!(
            "patchbay_webhook_attempts_total",
            "Attempts to deliver a webhook: delivered, failed (tried again later) or dead (given up)."
        );
        describe_counter!(
            "patchbay_purged_rows_total",
            "Rows deleted because their retention ended."
        );
        for (metric, outcomes) in OUTCOMES {
            for outcome in *outcomes {
                metrics::counter!(*metric, "outcome" => *outcome).increment(0);
            }
        }
        metrics::counter!("patchbay_proxy_response_bytes_total").increment(0);
        describe_gauge!("patchbay_websockets", "Popups waiting for their result.");
        metrics::gauge!("patchbay_websockets").set(0.0);
        describe_gauge!("patchbay_build_info", "Version of the running binary; always 1.");
        metrics::gauge!("patchbay_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        handle
    })
}

/// Folds values until shutdown; without it memory grows while nobody scrapes.
pub fn keep_up(ambient: &Ambient) {
    let stopping = ambient.tasks.stopping();
    let clock = ambient.clock.clone();
    ambient.tasks.spawn(async move {
        while stopping.run_until_cancelled(clock.sleep(UPKEEP)).await.is_some() {
            recorder().run_upkeep();
        }
    });
}

/// The body of `GET /metrics`.
pub fn render() -> String {
    recorder().render()
}

/// Its content type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
