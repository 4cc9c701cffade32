use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio_postgres::Client;

use super::super::DbError;
use super::session::{failure, unpooled};
use super::url::Target;

/// How long a transaction waits for a connection before the database counts as unavailable.
const WAIT: Duration = Duration::from_secs(5);

/// A pool that connects when first used.
pub(super) fn build(target: &Target, connections: usize) -> Result<Pool, String> {
    // A closed connection is noticed without a query; a transaction that finds one broken takes another.
    let recycling = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = Manager::from_config(target.config.clone(), target.tls.clone(), recycling);
    Pool::builder(manager)
        .max_size(connections.max(2))
        .wait_timeout(Some(WAIT))
        .create_timeout(Some(WAIT))
        .recycle_timeout(Some(WAIT))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| error.to_string())
}

/// Whether a pooler in transaction mode sits in between: while one connection holds a transaction open, does
/// another meet the same server process, or a different one than it met before?
pub(super) async fn is_pooled(pool: &Pool) -> Result<bool, DbError> {
    let first = pool.get().await.map_err(|error| unpooled(&error))?;
    let second = pool.get().await.map_err(|error| unpooled(&error))?;
    let before = process(&first).await?;
    second
        .batch_execute("BEGIN")
        .await
        .map_err(|error| failure(&error))?;
    let held = process(&second).await;
    // Behind a pooler with a single server connection this would wait for ever, but then `held` has told already.
    let after = match &held {
        Ok(held) if *held == before => Ok(before),
        _ => process(&first).await,
    };
    let ended = second
        .batch_execute("ROLLBACK")
        .await
        .map_err(|error| failure(&error));
    let (held, after) = (held?, after?);
    ended?;
    Ok(held == before || after != before)
}

async fn process(client: &Client) -> Result<i32, DbError> {
    let rows = client
        .query_typed("SELECT pg_backend_pid()", &[])
        .await
        .map_err(|error| failure(&error))?;
    let row = rows
        .first()
        .ok_or_else(|| DbError::internal("pg_backend_pid() answered nothing"))?;
    row.try_get(0).map_err(|error| failure(&error))
}
