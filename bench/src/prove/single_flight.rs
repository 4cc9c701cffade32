//! 1,000 concurrent reads of one expired connection cause one token request; and what each failure leads to.

use std::collections::BTreeSet;

use patchbay_sample::{Gate, Grant};

use super::stage::{Stage, Topology, answers, tally, token_of};
use super::{Setting, outcomes};
use crate::report::Report;

const GATE: Gate = Gate::TokenAnswer(Grant::RefreshToken);

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Report> {
    let readers = setting.size.pick(60, 1000);
    let rounds = setting.size.pick(2, 20);
    let mut report = Report::new(
        "Proof: one refresh, however many ask",
        "Each round imports a connection whose access token has ended and sends its reads at once, each on a socket \
         of its own. The provider (counted in the proving process) holds back its answer until every read is written \
         and the token request has arrived; in every second round it answers at once. Two processes share one \
         Postgres, and every other read goes to the second.",
    );
    let topologies: &[Topology] = setting.size.pick(
        &[Topology::Sqlite, Topology::PostgresTwice],
        &[Topology::Sqlite, Topology::Postgres, Topology::PostgresTwice],
    );
    let mut stages = Vec::new();
    report.section("Reads of one expired connection");
    report.head(&[
        "",
        "rounds",
        "reads a round",
        "token requests a round",
        "answers",
        "different tokens a round",
    ]);
    for topology in topologies {
        let stage = Stage::set(setting, *topology).await?;
        let (mut asked, mut tokens, mut all) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for round in 0..rounds {
            let connection = format!("round-{round}");
            stage.expired(&connection).await?;
            let before = stage.sample.counts().token_refresh;
            let held = round % 2 == 0;
            if held {
                stage.sample.hold(GATE);
            }
            let crowd = stage.crowd(&connection, readers).await?;
            stage
                .sample
                .wait_for(|counts| counts.token_refresh > before)
                .await;
            stage.sample.release(GATE);
            let answered = answers(crowd).await?;
            asked.insert(stage.sample.counts().token_refresh - before);
            tokens.insert(answered.iter().map(token_of).collect::<BTreeSet<_>>().len());
            all.extend(answered);
        }
        let words = topology.words();
        report.row(&[
            words.to_owned(),
            rounds.to_string(),
            readers.to_string(),
            set(&asked),
            tally(&all),
            set(&tokens),
        ]);
        report.claim(
            &format!("{words}: exactly one token request a round"),
            asked == BTreeSet::from([1]),
        );
        report.claim(
            &format!("{words}: every read was answered with the one new token"),
            tokens == BTreeSet::from([1]) && all.iter().all(|answer| answer.status == 200),
        );
        stages.push((topology, stage));
    }
    report.section("When the provider fails");
    report.line(
        "The same crowd, and one token request goes wrong. Then, forced, one read after the provider is well again.\n",
    );
    report.head(&[
        "",
        "provider",
        "token requests",
        "answers",
        "webhook's error.type",
        "afterwards",
    ]);
    for (topology, stage) in stages {
        outcomes::run(setting, *topology, &stage, readers, &mut report).await?;
        stage.strike().await?;
    }
    Ok(report)
}

fn set<T: ToString>(values: &BTreeSet<T>) -> String {
    let words: Vec<String> = values.iter().map(ToString::to_string).collect();
    words.join(" or ")
}
