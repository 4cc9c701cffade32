//! Provider definitions set while the server runs, every version of them.

use patchbay_types::{JsonMap, Timestamp};
use serde_json::Value as Json;

use crate::columns::params;
use crate::db::{DbError, Notice, Row, Topic, Tx};

/// Versions kept of a provider, the current one included.
pub const KEPT: i64 = 50;

/// One version of a definition.
#[derive(Clone, Debug, PartialEq)]
pub struct ProviderOverride {
    /// The provider's name.
    pub provider: String,
    /// Counts from 1, of each provider for itself.
    pub version: i64,
    /// The definition; none if this version removed it.
    pub definition: Option<JsonMap>,
    /// When it was set.
    pub created_at: Timestamp,
}

/// Adds a version, forgets those beyond [`KEPT`], and tells every node. Of two at once one fails with
/// [`DbError::Conflict`].
pub async fn append(
    tx: &mut Tx,
    provider: &str,
    definition: Option<&JsonMap>,
) -> Result<ProviderOverride, DbError> {
    let now = tx.now();
    let text = definition.map(|definition| Json::Object(definition.clone()).to_string());
    let row = tx
        .query_one(
            "INSERT INTO provider_override (provider, version, definition, created_at)
             SELECT $1, COALESCE(MAX(version), 0) + 1, $2, $3 FROM provider_override WHERE provider = $1
             RETURNING version",
            &params![provider, text, now],
        )
        .await?;
    let version: i64 = row.get(0)?;
    tx.execute(
        "DELETE FROM provider_override WHERE provider = $1 AND version <= $2",
        &params![provider, version - KEPT],
    )
    .await?;
    tx.notify(Notice::new(Topic::Providers, provider));
    Ok(ProviderOverride {
        provider: provider.to_owned(),
        version,
        definition: definition.cloned(),
        created_at: now,
    })
}

/// The current version of every provider, by name; removed ones left out.
pub async fn current(tx: &mut Tx) -> Result<Vec<ProviderOverride>, DbError> {
    let rows = tx
        .query(
            "SELECT provider, version, definition, created_at FROM provider_override AS newest
             WHERE definition IS NOT NULL AND version =
               (SELECT MAX(version) FROM provider_override WHERE provider = newest.provider)
             ORDER BY provider",
            &[],
        )
        .await?;
    rows.iter().map(read).collect()
}

/// Whether `provider` has a definition now: whether its newest version is none that removed it.
pub async fn is_set(tx: &mut Tx, provider: &str) -> Result<bool, DbError> {
    let rows = tx
        .query(
            "SELECT version FROM provider_override WHERE provider = $1 AND definition IS NOT NULL
             AND version = (SELECT MAX(version) FROM provider_override WHERE provider = $1)",
            &params![provider],
        )
        .await?;
    Ok(!rows.is_empty())
}

/// The versions of a provider, newest first.
pub async fn versions(tx: &mut Tx, provider: &str) -> Result<Vec<ProviderOverride>, DbError> {
    let rows = tx
        .query(
            "SELECT provider, version, definition, created_at FROM provider_override
             WHERE provider = $1 ORDER BY version DESC",
            &params![provider],
        )
        .await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<ProviderOverride, DbError> {
    let text: Option<String> = row.get(2)?;
    let definition = text
        .map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| DbError::internal(format!("a stored provider definition is no object: {error}")))?;
    Ok(ProviderOverride {
        provider: row.get(0)?,
        version: row.get(1)?,
        definition,
        created_at: row.get(3)?,
    })
}
