//! The list of connections with all its filters (api-core §9.1).
//!
//! A page must cost the same with a thousand connections as with a million, on both databases and whatever their
//! statistics say. So the statement itself says how to go about it: one or more *streams*, each an index walked
//! newest first whose entries are checked against all other filters, merged and cut to the page; only the page's
//! rows are then looked up whole. The stream is chosen here:
//!
//! 1. an exact connection id,
//! 2. an end-user id (its tag, and the deprecated row),
//! 3. the rarest tag,
//! 4. an organization id (as 2),
//! 5. a few integrations,
//! 6. everything in the environment.
//!
//! Checks are scalar subqueries by primary key, `(SELECT 1 …) IS NOT NULL`, because neither database turns those into
//! joins of its own choosing, as it may an `EXISTS`.
//!
//! The rarest of several tags is found by counting index entries up to a small cap. If every tag is frequent, a
//! window of the newest entries of one usually fills the page; only if it does not, the caps are raised.

#[cfg(test)]
mod plans;

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

use patchbay_types::connections::{ConnectionError, ConnectionFilter, ConnectionSummary};
use patchbay_types::{
    ConnectionId, ConnectionRowId, EndUserId, EnvironmentId, IntegrationId, IntegrationKey, JsonMap,
    ProviderName, Tags, Timestamp,
};

use super::CHUNK;
use super::rows::read_error;
use crate::columns::{Binds, Columns, padded, search_pattern, text};
use crate::db::{DbError, Dialect, Row, Tx, Value};
use crate::end_users;

/// A tag with fewer connections is walked without further thought.
const RARE: i64 = 256;
/// How many entries of a frequent tag are walked before the tags are counted further.
const WINDOW: u64 = 1024;
/// How far frequent tags are counted to find the rarest.
const COUNTED: i64 = 16_384;
/// Up to so many integrations are walked one by one; more are filtered out of the whole environment.
const MAX_INTEGRATION_STREAMS: usize = 8;

/// The live connections of an environment that pass every given filter, newest first (`created_at`, then the row),
/// without credentials.
pub async fn list(
    tx: &mut Tx,
    environment: EnvironmentId,
    filter: &ConnectionFilter,
) -> Result<Vec<ConnectionSummary>, DbError> {
    let integrations = match &filter.integration_keys {
        Some(keys) => Some(integration_ids(tx, environment, keys).await?),
        None => None,
    };
    if integrations.as_ref().is_some_and(Vec::is_empty) || filter.limit == 0 {
        return Ok(Vec::new());
    }
    let query = Query {
        environment,
        filter,
        integrations,
    };
    if filter.connection_id.is_some() || filter.end_user_id.is_some() || filter.tags.is_empty() {
        return query.run(tx, Choice::Other).await;
    }
    let tags: Vec<(&str, &str)> = filter.tags.iter().collect();
    if tags.len() == 1 {
        return query.run(tx, Choice::Tag(0)).await;
    }
    let (rarest, count) = rarest_tag(tx, environment, &tags, RARE).await?;
    if count < RARE {
        return query.run(tx, Choice::Tag(rarest)).await;
    }
    let reach = filter.offset.saturating_add(u64::from(filter.limit));
    if reach <= WINDOW / 2 {
        let page = query.run(tx, Choice::Newest(rarest)).await?;
        if page.len() >= usize::try_from(filter.limit).unwrap_or(usize::MAX) {
            return Ok(page);
        }
    }
    let (rarest, _) = rarest_tag(tx, environment, &tags, COUNTED).await?;
    query.run(tx, Choice::Tag(rarest)).await
}

/// Which stream to walk where there is a choice.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// That of the tag with this index.
    Tag(usize),
    /// The same, no further than its newest [`WINDOW`] entries.
    Newest(usize),
    /// None of a tag.
    Other,
}

impl Choice {
    fn tag(self) -> Option<usize> {
        match self {
            Self::Tag(index) | Self::Newest(index) => Some(index),
            Self::Other => None,
        }
    }
}

#[derive(Debug)]
struct Query<'a> {
    environment: EnvironmentId,
    filter: &'a ConnectionFilter,
    integrations: Option<Vec<IntegrationId>>,
}

/// An index walked newest first: `SELECT {id}, {created_at} FROM {from} WHERE {conditions}`.
#[derive(Debug)]
struct Stream {
    from: &'static str,
    id: &'static str,
    created_at: &'static str,
    conditions: Vec<String>,
}

impl Stream {
    fn of_connections(condition: String) -> Self {
        let live = "c.deleted_at IS NULL".to_owned();
        Self {
            from: "connection c",
            id: "c.id",
            created_at: "c.created_at",
            conditions: vec![condition, live],
        }
    }

    // A CROSS JOIN is never reordered by SQLite: the index named first is the one that is walked.
    fn of_tag(conditions: String, needs_connection: bool) -> Self {
        let mut stream = Self {
            from: "connection_tag t",
            id: "t.connection",
            created_at: "t.created_at",
            conditions: vec![conditions],
        };
        if needs_connection {
            stream.from = "connection_tag t CROSS JOIN connection c";
            stream
                .conditions
                .push("c.id = t.connection AND c.deleted_at IS NULL".to_owned());
        }
        stream
    }

    fn of_end_users(condition: String) -> Self {
        Self {
            from: "end_user s CROSS JOIN connection c",
            id: "c.id",
            created_at: "c.created_at",
            conditions: vec![condition, "c.end_user = s.id AND c.deleted_at IS NULL".to_owned()],
        }
    }
}

impl Query<'_> {
    async fn run(&self, tx: &mut Tx, choice: Choice) -> Result<Vec<ConnectionSummary>, DbError> {
        let mut binds = Binds::default();
        let sql = self.sql(tx.dialect(), choice, &mut binds);
        let rows = tx.query(&sql, binds.values()).await?;
        let mut found: Vec<Found> = rows.iter().map(Found::read).collect::<Result<_, _>>()?;
        // Nearly in order already; the statement's own sorting would carry every column through it.
        found.sort_by(Found::newest_first);
        let integrations = distinct(found.iter().map(|row| row.integration));
        let integrations = integrations_of(tx, &integrations).await?;
        let end_users = distinct(found.iter().filter_map(|row| row.end_user));
        let end_users = end_users::find_all(tx, &end_users).await?;

        let mut page: Vec<ConnectionSummary> = Vec::with_capacity(found.len());
        for row in found {
            // A connection with several failures comes in as many rows, one after the other.
            if let Some(last) = page.last_mut().filter(|last| last.id == row.id) {
                last.errors.extend(row.error);
                continue;
            }
            // Gone meanwhile: Postgres shows each statement the latest.
            let Some((integration_key, provider)) = integrations.get(&row.integration) else {
                continue;
            };
            page.push(ConnectionSummary {
                id: row.id,
                connection_id: row.connection_id,
                integration_key: integration_key.clone(),
                provider: provider.clone(),
                errors: row.error.into_iter().collect(),
                end_user: row.end_user.and_then(|id| end_users.get(&id)).cloned(),
                tags: row.tags,
                metadata: row.metadata,
                created_at: row.created_at,
            });
        }
        Ok(page)
    }

    fn sql(&self, dialect: Dialect, choice: Choice, binds: &mut Binds) -> String {
        let environment = binds.bind(self.environment);
        let limit = binds.bind(i64::from(self.filter.limit));
        let offset = i64::try_from(self.filter.offset).unwrap_or(i64::MAX);
        let mut streams = self.streams(choice, &environment, binds);
        let page = if streams.len() == 1 {
            let stream = streams.remove(0);
            format!("{} LIMIT {limit} OFFSET {}", ordered(&stream), binds.bind(offset))
        } else {
            let reach = binds.bind(offset.saturating_add(i64::from(self.filter.limit)));
            let parts: Vec<String> = streams
                .iter()
                .enumerate()
                .map(|(n, stream)| {
                    format!(
                        "SELECT id, created_at FROM ({} LIMIT {reach}) s{n}",
                        ordered(stream)
                    )
                })
                .collect();
            format!(
                "SELECT id, created_at FROM ({}) m ORDER BY created_at DESC, id DESC LIMIT {limit} OFFSET {}",
                parts.join(" UNION "),
                binds.bind(offset)
            )
        };
        // The page's rows are looked up one by one; Postgres would read a table of some ten thousand rows instead.
        let connection = match dialect {
            Dialect::Sqlite => "connection c",
            Dialect::Postgres => "LATERAL (SELECT * FROM connection r WHERE r.id = k.id LIMIT 1) c",
        };
        // What many rows have in common is read apart, once.
        format!(
            "SELECT c.id, c.connection_id, c.integration_id, c.end_user, c.tags, c.metadata, c.created_at, \
               x.kind, x.log_id, x.subject \
             FROM ({page}) k CROSS JOIN {connection} LEFT JOIN connection_error x ON x.connection = c.id \
             WHERE c.id = k.id"
        )
    }

    /// The chosen streams, each with all filters on it.
    fn streams(&self, choice: Choice, environment: &str, binds: &mut Binds) -> Vec<Stream> {
        let filter = self.filter;
        let mut on_connection = Vec::new();
        if let Some(search) = &filter.search {
            let pattern = binds.bind(search_pattern(search));
            on_connection.push(format!(
                "(c.search LIKE {pattern} ESCAPE '!' OR (SELECT 1 FROM end_user p \
                   WHERE p.id = c.end_user AND p.search LIKE {pattern} ESCAPE '!') IS NOT NULL)"
            ));
        }
        let tags: Vec<Tag> = filter
            .tags
            .iter()
            .map(|(key, value)| Tag::new(key, value, binds))
            .collect();
        let end_user = filter
            .end_user_id
            .as_ref()
            .map(|id| Owner::new("end_user_id", id, binds));
        let organization = filter
            .organization_id
            .as_ref()
            .map(|id| Owner::new("organization_id", id, binds));
        for owner in [&end_user, &organization].into_iter().flatten() {
            on_connection.push(owner.on_connection());
        }

        let mut by_integration = false;
        let mut streams = if let Some(id) = &filter.connection_id {
            let id = binds.bind(text(id));
            vec![Stream::of_connections(format!(
                "c.environment_id = {environment} AND c.connection_id = {id}"
            ))]
        } else if let Some(owner) = &end_user {
            owner.streams(environment)
        } else if let Some(index) = choice.tag() {
            let alone = on_connection.is_empty() && self.integrations.is_none();
            let mut stream = Stream::of_tag(tags[index].on_tag(environment), !alone);
            if matches!(choice, Choice::Newest(_)) {
                stream.conditions.push(tags[index].in_window(environment));
            }
            vec![stream]
        } else if let Some(owner) = &organization {
            owner.streams(environment)
        } else if let Some(ids) = self
            .integrations
            .as_ref()
            .filter(|ids| ids.len() <= MAX_INTEGRATION_STREAMS)
        {
            by_integration = true;
            ids.iter()
                .map(|id| {
                    Stream::of_connections(format!(
                        "c.integration_id = {} AND +c.environment_id = {environment}",
                        binds.bind(id)
                    ))
                })
                .collect()
        } else {
            vec![Stream::of_connections(format!(
                "c.environment_id = {environment}"
            ))]
        };
        if let Some(ids) = self.integrations.as_ref().filter(|_| !by_integration) {
            // The plus keeps the index of integrations out of a plan that already has its index.
            on_connection.push(format!("+c.integration_id IN ({})", binds.list(padded(ids))));
        }
        for stream in &mut streams {
            stream.conditions.extend(on_connection.iter().cloned());
            for (index, tag) in tags.iter().enumerate() {
                if Some(index) != choice.tag() {
                    stream.conditions.push(tag.on_connection(stream.id));
                }
            }
        }
        streams
    }
}

/// A tag to be found, by its placeholders.
#[derive(Debug)]
struct Tag {
    key: String,
    value: String,
}

impl Tag {
    fn new(key: &str, value: &str, binds: &mut Binds) -> Self {
        Self {
            key: binds.bind(key),
            value: binds.bind(text(value)),
        }
    }

    fn on_tag(&self, environment: &str) -> String {
        format!(
            "t.environment_id = {environment} AND t.key = {} AND t.value = {}",
            self.key, self.value
        )
    }

    /// Not older than the last of the newest [`WINDOW`].
    fn in_window(&self, environment: &str) -> String {
        format!(
            "t.created_at >= COALESCE((SELECT w.created_at FROM connection_tag w \
             WHERE w.environment_id = {environment} AND w.key = {} AND w.value = {} \
             ORDER BY w.created_at DESC, w.connection DESC LIMIT 1 OFFSET {WINDOW}), {})",
            self.key,
            self.value,
            i64::MIN + 1
        )
    }

    fn on_connection(&self, id: &str) -> String {
        format!(
            "(SELECT 1 FROM connection_tag g \
              WHERE g.connection = {id} AND g.key = {} AND g.value = {}) IS NOT NULL",
            self.key, self.value
        )
    }
}

/// An end user or organization: a tag, or the deprecated row.
#[derive(Debug)]
struct Owner {
    tag: Tag,
    column: &'static str,
}

impl Owner {
    /// The tag and the row's column have the same name.
    fn new(name: &'static str, id: &str, binds: &mut Binds) -> Self {
        Self {
            tag: Tag::new(name, id, binds),
            column: name,
        }
    }

    fn streams(&self, environment: &str) -> Vec<Stream> {
        let (column, value) = (self.column, &self.tag.value);
        vec![
            Stream::of_tag(self.tag.on_tag(environment), true),
            Stream::of_end_users(format!(
                "s.environment_id = {environment} AND s.{column} = {value}"
            )),
        ]
    }

    fn on_connection(&self) -> String {
        format!(
            "({} OR (SELECT 1 FROM end_user o WHERE o.id = c.end_user AND o.{} = {}) IS NOT NULL)",
            self.tag.on_connection("c.id"),
            self.column,
            self.tag.value
        )
    }
}

fn ordered(stream: &Stream) -> String {
    let Stream {
        from,
        id,
        created_at,
        conditions,
    } = stream;
    format!(
        "SELECT {id} AS id, {created_at} AS created_at FROM {from} WHERE {} ORDER BY {created_at} DESC, {id} DESC",
        conditions.join(" AND ")
    )
}

async fn integration_ids(
    tx: &mut Tx,
    environment: EnvironmentId,
    keys: &[String],
) -> Result<Vec<IntegrationId>, DbError> {
    let mut ids = Vec::new();
    for keys in keys.chunks(CHUNK) {
        let keys: Vec<Value> = keys.iter().map(|key| text(key)).collect();
        let mut binds = Binds::default();
        let sql = format!(
            "SELECT id FROM integration WHERE environment_id = {} AND deleted_at IS NULL AND unique_key IN ({})",
            binds.bind(environment),
            binds.list(padded(&keys).cloned())
        );
        for row in tx.query(&sql, binds.values()).await? {
            ids.push(row.get(0)?);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// The tag with the fewest connections and how many, counted up to `cap`.
async fn rarest_tag(
    tx: &mut Tx,
    environment: EnvironmentId,
    tags: &[(&str, &str)],
    cap: i64,
) -> Result<(usize, i64), DbError> {
    let mut binds = Binds::default();
    let (environment, cap) = (binds.bind(environment), binds.bind(cap));
    let counts: Vec<String> = tags
        .iter()
        .map(|(key, value)| {
            format!(
                "(SELECT COUNT(*) FROM (SELECT 1 AS one FROM connection_tag \
                 WHERE environment_id = {environment} AND key = {} AND value = {} LIMIT {cap}) n)",
                binds.bind(*key),
                binds.bind(text(value))
            )
        })
        .collect();
    let row = tx
        .query_one(&format!("SELECT {}", counts.join(", ")), binds.values())
        .await?;
    let mut rarest = (0, i64::MAX);
    for index in 0..tags.len() {
        let count: i64 = row.get(index)?;
        if count < rarest.1 {
            rarest = (index, count);
        }
    }
    Ok(rarest)
}

/// The keys and providers of integrations.
async fn integrations_of(
    tx: &mut Tx,
    ids: &[IntegrationId],
) -> Result<HashMap<IntegrationId, (IntegrationKey, ProviderName)>, DbError> {
    let mut found = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(CHUNK) {
        let mut binds = Binds::default();
        let list = binds.list(padded(ids).copied());
        let sql = format!("SELECT id, unique_key, provider FROM integration WHERE id IN ({list})");
        for row in tx.query(&sql, binds.values()).await? {
            found.insert(row.get(0)?, (row.get(1)?, row.get(2)?));
        }
    }
    Ok(found)
}

fn distinct<T: Ord>(ids: impl Iterator<Item = T>) -> Vec<T> {
    let mut ids: Vec<T> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// A row of the page, with one failure at most.
#[derive(Debug)]
struct Found {
    id: ConnectionRowId,
    connection_id: ConnectionId,
    integration: IntegrationId,
    end_user: Option<EndUserId>,
    tags: Tags,
    metadata: Option<JsonMap>,
    created_at: Timestamp,
    error: Option<ConnectionError>,
    subject: Option<String>,
}

impl Found {
    fn read(row: &Row) -> Result<Self, DbError> {
        let mut columns = Columns::of(row);
        Ok(Self {
            id: columns.next()?,
            connection_id: columns.next()?,
            integration: columns.next()?,
            end_user: columns.next()?,
            tags: columns.json()?,
            metadata: columns.json_opt()?,
            created_at: columns.next()?,
            error: read_error(&mut columns)?,
            subject: columns.next()?,
        })
    }

    fn newest_first(&self, other: &Self) -> Ordering {
        let age = |row: &Self| Reverse((row.created_at, row.id));
        age(self).cmp(&age(other)).then_with(|| {
            let (mine, theirs) = (self.error.as_ref(), other.error.as_ref());
            let by_kind = mine
                .map(|error| &error.kind)
                .cmp(&theirs.map(|error| &error.kind));
            by_kind.then_with(|| self.subject.cmp(&other.subject))
        })
    }
}
