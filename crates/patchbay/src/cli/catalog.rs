//! `patchbay catalog`.

use std::path::PathBuf;

use anyhow::bail;
use patchbay_catalog::{Catalogue, Finding, Origin, Severity, Source, check};
use serde::Serialize;
use serde_json::json;

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
        CatalogAction::Diff { paths } => diff(config, paths, format, out),
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
        out.json(&json!({ "providers": catalogue.len(), "findings": findings }))?;
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
    }
    Ok(if findings.is_empty() {
        Exit::Done
    } else {
        Exit::Findings
    })
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

/// A provider that the operator's files add or change.
#[derive(Serialize)]
struct Difference {
    provider: String,
    change: &'static str,
    keys: Vec<String>,
    from: String,
}

fn diff(config: &Config, paths: &[PathBuf], format: Format, out: &mut Output<'_>) -> anyhow::Result<Exit> {
    let built_in = Catalogue::built_in();
    let (catalogue, findings) = Catalogue::load(&sources(config, paths));
    let rows: Vec<Difference> = catalogue
        .iter()
        .filter_map(|provider| {
            let (change, keys) = match built_in.get(&provider.name) {
                None => ("added", Vec::new()),
                Some(before) => {
                    let keys: Vec<String> = before
                        .wire
                        .keys()
                        .chain(provider.wire.keys().filter(|key| !before.wire.contains_key(*key)))
                        .filter(|key| before.wire.get(*key) != provider.wire.get(*key))
                        .cloned()
                        .collect();
                    ("changed", keys)
                }
            };
            (change == "added" || !keys.is_empty()).then(|| Difference {
                provider: provider.name.clone(),
                change,
                keys,
                from: provider.origin.to_string(),
            })
        })
        .collect();
    let cells = |row: &Difference| {
        vec![
            row.provider.clone(),
            row.change.to_owned(),
            row.keys.join(" "),
            row.from.clone(),
        ]
    };
    let columns = ["PROVIDER", "CHANGE", "KEYS", "FROM"];
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
