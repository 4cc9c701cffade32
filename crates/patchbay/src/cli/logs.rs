//! `patchbay logs`.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use anyhow::bail;
use patchbay_store::db::DbError;
use patchbay_store::{connections, integrations, operations};
use patchbay_types::operations::{Operation, OperationFilter, OperationOrder, OperationState};
use patchbay_types::{EnvironmentId, IntegrationId, IntegrationKey, OperationId};
use serde::Serialize;

use super::Exit;
use super::admin::{Admin, time};
use super::args::{Logs, State};
use super::output::Output;
use crate::config;

/// How often `--follow` looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Messages of one operation printed at most.
const MESSAGES: u32 = 1000;

#[derive(Serialize)]
struct Row {
    id: String,
    environment: String,
    #[serde(rename = "type")]
    kind: String,
    action: String,
    state: &'static str,
    integration: Option<String>,
    title: String,
    started_at: String,
    duration_ms: Option<i64>,
}

pub(super) async fn run(admin: &Admin, logs: &Logs, out: &mut Output<'_>) -> anyhow::Result<Exit> {
    if let Some(id) = &logs.operation {
        show(admin, id, logs, out).await?;
        return Ok(Exit::Done);
    }
    let filter = filter(admin, logs).await?;
    let mut names = Names::load(admin).await?;
    let mut found = list(admin, &filter).await?;
    let rows = names.rows(admin, &found).await?;
    if !logs.follow {
        let columns = [
            "STARTED (UTC)",
            "TYPE",
            "STATE",
            "MS",
            "ENVIRONMENT",
            "INTEGRATION",
            "WHAT",
            "ID",
        ];
        out.table(logs.format, &rows, &columns, cells, "Nothing has happened.")?;
        return Ok(Exit::Done);
    }
    let mut last = found.first().map(Operation::cursor);
    found.reverse();
    for row in rows.iter().rev() {
        line(row, logs, out)?;
    }
    loop {
        admin.ambient().clock.sleep(LOOK_EVERY).await;
        let next = OperationFilter {
            order: OperationOrder::OldestFirst,
            cursor: last.clone(),
            ..filter.clone()
        };
        let fresh = list(admin, &next).await?;
        for row in &names.rows(admin, &fresh).await? {
            line(row, logs, out)?;
        }
        last = fresh.last().map(Operation::cursor).or(last);
    }
}

async fn filter(admin: &Admin, logs: &Logs) -> anyhow::Result<OperationFilter> {
    let environment = admin.environment_id(logs.env.as_deref()).await?;
    let mut filter = OperationFilter {
        environment_id: environment,
        kinds: logs.kind.iter().cloned().collect(),
        states: logs.state.into_iter().map(state).collect(),
        limit: u32::from(logs.limit),
        ..OperationFilter::default()
    };
    if let Some(since) = &logs.since {
        let Ok(since) = config::duration(since) else {
            bail!("--since {since} is not a duration: write 15m, 2h or 3d");
        };
        filter.since = admin.now().checked_sub(since).ok();
    }
    if logs.integration.is_some() || logs.connection.is_some() {
        let Some(environment) = environment else {
            bail!("--integration and --connection need --env: their ids are unique within an environment");
        };
        subject(admin, environment, logs, &mut filter).await?;
    }
    Ok(filter)
}

async fn subject(
    admin: &Admin,
    environment: EnvironmentId,
    logs: &Logs,
    filter: &mut OperationFilter,
) -> anyhow::Result<()> {
    let Some(text) = &logs.integration else {
        bail!("--connection needs --integration: a connection's id is unique within its integration");
    };
    let Ok(key) = IntegrationKey::parse(text) else {
        bail!("`{text}` cannot be an integration's id");
    };
    let store = &admin.context.store;
    let integration = store
        .read(move |tx| {
            Box::pin(async move { integrations::find_by_key(tx, environment, key.as_str()).await })
        })
        .await
        .map_err(db)?;
    let Some(integration) = integration else {
        bail!("there is no integration `{text}` in that environment");
    };
    filter.integration = Some(integration.id);
    let Some(connection) = logs.connection.clone() else {
        return Ok(());
    };
    let Ok(id) = patchbay_types::ConnectionId::parse(&connection) else {
        bail!("`{connection}` cannot be a connection's id");
    };
    let row = store
        .read(move |tx| Box::pin(async move { connections::find_row(tx, integration.id, id.as_str()).await }))
        .await
        .map_err(db)?;
    match row {
        Some(row) => filter.connection = Some(row),
        None => bail!("there is no connection `{connection}` of that integration"),
    }
    Ok(())
}

async fn list(admin: &Admin, filter: &OperationFilter) -> anyhow::Result<Vec<Operation>> {
    let filter = filter.clone();
    let store = &admin.context.store;
    store
        .read(move |tx| Box::pin(async move { operations::list(tx, &filter).await }))
        .await
        .map_err(db)
}

async fn show(admin: &Admin, id: &str, logs: &Logs, out: &mut Output<'_>) -> anyhow::Result<()> {
    let wanted = OperationId(id.to_owned());
    let store = &admin.context.store;
    let found = store
        .read(move |tx| {
            Box::pin(async move {
                let Some(operation) = operations::get(tx, &wanted).await? else {
                    return Ok(None);
                };
                let messages = operations::messages(tx, &wanted, 0, MESSAGES).await?;
                Ok(Some((operation, messages)))
            })
        })
        .await
        .map_err(db)?;
    let Some((operation, messages)) = found else {
        bail!("there is no operation {id}; `patchbay logs` shows them");
    };
    let rows = Names::load(admin)
        .await?
        .rows(admin, std::slice::from_ref(&operation))
        .await?;
    if logs.format.json {
        let messages: Vec<_> = messages
            .iter()
            .map(|stored| {
                let message = &stored.message;
                serde_json::json!({
                    "at": message.at.to_string(), "level": message.level, "message": message.text,
                    "meta": message.meta,
                })
            })
            .collect();
        out.json(&serde_json::json!({ "operation": rows.first(), "messages": messages }))?;
        return Ok(());
    }
    for row in &rows {
        line(row, logs, out)?;
    }
    for stored in &messages {
        let message = &stored.message;
        out.line(format!(
            "  {} {:5} {}",
            time(message.at),
            message.level,
            message.text
        ))?;
        if let Some(meta) = &message.meta {
            out.line(format!("        {meta}"))?;
        }
    }
    Ok(())
}

/// Names of what operations refer to by number.
struct Names {
    environments: BTreeMap<EnvironmentId, String>,
    integrations: BTreeMap<IntegrationId, Option<String>>,
}

impl Names {
    async fn load(admin: &Admin) -> anyhow::Result<Self> {
        let environments = admin.environments().await?;
        Ok(Self {
            environments: environments
                .into_iter()
                .map(|environment| (environment.id, environment.name.to_string()))
                .collect(),
            integrations: BTreeMap::new(),
        })
    }

    async fn rows(&mut self, admin: &Admin, found: &[Operation]) -> anyhow::Result<Vec<Row>> {
        let mut rows = Vec::with_capacity(found.len());
        for operation in found {
            let integration = match operation.integration {
                Some(id) => self.integration(admin, id).await?,
                None => None,
            };
            rows.push(self.row(operation, integration));
        }
        Ok(rows)
    }

    async fn integration(&mut self, admin: &Admin, id: IntegrationId) -> anyhow::Result<Option<String>> {
        if let Some(name) = self.integrations.get(&id) {
            return Ok(name.clone());
        }
        let store = &admin.context.store;
        let found = store
            .read(move |tx| Box::pin(async move { integrations::find_by_id(tx, id).await }))
            .await
            .map_err(db)?;
        let name = found.map(|integration| integration.unique_key.to_string());
        self.integrations.insert(id, name.clone());
        Ok(name)
    }

    fn row(&self, operation: &Operation, integration: Option<String>) -> Row {
        let environment = self.environments.get(&operation.environment_id);
        let took = operation
            .ended_at
            .map(|end| end.duration_since(operation.started_at).as_millis());
        Row {
            id: operation.id.0.clone(),
            environment: environment.cloned().unwrap_or_else(|| "deleted".to_owned()),
            kind: operation.kind.clone(),
            action: operation.action.clone(),
            state: operation.state.as_str(),
            integration,
            title: operation.title.clone(),
            started_at: time(operation.started_at),
            duration_ms: took.and_then(|millis| i64::try_from(millis).ok()),
        }
    }
}

fn cells(row: &Row) -> Vec<String> {
    vec![
        row.started_at.clone(),
        format!("{}:{}", row.kind, row.action),
        row.state.to_owned(),
        row.duration_ms
            .map_or_else(|| "–".to_owned(), |millis| millis.to_string()),
        row.environment.clone(),
        row.integration.clone().unwrap_or_else(|| "–".to_owned()),
        row.title.clone(),
        row.id.clone(),
    ]
}

fn line(row: &Row, logs: &Logs, out: &mut Output<'_>) -> io::Result<()> {
    if logs.format.json {
        return out.line(serde_json::to_string(row)?);
    }
    out.line(cells(row).join("  "))
}

fn state(state: State) -> OperationState {
    match state {
        State::Running => OperationState::Running,
        State::Success => OperationState::Success,
        State::Failed => OperationState::Failed,
    }
}

fn db(error: DbError) -> anyhow::Error {
    error.into()
}
