//! How the databases go about the list: asked of themselves, on some thousand rows.

use patchbay_ambient::Entropy as _;
use patchbay_types::connections::ConnectionFilter;
use patchbay_types::{EnvironmentId, IntegrationId, Tags};

use super::{Choice, Query};
use crate::Store;
use crate::columns::{Binds, params};
use crate::db::{DbError, Dialect, Row, Value};

const ROWS: i64 = 20_000;

/// An environment with connections of four integrations, one tag on every, one on each hundredth.
async fn fill(store: &Store) -> EnvironmentId {
    let uuid = patchbay_ambient::SystemEntropy.uuid().to_string();
    store
        .write(move |tx| {
            Box::pin(async move {
                let account = crate::accounts::ensure_default(tx, uuid::Uuid::nil()).await?;
                let environment: EnvironmentId = tx
                    .query_one(
                        "INSERT INTO environment (uuid, account_id, name, is_production, settings, signing_key,
                           created_at)
                         VALUES ($1, $2, 'dev', 0, $3, $3, 1) RETURNING id",
                        &params![uuid, account, Vec::<u8>::new()],
                    )
                    .await?
                    .get(0)?;
                let mut first: Option<i64> = None;
                for key in ["a", "b", "c", "d"] {
                    let row = tx
                        .query_one(
                            "INSERT INTO integration (environment_id, unique_key, provider, forward_webhooks, secrets,
                               created_at, updated_at)
                             VALUES ($1, $2, 'github', 1, $3, 1, 1) RETURNING id",
                            &params![environment, key, Vec::<u8>::new()],
                        )
                        .await?;
                    first = first.or(Some(row.get(0)?));
                }
                let numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)";
                tx.execute(
                    &format!(
                        "{numbers} INSERT INTO end_user (environment_id, end_user_id, organization_id, search,
                           created_at, updated_at)
                         SELECT $2, 'u' || i, 'u' || (i % 50), 'u', 1, 1 FROM n"
                    ),
                    &params![ROWS / 10, environment],
                )
                .await?;
                tx.execute(
                    &format!(
                        "{numbers} INSERT INTO connection (environment_id, integration_id, connection_id, credentials,
                           connection_config, tags, generation, refresh_attempts, refresh_exhausted, last_fetched_at,
                           search, created_at, updated_at)
                         SELECT $2, $3 + i % 4, 'c' || i, $4, $4, '{{}}', 1, 0, 0, i, 'c' || i, i, i FROM n"
                    ),
                    &params![ROWS, environment, first, Vec::<u8>::new()],
                )
                .await?;
                for (key, every) in [("all", 1_i64), ("some", 100), ("end_user_id", 1000), ("organization_id", 500)] {
                    tx.execute(
                        "INSERT INTO connection_tag (connection, key, value, environment_id, created_at)
                         SELECT id, $1, 'u7', environment_id, created_at FROM connection WHERE id % $2 = 0",
                        &params![key, every],
                    )
                    .await?;
                }
                tx.execute(
                    "UPDATE connection SET end_user = (SELECT MIN(id) FROM end_user) + id % 2000 WHERE id % 3 = 0",
                    &[],
                )
                .await?;
                tx.execute(
                    "INSERT INTO connection_error (connection, kind, subject, log_id, created_at)
                     SELECT id, 'auth', '', 'op', 1 FROM connection WHERE id % 7 = 0",
                    &[],
                )
                .await?;
                tx.execute("ANALYZE", &[]).await?;
                Ok::<_, DbError>(environment)
            })
        })
        .await
        .unwrap()
}

/// The plan of a statement, its placeholders replaced by their values: Postgres plans for those.
async fn plan(store: &Store, sql: &str, values: &[Value]) -> String {
    let mut literal = sql.to_owned();
    for (index, value) in values.iter().enumerate().rev() {
        let text = match value {
            Value::Int(int) => int.to_string(),
            Value::Text(text) => format!("'{}'", text.replace('\'', "''")),
            other => panic!("{} has no literal here", other.kind()),
        };
        literal = literal.replace(&format!("${}", index + 1), &text);
    }
    let (explain, column) = match store.dialect() {
        Dialect::Sqlite => ("EXPLAIN QUERY PLAN", 3),
        Dialect::Postgres => ("EXPLAIN", 0),
    };
    let statement = format!("{explain} {literal}");
    let rows: Vec<Row> = store
        .read(move |tx| Box::pin(async move { tx.query(&statement, &[]).await }))
        .await
        .unwrap();
    rows.iter()
        .map(|row| row.get::<String>(column).unwrap())
        .collect::<Vec<_>>()
        .join("\n")
}

/// No table is read from end to end, and no stream is sorted.
fn assert_walks_indexes(dialect: Dialect, plan: &str, what: &str) {
    for line in plan.lines().map(str::trim) {
        let scans_table = match dialect {
            // A scan of anything but the page, its merged streams or a stream's own rows.
            Dialect::Sqlite => {
                line.starts_with("SCAN")
                    && !["SCAN k", "SCAN m", "SCAN s0", "SCAN s1", "SCAN s2"]
                        .iter()
                        .any(|own| line.starts_with(own))
            }
            Dialect::Postgres => {
                line.contains("Seq Scan on connection ") || line.contains("Seq Scan on connection_tag")
            }
        };
        assert!(!scans_table, "{what}: {line}\n{plan}");
    }
}

crate::both_backends! {
    async fn a_page_reads_what_it_shows_whatever_the_filters(db: TestDb) {
        let store = db.store().await;
        let environment = fill(&store).await;
        let tags = |keys: &[&str]| {
            let object = keys.iter().map(|key| ((*key).to_owned(), "u7".into())).collect();
            Tags::parse(&object).unwrap()
        };
        let base = ConnectionFilter { limit: 100, ..Default::default() };
        let text = |text: &str| Some(text.to_owned());
        let integrations = |ids: &[i64]| Some(ids.iter().copied().map(IntegrationId).collect());
        for (what, filter, keys, choice) in [
            ("everything", base.clone(), None, Choice::Other),
            ("one tag", ConnectionFilter { tags: tags(&["some"]), ..base.clone() }, None, Choice::Tag(0)),
            (
                "two tags",
                ConnectionFilter { tags: tags(&["all", "some"]), ..base.clone() },
                None,
                Choice::Tag(1),
            ),
            (
                "two tags in a window",
                ConnectionFilter { tags: tags(&["all", "some"]), ..base.clone() },
                None,
                Choice::Newest(0),
            ),
            (
                "a connection id",
                ConnectionFilter { connection_id: text("c77"), ..base.clone() },
                None,
                Choice::Other,
            ),
            (
                "an end user",
                ConnectionFilter { end_user_id: text("u7"), ..base.clone() },
                None,
                Choice::Other,
            ),
            (
                "an organization and a tag",
                ConnectionFilter { organization_id: text("u7"), tags: tags(&["some"]), ..base.clone() },
                None,
                Choice::Tag(0),
            ),
            (
                "an organization",
                ConnectionFilter { organization_id: text("u7"), ..base.clone() },
                None,
                Choice::Other,
            ),
            ("an integration", base.clone(), integrations(&[1]), Choice::Other),
            ("two integrations", base.clone(), integrations(&[1, 2]), Choice::Other),
            ("a search", ConnectionFilter { search: text("c1"), ..base.clone() }, None, Choice::Other),
        ] {
            let query = Query { environment, filter: &filter, integrations: keys };
            let mut binds = Binds::default();
            let sql = query.sql(store.dialect(), choice, &mut binds);
            let plan = plan(&store, &sql, binds.values()).await;
            assert_walks_indexes(store.dialect(), &plan, what);
            // A stream comes sorted; only merged ones, already cut to the page, and the few of one id are sorted.
            let sorts = plan.contains("USE TEMP B-TREE FOR");
            let few = plan.contains("MERGE (UNION)") || filter.connection_id.is_some();
            assert!(!sorts || few, "{what}\n{plan}");
        }
    }
}
