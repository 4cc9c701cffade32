//! Many connections expire at once, each with many readers, over two processes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::time::Instant;

use super::Setting;
use super::stage::{MAILBOX, Stage, Topology, read_request, tally, token_of};
use crate::report::Report;
use crate::wire::{Answer, Wire};

/// Imports at once, before the storm.
const IMPORTERS: usize = 8;
/// Crowds at once in a full run, if this process may open so many sockets.
const CROWDS: usize = 100;
/// Files that this process needs besides the readers' sockets: the provider's end of the token requests and webhooks.
const OTHER_FILES: usize = 1000;
/// Longest the imports' webhooks may take.
const CALM: Duration = Duration::from_mins(10);

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Report> {
    let connections = setting.size.pick(24, 10_000);
    let readers = setting.size.pick(6, 50);
    let crowds = setting.size.pick(8, crowds_that_fit(readers)?);
    let mut report = Report::new(
        "Proof: a storm of expiring connections",
        &format!(
            "{connections} connections, all with access tokens that have ended, over two processes that share one \
             Postgres. Each is read by {readers} readers at once, half of them through either process, each on a \
             socket of its own. {} sockets are in use at any time, as many as fit: {crowds} crowds of {readers}, each \
             of which goes on to the next connection when all its readers have their answers. A reader's time runs \
             from writing its request to having read its answer. Servers, Postgres, the provider and the readers \
             share the machine.",
            crowds * readers
        ),
    );
    let stage = Stage::set(setting, Topology::PostgresTwice).await?;
    let names: Arc<Vec<String>> =
        Arc::new((0..connections).map(|number| format!("storm-{number}")).collect());
    let refresh_tokens: Vec<String> = futures_util::stream::iter(names.iter())
        .map(|name| stage.expired(name))
        .buffer_unordered(IMPORTERS)
        .try_collect()
        .await?;
    // What the imports caused is over before the storm begins.
    let told = stage.sample.wait_for_received(MAILBOX, connections);
    tokio::time::timeout(CALM, told)
        .await
        .context("the webhooks of the imports did not arrive")?;

    let mut crowd = Crowds::assemble(&stage, crowds, readers).await?;
    let storm = crowd.read(&stage, &names).await?;
    let requests = stage.sample.counts().token_refresh;
    let calm = crowd.read(&stage, &names).await?;
    drop(crowd);

    let mut asked: HashMap<String, u32> = HashMap::new();
    for request in stage.sample.token_requests() {
        let token = request.parameter("refresh_token").unwrap_or_default().to_owned();
        *asked.entry(token).or_default() += 1;
    }
    let once = refresh_tokens
        .iter()
        .filter(|token| asked.get(*token) == Some(&1))
        .count();
    report.section("Figures");
    report.head(&[
        "",
        "reads",
        "answers",
        "token requests",
        "connections asked about exactly once",
        "time",
        "reads a second",
        "p50",
        "p99",
        "slowest",
    ]);
    report.row(&storm.row("the storm", requests, &once.to_string()));
    report.row(&calm.row(
        "the same again, nothing expired",
        stage.sample.counts().token_refresh - requests,
        "–",
    ));
    let expected = u64::try_from(connections)?;
    report.claim(
        "exactly one token request a connection, counted at the provider",
        once == connections && requests == expected,
    );
    report.claim(
        "every read was answered with its connection's one new token",
        storm.all_agreed() && storm.reads() == connections * readers,
    );
    report.claim(
        "afterwards nobody asks again",
        calm.all_agreed() && stage.sample.counts().token_refresh == expected,
    );
    stage.strike().await?;
    Ok(report)
}

/// A socket a reader, within what the system lets one process open; the servers share the other ends.
fn crowds_that_fit(readers: usize) -> anyhow::Result<usize> {
    let Some(files) = crate::process::open_files() else {
        return Ok(CROWDS);
    };
    let fit = files.saturating_sub(OTHER_FILES) / readers;
    anyhow::ensure!(
        fit > 0,
        "{files} open files are too few: raise the limit (ulimit -n 20000)"
    );
    Ok(fit.min(CROWDS))
}

/// Readers with their sockets.
struct Crowds(Vec<Vec<Wire>>);

/// What reading came to.
#[derive(Default)]
struct Readings {
    times: Vec<Duration>,
    answers: BTreeMap<String, usize>,
    /// Crowds whose readers did not all get one and the same token.
    disagreed: usize,
    took: Duration,
}

impl Crowds {
    async fn assemble(stage: &Stage, crowds: usize, readers: usize) -> anyhow::Result<Self> {
        let mut all = Vec::with_capacity(crowds);
        for _ in 0..crowds {
            let mut wires = Vec::with_capacity(readers);
            for reader in 0..readers {
                wires.push(Wire::connect(stage.address(reader)).await?);
            }
            all.push(wires);
        }
        Ok(Self(all))
    }

    /// Every connection, by one crowd each.
    async fn read(&mut self, stage: &Stage, names: &Arc<Vec<String>>) -> anyhow::Result<Readings> {
        let next = Arc::new(AtomicUsize::new(0));
        let began = Instant::now();
        let mut tasks = Vec::new();
        for mut wires in std::mem::take(&mut self.0) {
            let (next, names) = (next.clone(), names.clone());
            tasks.push(stage.ambient.tasks.spawn(async move {
                let mut readings = Readings::default();
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let request = read_request(name);
                    let answered = try_join_all(wires.iter_mut().map(|wire| one(wire, &request))).await?;
                    readings.add(answered);
                }
                anyhow::Ok((wires, readings))
            }));
        }
        let mut all = Readings::default();
        for task in tasks {
            let (wires, readings) = task.await??;
            self.0.push(wires);
            all.merge(readings);
        }
        all.took = began.elapsed();
        all.times.sort_unstable();
        Ok(all)
    }
}

async fn one(wire: &mut Wire, request: &[u8]) -> anyhow::Result<(Answer, Duration)> {
    let began = Instant::now();
    wire.send(request).await?;
    let answer = wire.answer().await.context("a reader got no answer")?;
    Ok((answer, began.elapsed()))
}

impl Readings {
    fn add(&mut self, answered: Vec<(Answer, Duration)>) {
        let (answers, times): (Vec<Answer>, Vec<Duration>) = answered.into_iter().unzip();
        self.times.extend(times);
        *self.answers.entry(kind(&answers)).or_default() += answers.len();
        let first = answers.first().and_then(token);
        let agreed = first.is_some() && answers.iter().all(|answer| token(answer) == first);
        self.disagreed += usize::from(!agreed);
    }

    fn merge(&mut self, other: Self) {
        self.times.extend(other.times);
        for (kind, count) in other.answers {
            *self.answers.entry(kind).or_default() += count;
        }
        self.disagreed += other.disagreed;
    }

    fn reads(&self) -> usize {
        self.times.len()
    }

    fn all_agreed(&self) -> bool {
        self.disagreed == 0
    }

    /// The time within which so many of a hundred were answered. [`Crowds::read`] has sorted them.
    fn percentile(&self, percent: usize) -> Duration {
        let last = self.times.len().saturating_sub(1);
        self.times.get(last * percent / 100).copied().unwrap_or_default()
    }

    fn row(&self, words: &str, requests: u64, once: &str) -> Vec<String> {
        let answers: Vec<String> = self
            .answers
            .iter()
            .map(|(kind, count)| format!("{count} × {kind}"))
            .collect();
        let rate = u128::try_from(self.reads()).unwrap_or(u128::MAX) * 1000 / self.took.as_millis().max(1);
        vec![
            words.to_owned(),
            self.reads().to_string(),
            answers.join(", "),
            requests.to_string(),
            once.to_owned(),
            format!("{:.1} s", self.took.as_secs_f64()),
            rate.to_string(),
            millis(self.percentile(50)),
            millis(self.percentile(99)),
            millis(self.percentile(100)),
        ]
    }
}

fn millis(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

/// A crowd's answers, in words: one status where they agree.
fn kind(answers: &[Answer]) -> String {
    match answers.first() {
        Some(first) if answers.iter().all(|answer| answer.status == 200) => first.status.to_string(),
        _ => tally(answers),
    }
}

/// The access token of an answer of 200, without parsing half a million bodies.
fn token(answer: &Answer) -> Option<String> {
    const MARK: &[u8] = b"\"access_token\":\"";
    if answer.status != 200 {
        return None;
    }
    let at = answer.body.windows(MARK.len()).position(|window| window == MARK);
    let Some(at) = at else { return token_of(answer) };
    let rest = &answer.body[at + MARK.len()..];
    let end = rest.iter().position(|byte| *byte == b'"')?;
    String::from_utf8(rest[..end].to_vec()).ok()
}
