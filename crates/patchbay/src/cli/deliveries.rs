//! `patchbay deliveries`.

use anyhow::bail;
use patchbay_store::db::{DbError, Notice, Topic};
use patchbay_store::deliveries;
use patchbay_types::DeliveryId;
use patchbay_types::deliveries::{Delivery, DeliveryFilter, DeliveryStatus};
use serde::Serialize;

use super::Exit;
use super::admin::{Admin, time};
use super::args::{DeliveriesAction, Format, Retry};
use super::output::Output;

#[derive(Serialize)]
struct Row {
    id: String,
    environment: String,
    kind: String,
    url: String,
    status: &'static str,
    attempts: i32,
    last_status: Option<i32>,
    last_error: Option<String>,
    next_attempt_at: Option<String>,
    created_at: String,
}

pub(super) async fn run(
    admin: &Admin,
    action: &DeliveriesAction,
    format: Format,
    out: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    match action {
        DeliveriesAction::List { env, status, limit } => {
            let filter = DeliveryFilter {
                environment_id: admin.environment_id(env.as_deref()).await?,
                status: status.map(Into::into),
                limit: u32::from(*limit),
                ..DeliveryFilter::default()
            };
            list(admin, filter, format, out).await?;
        }
        DeliveriesAction::Show { id } => show(admin, id, format, out).await?,
        DeliveriesAction::Retry(which) => retry(admin, which, out).await?,
    }
    Ok(Exit::Done)
}

async fn list(
    admin: &Admin,
    filter: DeliveryFilter,
    format: Format,
    out: &mut Output<'_>,
) -> anyhow::Result<()> {
    let store = &admin.context.store;
    let found = store
        .read(move |tx| Box::pin(async move { deliveries::list(tx, &filter).await }))
        .await
        .map_err(db)?;
    let names = admin.environments().await?;
    let name = |delivery: &Delivery| {
        let found = names
            .iter()
            .find(|environment| environment.id == delivery.environment_id);
        found.map_or_else(
            || "deleted".to_owned(),
            |environment| environment.name.to_string(),
        )
    };
    let rows: Vec<Row> = found
        .into_iter()
        .map(|delivery| row(name(&delivery), delivery))
        .collect();
    let columns = [
        "ID",
        "ENVIRONMENT",
        "KIND",
        "STATUS",
        "ATTEMPTS",
        "LAST",
        "NEXT (UTC)",
        "TO",
    ];
    let cells = |row: &Row| {
        let last = match (row.last_status, &row.last_error) {
            (Some(status), _) => status.to_string(),
            (None, Some(error)) => error.clone(),
            (None, None) => "–".to_owned(),
        };
        vec![
            row.id.clone(),
            row.environment.clone(),
            row.kind.clone(),
            row.status.to_owned(),
            row.attempts.to_string(),
            last,
            row.next_attempt_at.clone().unwrap_or_else(|| "–".to_owned()),
            row.url.clone(),
        ]
    };
    Ok(out.table(format, &rows, &columns, cells, "There is no delivery.")?)
}

fn row(environment: String, delivery: Delivery) -> Row {
    let pending = delivery.status == DeliveryStatus::Pending;
    Row {
        id: delivery.id.0,
        environment,
        kind: delivery.kind,
        url: delivery.url,
        status: delivery.status.as_str(),
        attempts: delivery.attempts,
        last_status: delivery.last_status,
        last_error: delivery.last_error,
        next_attempt_at: pending.then(|| time(delivery.next_attempt_at)),
        created_at: time(delivery.created_at),
    }
}

async fn show(admin: &Admin, id: &str, format: Format, out: &mut Output<'_>) -> anyhow::Result<()> {
    let wanted = DeliveryId(id.to_owned());
    let store = &admin.context.store;
    let found = store
        .read(move |tx| Box::pin(async move { deliveries::get(tx, &wanted).await }))
        .await
        .map_err(db)?;
    let Some((delivery, attempts)) = found else {
        bail!("there is no delivery {id}; `patchbay deliveries list` shows them");
    };
    let body = delivery.body.clone();
    let names = admin.environments().await?;
    let name = names
        .iter()
        .find(|environment| environment.id == delivery.environment_id);
    let name = name.map_or_else(
        || "deleted".to_owned(),
        |environment| environment.name.to_string(),
    );
    let row = row(name, delivery);
    if format.json {
        let attempts: Vec<_> = attempts
            .iter()
            .map(|attempt| {
                serde_json::json!({
                    "number": attempt.number, "at": attempt.at.to_string(), "status": attempt.status,
                    "error": attempt.error, "duration_ms": attempt.duration_ms,
                })
            })
            .collect();
        out.json(&serde_json::json!({ "delivery": row, "attempts": attempts, "body": body }))?;
        return Ok(());
    }
    out.line(format!(
        "{} ({}, {}) to {}",
        row.id, row.kind, row.status, row.url
    ))?;
    out.line(format!(
        "environment {}, made {} UTC",
        row.environment, row.created_at
    ))?;
    if let Some(next) = &row.next_attempt_at {
        out.line(format!("next attempt {next} UTC"))?;
    }
    for attempt in &attempts {
        let result = match (attempt.status, &attempt.error) {
            (Some(status), None) => format!("answered {status}"),
            (Some(status), Some(error)) => format!("answered {status}: {error}"),
            (None, Some(error)) => error.clone(),
            (None, None) => "no answer".to_owned(),
        };
        let (number, at, took) = (attempt.number, time(attempt.at), attempt.duration_ms);
        out.line(format!("  attempt {number}, {at} UTC, {took} ms: {result}"))?;
    }
    out.line("")?;
    out.line(body)?;
    Ok(())
}

async fn retry(admin: &Admin, which: &Retry, out: &mut Output<'_>) -> anyhow::Result<()> {
    let store = &admin.context.store;
    if which.dead {
        let filter = DeliveryFilter {
            environment_id: admin.environment_id(which.env.as_deref()).await?,
            ..DeliveryFilter::default()
        };
        let count = store
            .write(move |tx| {
                Box::pin(async move {
                    let count = deliveries::retry_dead(tx, &filter).await?;
                    tx.notify(Notice::new(Topic::Deliveries, ""));
                    Ok(count)
                })
            })
            .await
            .map_err(db)?;
        out.line(format!("{count} deliveries are sent again."))?;
        return Ok(());
    }
    for id in &which.ids {
        let wanted = DeliveryId(id.clone());
        let found = store
            .write(move |tx| {
                Box::pin(async move {
                    let found = deliveries::retry(tx, &wanted).await?;
                    tx.notify(Notice::new(Topic::Deliveries, &wanted));
                    Ok(found)
                })
            })
            .await
            .map_err(db)?;
        if !found {
            bail!("there is no delivery {id}; `patchbay deliveries list` shows them");
        }
        out.line(format!("{id} is sent again."))?;
    }
    Ok(())
}

fn db(error: DbError) -> anyhow::Error {
    error.into()
}
