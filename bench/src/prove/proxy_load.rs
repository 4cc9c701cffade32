//! What the proxy costs, beside nginx and the bare upstream, in one run.

use std::time::Duration;

use super::proxy_stage::ProxyStage;
use super::{Setting, Size};
use crate::matrix;
use crate::measure::{measure, tabulate};
use crate::report::Report;

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Report> {
    let time = setting
        .size
        .pick(Duration::from_millis(200), Duration::from_secs(5));
    let mut report = Report::new(
        "Proof: a proxy nobody notices",
        "One run; load generator, upstream, nginx and server share the machine. The server is the default one with \
         the rate limit off: authentication, credential injection, address guard and the log of operations are on. \
         CPU is that of the measured process. An answer that is not 200 ends the run.",
    );
    let stage = ProxyStage::set(setting).await?;
    let nginx = match setting.size {
        // The yardstick is needed where there is something to measure.
        Size::Small => None,
        Size::Full => Some(stage.nginx().await?),
    };
    let mut figures = Vec::new();
    for row in matrix::rows(&stage.server, &stage.upstream, nginx.as_ref(), setting.size) {
        figures.push(measure(&row, time, &setting.ambient).await?);
    }
    report.section("Figures");
    tabulate(&mut report, &figures);
    report.claim("every request was answered with 200 and a whole body", true);
    if setting.size == Size::Full {
        for budget in matrix::budgets(&figures) {
            let claim = format!("{}: {}; measured {}", budget.what, budget.goal, budget.measured);
            report.claim(&claim, budget.met);
        }
    }
    stage.strike().await?;
    Ok(report)
}
