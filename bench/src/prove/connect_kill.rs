//! kill -9 at random points while connections are made: what was acknowledged exists, and its webhook arrives.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _};
use patchbay_sample::SampleHandle;
use serde_json::{Value, json};
use url::Url;

use super::Setting;
use super::stage::{SAMPLE, Stage, Topology, call, path_of};
use crate::report::Report;
use crate::wire::{Answer, Wire, request};

const CLIENTS: usize = 6;

/// An acknowledged connection: how it was made, and the tags it must have.
#[derive(Clone, Debug)]
struct Acknowledged {
    id: String,
    tags: Value,
    by_popup: bool,
}

pub(super) async fn run(setting: &Setting) -> anyhow::Result<Report> {
    let wanted = setting.size.pick(12, 500);
    let mut report = Report::new(
        "Proof: what was acknowledged outlives kills",
        "Six clients make connections without pause, every other one by the import API and through the popup flow \
         (connect session, redirect, the sample provider's consent, callback), while the server is killed with \
         SIGKILL at random moments and started again. A connection counts as acknowledged when the import answered \
         201, or the callback's page said success. Afterwards each must exist with its tags, and its `auth` webhook \
         must have arrived, once or more.",
    );
    report.section("Figures");
    report.head(&[
        "",
        "acknowledged (imports, popups)",
        "attempts cut off",
        "kills",
        "missing",
        "wrong tags",
        "without webhook",
        "webhooks seen more than once",
    ]);
    // Waiting for a dead process's deliveries takes longest, so small runs go side by side.
    let topologies = futures_util::stream::iter([Topology::Sqlite, Topology::Postgres])
        .map(|topology| one(setting, topology, wanted))
        .buffered(setting.size.pick(2, 1));
    let tallies: Vec<Tally> = topologies.try_collect().await?;
    for tally in tallies {
        tally.tell(&mut report, wanted);
    }
    Ok(report)
}

/// What became of what was acknowledged.
#[derive(Debug)]
struct Tally {
    topology: Topology,
    acknowledged: usize,
    popups: usize,
    cut: usize,
    kills: usize,
    missing: usize,
    wrong: usize,
    silent: usize,
    repeated: usize,
}

impl Tally {
    fn tell(&self, report: &mut Report, wanted: usize) {
        let words = self.topology.words();
        report.row(&[
            words.to_owned(),
            format!(
                "{} ({}, {})",
                self.acknowledged,
                self.acknowledged - self.popups,
                self.popups
            ),
            self.cut.to_string(),
            self.kills.to_string(),
            self.missing.to_string(),
            self.wrong.to_string(),
            self.silent.to_string(),
            self.repeated.to_string(),
        ]);
        report.claim(
            &format!("{words}: at least {wanted} acknowledged, both ways, the server killed meanwhile"),
            self.acknowledged >= wanted
                && self.popups > 0
                && self.popups < self.acknowledged
                && self.kills > 0,
        );
        report.claim(
            &format!("{words}: every acknowledged connection exists with its tags"),
            self.missing == 0 && self.wrong == 0,
        );
        report.claim(
            &format!("{words}: the webhook of each arrived at least once"),
            self.silent == 0,
        );
    }
}

async fn one(setting: &Setting, topology: Topology, wanted: usize) -> anyhow::Result<Tally> {
    let mut stage = Stage::set(setting, topology).await?;
    let done = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let maker = Maker {
            server: stage.address(0),
            sample: stage.sample.clone(),
            done: done.clone(),
            wanted,
            client,
        };
        clients.push(stage.ambient.tasks.spawn(maker.run()));
    }
    let mut kills = 0;
    while done.load(Ordering::Relaxed) < wanted {
        let pause = Duration::from_millis(20 + stage.ambient.entropy.below(380));
        tokio::time::sleep(pause).await;
        stage.kill(0).await?;
        kills += 1;
        stage.start(0).await?;
    }
    let (mut acknowledged, mut cut) = (Vec::new(), 0);
    for client in clients {
        let made = client.await??;
        acknowledged.extend(made.acknowledged);
        cut += made.cut;
    }
    let (mut missing, mut wrong) = (0, 0);
    for made in &acknowledged {
        let answer = call(stage.address(0), "GET", &path_of(&made.id), None).await?;
        if answer.status != 200 {
            missing += 1;
        } else if answer.json()?["tags"] != made.tags {
            wrong += 1;
        }
    }
    let told = |hooks: &HashMap<String, Vec<Value>>, made: &Acknowledged| {
        let mine = hooks.get(&made.id).map(Vec::as_slice).unwrap_or_default();
        mine.iter()
            .filter(|hook| hook["type"] == "auth" && hook["success"] == true && hook["tags"] == made.tags)
            .count()
    };
    stage
        .webhooks_satisfy(Duration::from_mins(3), |hooks| {
            acknowledged.iter().all(|made| told(hooks, made) > 0)
        })
        .await?;
    let hooks = stage.webhooks()?;
    let silent = acknowledged.iter().filter(|made| told(&hooks, made) == 0).count();
    let repeated = acknowledged.iter().filter(|made| told(&hooks, made) > 1).count();
    let popups = acknowledged.iter().filter(|made| made.by_popup).count();
    stage.strike().await?;
    Ok(Tally {
        topology,
        acknowledged: acknowledged.len(),
        popups,
        cut,
        kills,
        missing,
        wrong,
        silent,
        repeated,
    })
}

/// One client.
struct Maker {
    server: SocketAddr,
    sample: SampleHandle,
    done: Arc<AtomicUsize>,
    wanted: usize,
    client: usize,
}

#[derive(Debug, Default)]
struct Made {
    acknowledged: Vec<Acknowledged>,
    cut: usize,
}

impl Maker {
    async fn run(self) -> anyhow::Result<Made> {
        let mut made = Made::default();
        let mut number = 0;
        while self.done.load(Ordering::Relaxed) < self.wanted {
            number += 1;
            let name = format!("{}-{number}", self.client);
            let attempt = if number % 2 == 0 {
                self.import(&name).await
            } else {
                self.popup(&name).await
            };
            match attempt {
                Ok(acknowledged) => {
                    made.acknowledged.push(acknowledged);
                    self.done.fetch_add(1, Ordering::Relaxed);
                }
                // The server is down or went down: the client never heard, and nothing was promised.
                Err(error) if error.chain().any(<dyn std::error::Error>::is::<std::io::Error>) => {
                    made.cut += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(made)
    }

    async fn import(&self, name: &str) -> anyhow::Result<Acknowledged> {
        let id = format!("import-{name}");
        let tags = json!({ "end_user_id": format!("user-{name}"), "kind": "import" });
        let issued = self.sample.issue("read");
        let body = json!({
            "provider_config_key": SAMPLE,
            "connection_id": id,
            "credentials": {
                "type": "OAUTH2",
                "access_token": issued["access_token"],
                "refresh_token": issued["refresh_token"],
            },
            "tags": tags,
        });
        let answer = call(self.server, "POST", "/connections", Some(&body)).await?;
        ensure!(answer.status == 201, "import: {answer:?}");
        Ok(Acknowledged {
            id,
            tags,
            by_popup: false,
        })
    }

    async fn popup(&self, name: &str) -> anyhow::Result<Acknowledged> {
        let tags = json!({ "end_user_id": format!("user-{name}"), "kind": "popup" });
        let body = json!({ "tags": tags });
        let answer = call(self.server, "POST", "/connect/sessions", Some(&body)).await?;
        ensure!(answer.status == 201, "session: {answer:?}");
        let session = answer.json()?;
        let token = session["data"]["token"].as_str().context("a session's token")?;
        let begin = format!("/oauth/connect/{SAMPLE}?connect_session_token={token}");
        let redirected = browse(self.server, &begin, &BTreeMap::new()).await?;
        ensure!(redirected.status == 302, "popup: {redirected:?}");
        let cookies = cookies(&redirected);
        let provider = Url::parse(redirected.header("location").context("a location")?)?;
        let consent = browse(address_of(&provider)?, &target_of(&provider), &BTreeMap::new()).await?;
        ensure!(consent.status == 302, "consent: {consent:?}");
        let callback = Url::parse(consent.header("location").context("a location")?)?;
        let page = browse(self.server, &target_of(&callback), &cookies).await?;
        let text = String::from_utf8_lossy(&page.body);
        if page.status == 400 && text.contains("state_err") || page.status == 503 {
            // The attempt was taken by a process that died: the person starts again.
            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
        }
        ensure!(
            page.status == 200 && text.contains("nango_oauth_callback_success"),
            "callback: {} {text}",
            page.status
        );
        // The page does not say which connection it made; its tag does.
        let list = format!("/connections?tags%5Bend_user_id%5D=user-{name}");
        let listed = loop {
            match call(self.server, "GET", &list, None).await {
                Ok(answer) if answer.status == 200 => break answer.json()?,
                Ok(answer) => anyhow::bail!("list: {answer:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        // Missing already is missing: an id that no look-up finds says so in the report.
        let id = listed["connections"][0]["connection_id"]
            .as_str()
            .unwrap_or("lost-popup")
            .to_owned();
        Ok(Acknowledged {
            id,
            tags,
            by_popup: true,
        })
    }
}

async fn browse(
    address: SocketAddr,
    target: &str,
    cookies: &BTreeMap<String, String>,
) -> anyhow::Result<Answer> {
    let mut headers = vec!["Accept: text/html".to_owned()];
    if !cookies.is_empty() {
        let pairs: Vec<String> = cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        headers.push(format!("Cookie: {}", pairs.join("; ")));
    }
    let mut wire = Wire::connect(address).await?;
    wire.send(&request("GET", target, &address.to_string(), &headers, b""))
        .await?;
    Ok(wire.answer().await?)
}

fn cookies(answer: &Answer) -> BTreeMap<String, String> {
    let lines = answer.head.lines().filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("set-cookie").then_some(value)
    });
    lines
        .filter_map(|line| line.split(';').next()?.trim().split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn address_of(url: &Url) -> anyhow::Result<SocketAddr> {
    let host = url.host_str().context("a host")?;
    Ok(format!("{host}:{}", url.port().context("a port")?).parse()?)
}

fn target_of(url: &Url) -> String {
    match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    }
}
