//! Many connections expire at once, each with many readers, over two processes.

use std::collections::HashMap;

use tokio::time::Instant;

use super::Setting;
use super::stage::{Stage, Topology, answers, tally, token_of};
use crate::report::Report;

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Report> {
    let connections = setting.size.pick(10, 200);
    let readers = setting.size.pick(4, 20);
    let mut report = Report::new(
        "Proof: a storm of expiring connections",
        "Connections whose access tokens have all ended are read at once, each by many readers on sockets of their \
         own, over two processes that share one Postgres.",
    );
    let stage = Stage::set(setting, Topology::PostgresTwice).await?;
    let mut refresh_tokens = Vec::new();
    for number in 0..connections {
        refresh_tokens.push(stage.expired(&format!("storm-{number}")).await?);
    }
    let began = Instant::now();
    let mut crowds = Vec::new();
    for number in 0..connections {
        crowds.push(stage.crowd(&format!("storm-{number}"), readers).await?);
    }
    let (mut all, mut agreed) = (Vec::new(), true);
    for crowd in crowds {
        let answered = answers(crowd).await?;
        let first = answered.first().and_then(token_of);
        agreed &= first.is_some() && answered.iter().all(|answer| token_of(answer) == first);
        all.extend(answered);
    }
    let took = began.elapsed();
    let mut asked: HashMap<String, u32> = HashMap::new();
    for request in stage.sample.token_requests() {
        let token = request.parameter("refresh_token").unwrap_or_default().to_owned();
        *asked.entry(token).or_default() += 1;
    }
    let once = refresh_tokens
        .iter()
        .filter(|token| asked.get(*token) == Some(&1))
        .count();
    let requests = stage.sample.counts().token_refresh;
    report.section("Figures");
    report.head(&[
        "connections",
        "readers each",
        "token requests",
        "asked exactly once",
        "answers",
        "time",
    ]);
    report.row(&[
        connections.to_string(),
        readers.to_string(),
        requests.to_string(),
        once.to_string(),
        tally(&all),
        format!("{:.2} s", took.as_secs_f64()),
    ]);
    report.claim(
        "exactly one token request a connection",
        once == connections && requests == u64::try_from(connections)?,
    );
    report.claim(
        "every read was answered with its connection's one new token",
        agreed,
    );
    stage.strike().await?;
    Ok(report)
}
