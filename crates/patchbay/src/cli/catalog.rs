//! `patchbay catalog`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::bail;
use patchbay_catalog::diff::{self, Difference};
use patchbay_catalog::{Catalogue, Finding, Origin, Severity, Source, check};
use serde::Serialize;
use serde_json::{Value, json};

use super::Exit;
use super::args::{CatalogAction, Format};
use super::output::Output;
use crate::config::Config;
use crate::house;

#[derive(Serialize)]
struct Row {
    name: String,
    display_name: Option<String>,
    auth_mode: String,
    from: String,
}

pub(super) fn run(
    config: &Config,
    action: &CatalogAction,
    format: Format,
    out: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    match action {
        CatalogAction::Check { paths } => self::check(config, paths, format, out),
        CatalogAction::List { search } => list(config, search.as_deref(), format, out),
        CatalogAction::Show { provider } => show(config, provider, out),
        CatalogAction::Diff { paths, whole } => {
            let other = if *whole { Other::Whole } else { Other::Overlay };
            diff(config, paths, other, format, out)
        }
    }
}

fn sources(config: &Config, paths: &[PathBuf]) -> Vec<Source> {
    if paths.is_empty() {
        return house::catalogue_sources(config);
    }
    // With the embedded ones, because definitions may be aliases of them.
    std::iter::once(Source::BuiltIn)
        .chain(paths.iter().cloned().map(Source::Path))
        .collect()
}

fn check(config: &Config, paths: &[PathBuf], format: Format, out: &mut Output<'_>) -> anyhow::Result<Exit> {
    let sources = sources(config, paths);
    let mut findings = check::check(&sources);
    if !paths.is_empty() {
        findings.retain(|finding| finding.origin != Origin::BuiltIn);
    }
    let (catalogue, _) = Catalogue::load(&sources);
    if format.json {
        let findings: Vec<_> = findings.iter().map(finding_json).collect();
        let modes: BTreeMap<&str, usize> = by_auth_mode(&catalogue).into_iter().collect();
        out.json(&json!({ "providers": catalogue.len(), "auth_modes": modes, "findings": findings }))?;
    } else {
        for finding in &findings {
            out.line(finding.to_string())?;
        }
        let errors = findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
            .count();
        out.line(format!(
            "{} providers can be used; {errors} errors, {} warnings.",
            catalogue.len(),
            findings.len() - errors
        ))?;
        let modes: Vec<String> = by_auth_mode(&catalogue)
            .into_iter()
            .map(|(mode, count)| format!("{mode} {count}"))
            .collect();
        out.line(format!("By auth mode: {}.", modes.join(", ")))?;
    }
    Ok(if findings.is_empty() {
        Exit::Done
    } else {
        Exit::Findings
    })
}

/// How many providers there are of each mode, the most used first.
fn by_auth_mode(catalogue: &Catalogue) -> Vec<(&'static str, usize)> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for provider in catalogue {
        *counts.entry(provider.definition.auth_mode.as_str()).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| Reverse(*count));
    counts
}

fn finding_json(finding: &Finding) -> serde_json::Value {
    json!({
        "severity": finding.severity.to_string(), "rule": finding.rule, "origin": finding.origin.to_string(),
        "line": finding.line, "column": finding.column, "provider": finding.provider, "path": finding.path,
        "message": finding.message, "suggestion": finding.suggestion,
    })
}

fn list(config: &Config, search: Option<&str>, format: Format, out: &mut Output<'_>) -> anyhow::Result<Exit> {
    let (catalogue, _) = Catalogue::load(&house::catalogue_sources(config));
    let wanted = search.unwrap_or_default().to_lowercase();
    let rows: Vec<Row> = catalogue
        .iter()
        .map(|provider| {
            let text = |key: &str| {
                provider
                    .wire
                    .get(key)
                    .and_then(|value| value.as_str())
                    .map(str::to_owned)
            };
            Row {
                name: provider.name.clone(),
                display_name: text("display_name"),
                auth_mode: text("auth_mode").unwrap_or_default(),
                from: provider.origin.to_string(),
            }
        })
        .filter(|row| {
            let display_name = row.display_name.as_deref().unwrap_or_default().to_lowercase();
            row.name.to_lowercase().contains(&wanted) || display_name.contains(&wanted)
        })
        .collect();
    let cells = |row: &Row| {
        vec![
            row.name.clone(),
            row.display_name.clone().unwrap_or_default(),
            row.auth_mode.clone(),
            row.from.clone(),
        ]
    };
    out.table(
        format,
        &rows,
        &["PROVIDER", "NAME", "AUTH MODE", "FROM"],
        cells,
        "No such provider.",
    )?;
    Ok(Exit::Done)
}

fn show(config: &Config, provider: &str, out: &mut Output<'_>) -> anyhow::Result<Exit> {
    let (catalogue, _) = Catalogue::load(&house::catalogue_sources(config));
    let Some(found) = catalogue.get(provider) else {
        match catalogue.nearest(provider) {
            Some(near) => bail!("there is no provider `{provider}`; did you mean `{near}`?"),
            None => bail!("there is no provider `{provider}`; `patchbay catalog list` shows them"),
        }
    };
    out.json(&found.wire)?;
    Ok(Exit::Done)
}

/// What the embedded catalogue is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Other {
    /// Itself with the files over it, as a server would load them.
    Overlay,
    /// The files alone.
    Whole,
}

/// A provider that is not the same in both.
#[derive(Serialize)]
struct Compared {
    provider: String,
    change: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    values: Vec<Changed>,
    from: String,
}

/// A value that is not the same in both; null on the side that lacks it.
#[derive(Serialize)]
struct Changed {
    path: String,
    before: Value,
    after: Value,
}

fn diff(
    config: &Config,
    paths: &[PathBuf],
    other: Other,
    format: Format,
    out: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let mut sources = sources(config, paths);
    if other == Other::Whole {
        sources.retain(|source| !matches!(source, Source::BuiltIn));
    }
    let built_in = Catalogue::built_in();
    let (catalogue, findings) = Catalogue::load(&sources);
    let rows: Vec<Compared> = diff::diff(&built_in, &catalogue)
        .into_iter()
        .map(|difference| row(difference, &catalogue))
        .collect();
    let cells = |row: &Compared| {
        let paths: Vec<&str> = row.values.iter().map(|value| value.path.as_str()).collect();
        vec![
            row.provider.clone(),
            row.change.to_owned(),
            row.from.clone(),
            paths.join(" "),
        ]
    };
    let columns = ["PROVIDER", "CHANGE", "FROM", "VALUES"];
    out.table(
        format,
        &rows,
        &columns,
        cells,
        "The embedded catalogue is unchanged.",
    )?;
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    if errors > 0 && !format.json {
        out.line(format!(
            "{errors} entries could not be used: `patchbay catalog check` says why."
        ))?;
    }
    Ok(Exit::Done)
}

fn row(difference: Difference, after: &Catalogue) -> Compared {
    let (provider, change, values) = match difference {
        Difference::Added(provider) => (provider, "added", Vec::new()),
        Difference::Removed(provider) => (provider, "missing", Vec::new()),
        Difference::Changed { provider, values } => (provider, "changed", values),
    };
    let origin = after
        .get(&provider)
        .map_or(&Origin::BuiltIn, |found| &found.origin);
    Compared {
        change,
        from: origin.to_string(),
        provider,
        values: values
            .into_iter()
            .map(|value| Changed {
                path: value.path,
                before: value.before.unwrap_or_default(),
                after: value.after.unwrap_or_default(),
            })
            .collect(),
    }
}
