//! `patchbay connections`: what they are and how they were kept alive. Credentials are never printed.

use anyhow::bail;
use patchbay_connections::{connections, refresh};
use patchbay_types::connections::{Connection, ConnectionFilter, ConnectionSummary, RefreshCause};
use patchbay_types::environments::Environment;
use patchbay_types::refreshes::RefreshEvent;
use serde::Serialize;

use super::Exit;
use super::admin::{Admin, optional_time, time};
use super::args::{ConnectionsAction, Format};
use super::output::Output;

const FAILING: &str = "failing";

#[derive(Serialize)]
struct Row {
    environment: String,
    integration: String,
    provider: String,
    connection_id: String,
    state: &'static str,
    created_at: String,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    row: Row,
    type_of_credentials: Option<String>,
    expires_at: Option<String>,
    last_refresh_success: Option<String>,
    last_refresh_failure: Option<String>,
    days_with_refusals: i32,
    given_up: bool,
    /// No refresh before this unless forced.
    pause_until: Option<String>,
    timeline: Vec<RefreshEvent>,
}

pub(super) async fn run(
    admin: &Admin,
    action: &ConnectionsAction,
    format: Format,
    out: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    match action {
        ConnectionsAction::List {
            env,
            integration,
            failing,
            limit,
        } => {
            let filter = ConnectionFilter {
                integration_keys: integration.clone().map(|key| vec![key]),
                limit: u32::from(*limit),
                ..ConnectionFilter::default()
            };
            let found = find(admin, env.as_deref(), &filter).await?;
            let mut rows: Vec<Row> = found
                .iter()
                .map(|(environment, summary)| row(environment, summary))
                .collect();
            if *failing {
                rows.retain(|row| row.state == FAILING);
            }
            list(&rows, format, out)?;
        }
        ConnectionsAction::Show { id, env, integration } => {
            let filter = ConnectionFilter {
                connection_id: Some(id.clone()),
                integration_keys: integration.clone().map(|key| vec![key]),
                limit: 1000,
                ..ConnectionFilter::default()
            };
            let found = find(admin, env.as_deref(), &filter).await?;
            if found.is_empty() {
                bail!("there is no connection {id}; `patchbay connections list` shows them");
            }
            let mut all = Vec::new();
            for (environment, summary) in &found {
                all.extend(shown(admin, environment, summary).await?);
            }
            if format.json {
                out.json(&all)?;
            } else {
                for shown in &all {
                    show(shown, out)?;
                }
            }
        }
    }
    Ok(Exit::Done)
}

async fn find(
    admin: &Admin,
    env: Option<&str>,
    filter: &ConnectionFilter,
) -> anyhow::Result<Vec<(Environment, ConnectionSummary)>> {
    let environments = match env {
        Some(name) => vec![admin.environment(name).await?],
        None => admin.environments().await?,
    };
    let mut found = Vec::new();
    for environment in environments {
        for summary in connections::list(&admin.context, environment.id, filter.clone()).await? {
            found.push((environment.clone(), summary));
        }
    }
    Ok(found)
}

fn row(environment: &Environment, summary: &ConnectionSummary) -> Row {
    Row {
        environment: environment.name.to_string(),
        integration: summary.integration_key.to_string(),
        provider: summary.provider.to_string(),
        connection_id: summary.connection_id.to_string(),
        state: if summary.errors.is_empty() { "ok" } else { FAILING },
        created_at: time(summary.created_at),
    }
}

fn list(rows: &[Row], format: Format, out: &mut Output<'_>) -> anyhow::Result<()> {
    let columns = [
        "ENVIRONMENT",
        "INTEGRATION",
        "CONNECTION",
        "PROVIDER",
        "STATE",
        "MADE (UTC)",
    ];
    let cells = |row: &Row| {
        vec![
            row.environment.clone(),
            row.integration.clone(),
            row.connection_id.clone(),
            row.provider.clone(),
            row.state.to_owned(),
            row.created_at.clone(),
        ]
    };
    Ok(out.table(format, rows, &columns, cells, "There is no connection.")?)
}

/// None if it was deleted a moment ago.
async fn shown(
    admin: &Admin,
    environment: &Environment,
    summary: &ConnectionSummary,
) -> anyhow::Result<Option<Shown>> {
    let Some(connection) = connections::by_row(&admin.context, summary.id).await? else {
        return Ok(None);
    };
    let timeline = refresh::timeline(&admin.context, summary.id).await?;
    let Connection {
        credentials, refresh, ..
    } = connection;
    Ok(Some(Shown {
        row: row(environment, summary),
        type_of_credentials: credentials.kind().map(str::to_owned),
        expires_at: credentials.expires_at().map(time),
        last_refresh_success: refresh.last_success.map(time),
        last_refresh_failure: refresh.last_failure.map(time),
        days_with_refusals: refresh.attempts,
        given_up: refresh.exhausted,
        pause_until: refresh.not_before.filter(|end| *end > admin.now()).map(time),
        timeline,
    }))
}

fn show(shown: &Shown, out: &mut Output<'_>) -> anyhow::Result<()> {
    let row = &shown.row;
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| optional_time(None));
    out.line(format!(
        "{} of {} ({}), environment {}: {}",
        row.connection_id, row.integration, row.provider, row.environment, row.state
    ))?;
    out.line(format!(
        "credentials {}, end {} UTC; made {} UTC",
        or_none(&shown.type_of_credentials),
        or_none(&shown.expires_at),
        row.created_at
    ))?;
    if shown.given_up {
        out.line("refused on four days and given up: the end user must connect again")?;
    }
    if let Some(end) = &shown.pause_until {
        out.line(format!("no refresh before {end} UTC unless forced"))?;
    }
    if shown.timeline.is_empty() {
        out.line("never refreshed")?;
    }
    for event in &shown.timeline {
        let outcome = event.cause.map_or("ok", RefreshCause::as_str);
        let detail = event.detail.as_deref().map(|detail| format!(": {detail}"));
        out.line(format!(
            "  {} UTC, {}: {outcome}{}",
            time(event.at),
            event.reason.as_str(),
            detail.unwrap_or_default()
        ))?;
    }
    Ok(())
}
