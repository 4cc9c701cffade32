//! `patchbay config`.

use std::io;

use super::Exit;
use super::args::{ConfigAction, ConfigCheck};
use super::output::Output;
use crate::config::{Config, Problems, reference};

pub(super) fn run(action: &ConfigAction, out: &mut Output<'_>) -> io::Result<Exit> {
    match action {
        ConfigAction::Default => out.text(&reference::default_file())?,
        ConfigAction::Schema => out.json(&reference::json_schema())?,
        ConfigAction::Check(check) => return self::check(check, out),
    }
    Ok(Exit::Done)
}

fn check(check: &ConfigCheck, out: &mut Output<'_>) -> io::Result<Exit> {
    match check.settings.0.load() {
        Ok(config) if check.format.json => {
            out.json(&serde_json::json!({
                "problems": [],
                "warnings": config.warnings,
                "settings": config.effective,
                "environments": config.environments.keys().collect::<Vec<_>>(),
            }))?;
            Ok(Exit::Done)
        }
        Ok(config) => print(&config, check, out),
        Err(problems) if check.format.json => {
            out.json(&serde_json::json!({ "problems": problems }))?;
            Ok(Exit::Configuration)
        }
        Err(problems) => {
            report(&problems, out)?;
            Ok(Exit::Configuration)
        }
    }
}

fn print(config: &Config, check: &ConfigCheck, out: &mut Output<'_>) -> io::Result<Exit> {
    let cells = |effective: &crate::config::Effective| {
        vec![
            effective.key.clone(),
            effective.value.clone().unwrap_or_else(|| "–".to_owned()),
            effective.origin.to_string(),
        ]
    };
    out.table(
        check.format,
        &config.effective,
        &["SETTING", "VALUE", "FROM"],
        cells,
        "",
    )?;
    for (name, environment) in &config.environments {
        let key = if environment.api_key.is_some() {
            ", API key fixed"
        } else {
            ""
        };
        out.line(format!("\nenvironment {name}: configured{key}"))?;
    }
    for warning in &config.warnings {
        out.line(format!("\nwarning: {warning}"))?;
    }
    out.line("\nNo problems.")?;
    Ok(Exit::Done)
}

pub(super) fn report(problems: &Problems, out: &mut Output<'_>) -> io::Result<()> {
    out.line(format!("patchbay: {problems}"))
}
