//! kill -9 between the provider's answer and the save, in a loop with random timing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _};
use patchbay_ambient::Ambient;
use patchbay_sample::{Failure, Gate, Grant, OldToken};

use super::stage::{Stage, Topology, answers, call, path_of, token_of};
use super::{Setting, Size};
use crate::report::Report;

const GATE: Gate = Gate::TokenAnswer(Grant::RefreshToken);
const SPREAD: Duration = Duration::from_millis(60);

/// What became of the connections of one row of the table.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    connections: usize,
    /// The provider had issued new tokens that the killed process never saved.
    cut: usize,
    survived: usize,
    interrupted: usize,
    /// What must not happen, in words.
    wrong: Vec<String>,
}

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Report> {
    let mut report = Report::new(
        "Proof: a kill during a refresh loses nothing the provider still honours",
        "Each round imports connections whose access tokens have ended, reads all of them at once and kills the \
         server with SIGKILL: in every other round while the provider holds back answers it has issued tokens for, \
         else at a random moment within 60 ms of the reads. Then every connection is read again, through the same \
         server after a restart, or through the other process on the same Postgres.\n\n\
         *Cut* counts connections whose old refresh token was used up at the provider without the answer being \
         saved. With a provider that honours the old token they must read 200 with a token the provider accepts. \
         With one that does not, they must be told `refresh_interrupted`, and never that the end user revoked \
         anything.",
    );
    report.section("Figures");
    report.head(&[
        "",
        "the provider and an old refresh token",
        "kills",
        "connections",
        "cut",
        "read 200 afterwards",
        "`refresh_interrupted`",
        "anything else",
    ]);
    // The wait for a dead process's lease is half a minute, so small runs go side by side.
    let rows = futures_util::stream::iter(plan(setting.size))
        .map(|row| kills(setting, row))
        .buffered(setting.size.pick(3, 1));
    let tallies: Vec<(Row, Tally)> = rows.try_collect().await?;
    for (row, tally) in tallies {
        tell(&mut report, &row, &tally);
    }
    lost_answers(setting, &mut report).await?;
    Ok(report)
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    topology: Topology,
    rounds: usize,
    /// Connections a round.
    batch: usize,
    policy: OldToken,
}

impl Row {
    const fn words(self) -> &'static str {
        match self.policy {
            OldToken::Honour => "honours it",
            OldToken::Refuse => "refuses it",
            OldToken::RevokeFamily => "revokes the grant",
        }
    }
}

/// Every provider on either topology. A small run does without the one that refuses, whose connections fare as those of
/// the one that revokes, and takes two processes to one provider only.
fn plan(size: Size) -> Vec<Row> {
    let row = |topology, policy| {
        let (rounds, batch) = match topology {
            Topology::PostgresTwice => size.pick((1, 4), (4, 50)),
            Topology::Sqlite | Topology::Postgres => size.pick((2, 4), (60, 10)),
        };
        Row {
            topology,
            rounds,
            batch,
            policy,
        }
    };
    let policies = size.pick(
        &[OldToken::Honour, OldToken::RevokeFamily][..],
        &[OldToken::Honour, OldToken::Refuse, OldToken::RevokeFamily],
    );
    let twice = size.pick(&policies[..1], policies);
    let sqlite = policies.iter().map(|policy| row(Topology::Sqlite, *policy));
    let twice = twice.iter().map(|policy| row(Topology::PostgresTwice, *policy));
    // The longest first.
    match size {
        Size::Small => twice.chain(sqlite).collect(),
        Size::Full => sqlite.chain(twice).collect(),
    }
}

async fn kills(setting: &Setting, row: Row) -> anyhow::Result<(Row, Tally)> {
    let mut stage = Stage::set(setting, row.topology).await?;
    stage
        .sample
        .behave_for(Grant::RefreshToken, |behaviour| behaviour.old_token = row.policy);
    let mut tally = Tally::default();
    for round in 0..row.rounds {
        one(&mut stage, row.topology, row.policy, round, row.batch, &mut tally).await?;
    }
    stage.strike().await?;
    Ok((row, tally))
}

fn tell(report: &mut Report, row: &Row, tally: &Tally) {
    report.row(&[
        row.topology.words().to_owned(),
        row.words().to_owned(),
        tally.kills.to_string(),
        tally.connections.to_string(),
        tally.cut.to_string(),
        tally.survived.to_string(),
        tally.interrupted.to_string(),
        if tally.wrong.is_empty() {
            "none".to_owned()
        } else {
            tally.wrong.join("; ")
        },
    ]);
    let name = format!("{}, a provider that {}", row.topology.words(), row.words());
    report.claim(
        &format!("{name}: nothing but these outcomes"),
        tally.wrong.is_empty(),
    );
    report.claim(&format!("{name}: answers were cut off"), tally.cut > 0);
    if row.policy == OldToken::Honour {
        report.claim(
            &format!("{name}: every connection survived"),
            tally.survived == tally.connections,
        );
    } else {
        report.claim(
            &format!("{name}: what was cut, and only that, is `refresh_interrupted`"),
            tally.interrupted == tally.cut,
        );
    }
}

async fn one(
    stage: &mut Stage,
    topology: Topology,
    policy: OldToken,
    round: usize,
    batch: usize,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let ambient = stage.ambient.clone();
    let mut connections: BTreeMap<String, String> = BTreeMap::new();
    for number in 0..batch {
        let connection = format!("kill-{round}-{number}");
        let token = stage.expired(&connection).await?;
        connections.insert(connection, token);
    }
    let held = round.is_multiple_of(2);
    let before = stage.sample.counts().token_refresh;
    if held {
        stage.sample.hold(GATE);
    }
    let mut crowds = Vec::new();
    for connection in connections.keys() {
        // One reader each: on two processes, all through the one that is killed.
        crowds.extend(stage.crowd(connection, 1).await?);
    }
    if held {
        let asked = before + u64::try_from(batch)?;
        stage
            .sample
            .wait_for(|counts| counts.token_refresh >= asked)
            .await;
    } else {
        tokio::time::sleep(moment(&ambient)).await;
    }
    stage.kill(0).await?;
    stage.sample.release(GATE);
    drop(crowds);
    let issued: Vec<String> = stage
        .sample
        .token_requests()
        .iter()
        .filter_map(|request| request.parameter("refresh_token").map(ToOwned::to_owned))
        .collect();
    let reader = usize::from(topology == Topology::PostgresTwice);
    if reader == 0 {
        stage.start(0).await?;
    }
    // All at once: each may have to wait for the dead process's lease to end.
    let reads = connections
        .keys()
        .map(|connection| stage.settled(reader, connection));
    let answers = futures_util::future::join_all(reads).await;
    for ((connection, refresh_token), answer) in connections.iter().zip(answers) {
        let answer = answer?;
        tally.connections += 1;
        let asked_again = stage
            .sample
            .token_requests()
            .iter()
            .filter(|request| request.parameter("refresh_token") == Some(refresh_token))
            .count()
            > 1;
        // Asked before the kill, and asked again with the same token: the answer in between was not saved.
        let cut = issued.contains(refresh_token) && asked_again;
        tally.cut += usize::from(cut);
        match token_of(&answer) {
            Some(token) if stage.is_honoured(&token).await? => tally.survived += 1,
            Some(_) => tally
                .wrong
                .push(format!("{connection}: a token the provider does not accept")),
            None => match error_type(stage, connection).await?.as_str() {
                "refresh_interrupted" if policy != OldToken::Honour => tally.interrupted += 1,
                other => tally.wrong.push(format!(
                    "{connection}: {} {:?} {other:?}",
                    answer.status,
                    answer.error_code()
                )),
            },
        }
    }
    tally.kills += 1;
    if reader != 0 {
        stage.start(0).await?;
    }
    Ok(())
}

/// `error.type` of the webhook about the failed refresh.
async fn error_type(stage: &Stage, connection: &str) -> anyhow::Result<String> {
    let failed = |hooks: &std::collections::HashMap<String, Vec<serde_json::Value>>| {
        let mine = hooks.get(connection).map(Vec::as_slice).unwrap_or_default();
        mine.iter()
            .find(|hook| hook["operation"] == "refresh" && hook["success"] == false)
            .and_then(|hook| hook["error"]["type"].as_str().map(ToOwned::to_owned))
    };
    stage
        .webhooks_satisfy(Duration::from_secs(30), |hooks| failed(hooks).is_some())
        .await?;
    Ok(failed(&stage.webhooks()?).unwrap_or_default())
}

/// The process lives, but the provider's answer is lost on the way.
async fn lost_answers(setting: &Setting, report: &mut Report) -> anyhow::Result<()> {
    report.section("Nobody is killed, but the answer is lost on the way");
    report.line("The tokens are issued, the connection ends before or in the middle of the answer.\n");
    report.head(&[
        "",
        "answer",
        "an old refresh token",
        "first read",
        "forced read",
        "webhook's error.type",
    ]);
    let stage = Stage::set(setting, Topology::Sqlite).await?;
    for failure in [Failure::LostAnswer, Failure::HalfAnswer] {
        for policy in [OldToken::Honour, OldToken::Refuse] {
            let name = format!("lost-{failure:?}-{policy:?}");
            stage
                .sample
                .behave_for(Grant::RefreshToken, |behaviour| behaviour.old_token = policy);
            stage.expired(&name).await?;
            stage.sample.fail_next(Grant::RefreshToken, [failure]);
            let first = answers(stage.crowd(&name, 1).await?).await?;
            let first = first.first().context("an answer")?;
            let forced = format!("{}&force_refresh=true", path_of(&name));
            let again = call(stage.address(0), "GET", &forced, None).await?;
            let last_type = || -> anyhow::Result<Option<String>> {
                let hooks = stage.webhooks()?;
                let failed = hooks.get(&name).into_iter().flatten();
                Ok(failed
                    .filter(|hook| hook["success"] == false)
                    .filter_map(|hook| hook["error"]["type"].as_str().map(ToOwned::to_owned))
                    .next_back())
            };
            let wanted = if policy == OldToken::Honour {
                "refresh_provider_unavailable"
            } else {
                "refresh_interrupted"
            };
            stage
                .webhooks_satisfy(Duration::from_secs(30), |_| {
                    last_type().is_ok_and(|last| last.as_deref() == Some(wanted))
                })
                .await?;
            let told = last_type()?.unwrap_or_default();
            let words = if policy == OldToken::Honour {
                "honoured"
            } else {
                "refused"
            };
            let lost = if failure == Failure::LostAnswer {
                "none"
            } else {
                "half of it"
            };
            report.row(&[
                "SQLite, one process".to_owned(),
                lost.to_owned(),
                words.to_owned(),
                first.status.to_string(),
                again.status.to_string(),
                format!("`{told}`"),
            ]);
            let survived = match policy {
                OldToken::Honour => again.status == 200,
                _ => again.status == 424,
            };
            report.claim(
                &format!("answer lost ({lost}), old token {words}: {wanted} is what it is called"),
                first.status == 502 && survived && told == wanted,
            );
        }
    }
    stage.strike().await
}

/// A random time within [`SPREAD`].
fn moment(ambient: &Ambient) -> Duration {
    let micros = u64::try_from(SPREAD.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(ambient.entropy.below(micros))
}
