//! `patchbay doctor`: looks for what is wrong with a set-up, touching nothing.

use std::fmt;

use patchbay_ambient::Ambient;
use patchbay_catalog::{Catalogue, Origin, Severity};
use patchbay_store::{Migrations, Store, deliveries};
use serde::Serialize;
use url::{Host, Url};

use super::Exit;
use super::args::Format;
use super::output::Output;
use crate::config::{Config, Database, PrivateNetworks};
use crate::datadir;
use crate::house;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Problem,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "PROBLEM",
        })
    }
}

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    says: String,
    /// What to do about it.
    fix: Option<String>,
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &'static str, says: impl Into<String>) {
        self.add(check, Verdict::Ok, says, None);
    }

    fn warn(&mut self, check: &'static str, says: impl Into<String>, fix: &str) {
        self.add(check, Verdict::Warning, says, Some(fix));
    }

    fn problem(&mut self, check: &'static str, says: impl Into<String>, fix: Option<&str>) {
        self.add(check, Verdict::Problem, says, fix);
    }

    fn add(&mut self, check: &'static str, verdict: Verdict, says: impl Into<String>, fix: Option<&str>) {
        self.0.push(Finding {
            check,
            verdict,
            says: says.into(),
            fix: fix.map(str::to_owned),
        });
    }
}

pub(super) async fn run(config: &Config, format: Format, out: &mut Output<'_>) -> anyhow::Result<Exit> {
    let mut findings = Findings::default();
    settings(config, &mut findings);
    files(config, &mut findings);
    catalogue(config, &mut findings);
    if let Err(error) = house::trust(config) {
        findings.problem("certificates", error.to_string(), None);
    }
    if let Some(store) = database(config, &mut findings).await {
        outbox(&store, &mut findings).await;
        store.close().await;
    }
    let bad = findings
        .0
        .iter()
        .any(|finding| finding.verdict == Verdict::Problem);
    if format.json {
        out.json(&findings.0)?;
    } else {
        for finding in &findings.0 {
            out.line(format!(
                "{:8} {:13} {}",
                finding.verdict.to_string(),
                finding.check,
                finding.says
            ))?;
            if let Some(fix) = &finding.fix {
                out.line(format!("{:22} fix: {fix}", ""))?;
            }
        }
    }
    Ok(if bad { Exit::Findings } else { Exit::Done })
}

fn settings(config: &Config, findings: &mut Findings) {
    for warning in &config.warnings {
        findings.warn("settings", warning, "correct the name, or remove the variable");
    }
    match &config.server.public_url {
        Some(url) if url.scheme() == "http" && !is_local(url) => findings.warn(
            "public_url",
            format!("{url} is not https: providers refuse such callbacks, and keys travel in the open"),
            "put a proxy with TLS in front (docs/operate/reverse-proxy.md) and set the https URL",
        ),
        Some(url) => findings.ok("public_url", url.as_str()),
        None => findings.warn(
            "public_url",
            "not set: callbacks and links point to localhost",
            "set it to the URL under which browsers reach this server",
        ),
    }
    let open = ["0.0.0.0", "::"].contains(&config.server.listen.host.as_str());
    if open && config.server.trusted_proxies.is_empty() && config.server.public_url.is_some() {
        findings.warn(
            "proxies",
            "the server listens on every address and trusts no proxy: behind one, every client has its address",
            "set trusted_proxies to the proxy's address",
        );
    }
    if config.outbound.allow_private_networks == PrivateNetworks::AllowPrivate {
        findings.warn(
            "networks",
            "every private network is open to proxied requests",
            "name the ranges that are needed in allow_private_networks",
        );
    }
}

fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn files(config: &Config, findings: &mut Findings) {
    let directory = &config.storage.data_dir;
    if directory.is_dir() {
        findings.ok("data_dir", directory.display().to_string());
    } else {
        findings.warn(
            "data_dir",
            format!("{} does not exist", directory.display()),
            "start the server once, or name the directory it uses",
        );
    }
    for path in datadir::exposed(&config.storage, &config.encryption) {
        findings.warn(
            "permissions",
            format!("other users of this machine may read {}", path.display()),
            "chmod go= it",
        );
    }
}

fn catalogue(config: &Config, findings: &mut Findings) {
    let (catalogue, found) = Catalogue::load(&house::catalogue_sources(config));
    let errors = found
        .iter()
        .filter(|finding| finding.severity == Severity::Error && finding.origin != Origin::BuiltIn)
        .count();
    match errors {
        0 => findings.ok("catalogue", format!("{} providers", catalogue.len())),
        _ => findings.problem(
            "catalogue",
            format!("{errors} definitions of your files cannot be used"),
            Some("`patchbay catalog check` says where and why"),
        ),
    }
}

async fn database(config: &Config, findings: &mut Findings) -> Option<Store> {
    let ring = match house::existing_ring(config) {
        Ok(ring) => ring,
        Err(error @ house::HouseError::NoDatabase(_)) => {
            findings.warn("database", error.to_string(), "start the server once");
            return None;
        }
        Err(error) => {
            findings.problem("encryption", error.to_string(), None);
            return None;
        }
    };
    let settings = house::store_config(config, &ring, Migrations::Leave);
    let store = match Store::open(settings, Ambient::system()).await {
        Ok(store) => store,
        Err(error) => {
            findings.problem("database", error.to_string(), None);
            return None;
        }
    };
    let kind = match &config.storage.database {
        Database::Sqlite(path) => format!("SQLite, {}", path.display()),
        Database::Postgres(_) => "Postgres".to_owned(),
    };
    match store.pending().await {
        Ok(pending) if pending.is_empty() => findings.ok("database", format!("{kind}, schema up to date")),
        Ok(pending) => findings.problem(
            "database",
            format!("{kind}, {} migrations behind", pending.len()),
            Some("run `patchbay migrate`, or restart the server"),
        ),
        Err(error) => findings.problem("database", error.to_string(), None),
    }
    findings.ok("encryption", format!("{} keys fit the database", ring.keys.len()));
    Some(store)
}

async fn outbox(store: &Store, findings: &mut Findings) {
    let stats = store.read(|tx| Box::pin(deliveries::stats(tx))).await;
    match stats {
        Ok(stats) if stats.dead > 0 => findings.warn(
            "webhooks",
            format!(
                "{} deliveries were given up, {} are waiting",
                stats.dead, stats.pending
            ),
            "`patchbay deliveries list --status dead`, then `patchbay deliveries retry`",
        ),
        Ok(stats) => findings.ok("webhooks", format!("{} deliveries are waiting", stats.pending)),
        // A database that is behind has been reported already.
        Err(_) => {}
    }
}
