//! What a provider that answers 500, answers `invalid_grant` or does not answer leads to.

use std::time::Duration;

use patchbay_sample::{Failure, Gate, Grant};
use serde_json::Value;

use super::stage::{Stage, Topology, answers, call, path_of, tally};
use super::{Setting, Size};
use crate::report::Report;

const GATE: Gate = Gate::TokenRequest(Grant::RefreshToken);

/// A way to fail and what it is documented to lead to.
struct Case {
    name: &'static str,
    failure: Option<Failure>,
    /// Status of the reads that took part in the refresh; later ones get 424 for a while.
    status: u16,
    error_type: &'static str,
}

const CASES: [Case; 3] = [
    Case {
        name: "500",
        failure: Some(Failure::Status {
            status: 500,
            retry_after: None,
        }),
        status: 502,
        error_type: "refresh_provider_unavailable",
    },
    Case {
        name: "invalid_grant",
        failure: Some(Failure::InvalidGrant),
        status: 400,
        error_type: "refresh_token_external_error",
    },
    Case {
        name: "no answer",
        failure: None,
        status: 502,
        error_type: "refresh_provider_unavailable",
    },
];

pub(super) async fn run(
    setting: &Setting,
    topology: Topology,
    stage: &Stage,
    readers: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    // Waiting for an answer that does not come takes as long as the server has patience: full size only.
    let cases = CASES
        .iter()
        .filter(|case| setting.size == Size::Full || case.failure.is_some());
    for (number, case) in cases.enumerate() {
        let connection = format!("failing-{number}");
        stage.expired(&connection).await?;
        let before = stage.sample.counts().token_refresh;
        match case.failure {
            Some(failure) => stage.sample.fail_next(Grant::RefreshToken, [failure]),
            None => stage.sample.hold(GATE),
        }
        let crowd = stage.crowd(&connection, readers).await?;
        let answered = answers(crowd).await?;
        let asked = stage.sample.counts().token_refresh - before;
        stage.sample.release(GATE);

        let told = |hooks: &std::collections::HashMap<String, Vec<Value>>, success: bool| {
            let mine = hooks.get(&connection).map(Vec::as_slice).unwrap_or_default();
            mine.iter()
                .find(|hook| hook["operation"] == "refresh" && hook["success"] == success)
                .cloned()
        };
        let patience = Duration::from_secs(30);
        let failed = stage
            .webhooks_satisfy(patience, |hooks| told(hooks, false).is_some())
            .await?;
        let error_type = told(&stage.webhooks()?, false)
            .and_then(|hook| hook["error"]["type"].as_str().map(ToOwned::to_owned))
            .unwrap_or_default();

        let forced = format!("{}&force_refresh=true", path_of(&connection));
        let after = call(stage.address(0), "GET", &forced, None).await?;
        let recovered = stage
            .webhooks_satisfy(patience, |hooks| told(hooks, true).is_some())
            .await?;

        let words = format!("{}: {}", topology.words(), case.name);
        report.row(&[
            topology.words().to_owned(),
            case.name.to_owned(),
            asked.to_string(),
            tally(&answered),
            format!("`{error_type}`"),
            format!("{}, webhook of the recovery: {recovered}", after.status),
        ]);
        let documented = answered.iter().all(|answer| {
            (answer.status == case.status || answer.status == 424)
                && answer.error_code().as_deref() == Some("invalid_credentials")
        });
        report.claim(&format!("{words}: one token request, not repeated"), asked == 1);
        report.claim(
            &format!(
                "{words}: every read is answered {} or, in the cool-down, 424, and the webhook says `{}`",
                case.status, case.error_type
            ),
            documented && failed && error_type == case.error_type,
        );
        report.claim(
            &format!("{words}: the connection recovers, and a webhook says so"),
            after.status == 200 && recovered,
        );
    }
    Ok(())
}
