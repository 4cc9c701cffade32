use std::time::Duration;

use patchbay_store::db::Dialect;
use patchbay_store::retention::{self, Retention};
use patchbay_store::{
    api_keys, auth_attempts, auth_outcomes, connect_sessions, connections, deliveries, end_users,
    environments, integrations, leases, operations, refreshes,
};
use patchbay_types::api_keys::NewApiKey;
use patchbay_types::auth_attempts::AuthAttempt;
use patchbay_types::connect_sessions::{ConnectSessionSpec, NewConnectSession};
use patchbay_types::connections::{Change, ConnectionPatch};
use patchbay_types::deliveries::{Delivery, DeliveryStatus};
use patchbay_types::end_users::EndUserInput;
use patchbay_types::operations::{Message, Operation, OperationState};
use patchbay_types::refreshes::{RefreshEvent, RefreshReason};
use patchbay_types::{AuthAttemptId, AuthMode, DeliveryId, EnvironmentId, OperationId, ScopeSet, Timestamp};

use crate::world::{World, commit, hash, story};

const DAY: Duration = Duration::from_hours(24);

async fn sweep_all(world: &World, batch: u32) {
    loop {
        let swept = commit!(world, |tx| {
            retention::sweep(tx, &Retention::default(), batch).await?
        });
        if !swept.more {
            return;
        }
    }
}

fn delivery(environment_id: EnvironmentId, id: &str, status: DeliveryStatus, at: Timestamp) -> Delivery {
    Delivery {
        id: DeliveryId(id.into()),
        environment_id,
        connection: None,
        kind: "auth".into(),
        url: "https://x.example.com".into(),
        body: "{}".into(),
        operation_id: None,
        status,
        attempts: 1,
        next_attempt_at: at,
        last_status: None,
        last_error: None,
        created_at: at,
        finished_at: (status != DeliveryStatus::Pending).then_some(at),
    }
}

story! {
    async fn every_table_is_in_the_page(world) {
        let sql = match world.store.dialect() {
            Dialect::Sqlite => "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
            Dialect::Postgres => {
                "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'"
            }
        };
        let rows = commit!(world, |tx| { tx.query(sql, &[]).await? });
        assert!(rows.len() > 20);
        let page = include_str!("../../src/retention.rs");
        let page = page.split("\nuse ").next().unwrap();
        for row in rows {
            let table: String = row.get(0).unwrap();
            assert!(page.contains(&format!("`{table}`")), "{table}");
        }
    }

    async fn what_has_outlived_its_time_goes_and_the_rest_stays(world) {
        let environment = world.environment("dev").await.id;
        let integration = world.integration(environment, "github").await;
        let kept = world.connection(integration.id, "kept", &[("k", "v")]).await;
        let doomed = world.connection(integration.id, "doomed", &[("k", "v")]).await;
        let now = world.now();
        let attempt = AuthAttempt {
            environment_id: environment,
            integration_id: integration.id,
            integration_key: integration.unique_key.clone(),
            provider: integration.provider.clone(),
            auth_mode: AuthMode::OAuth2,
            connection_id: "c".parse().unwrap(),
            callback_url: String::new(),
            code_verifier: None,
            request_token_secret: None,
            connection_config: patchbay_types::JsonMap::new(),
            client_override: std::collections::BTreeMap::new(),
            connect_session: None,
            ws_client_id: None,
            connect_ui: None,
            operation_id: None,
            created_at: now,
        };
        let session = NewConnectSession {
            token_hash: hash("t"),
            account_id: world.account,
            environment_id: environment,
            spec: ConnectSessionSpec::default(),
            connection: None,
            operation_id: None,
            expires_at: now,
        };
        let operation = Operation {
            id: OperationId("op".into()),
            environment_id: environment,
            kind: "auth".into(),
            action: "x".into(),
            state: OperationState::Success,
            integration: None,
            connection: None,
            title: String::new(),
            started_at: now,
            ended_at: None,
        };
        let message = Message {
            operation_id: OperationId("op".into()),
            level: "info".into(),
            text: "t".into(),
            meta: None,
            at: now,
        };
        let event =
            RefreshEvent { at: now, reason: RefreshReason::Forced, success: true, cause: None, detail: None };
        let user = |id: &str| EndUserInput { id: id.into(), email: None, display_name: None, tags: None };
        commit!(world, |tx| {
            auth_attempts::put(tx, &AuthAttemptId("s".into()), &attempt).await?;
            let session = connect_sessions::create(tx, &session).await?;
            for outcome in ["first", "last"] {
                auth_outcomes::put(tx, session.id, "a", outcome).await?;
            }
            assert_eq!(auth_outcomes::find(tx, session.id, "a").await?.as_deref(), Some("last"));
            assert_eq!(auth_outcomes::find(tx, session.id, "b").await?, None);
            operations::insert(tx, &operation).await?;
            operations::append_messages(tx, &[message]).await?;
            let all = [
                delivery(environment, "delivered", DeliveryStatus::Delivered, now),
                delivery(environment, "dead", DeliveryStatus::Dead, now),
                delivery(environment, "pending", DeliveryStatus::Pending, now),
            ];
            deliveries::enqueue(tx, &all).await?;
            let linked = end_users::upsert(tx, environment, &user("linked"), None).await?;
            end_users::upsert(tx, environment, &user("loose"), None).await?;
            let link = ConnectionPatch { end_user: Change::Set(Some(linked.id)), ..Default::default() };
            connections::patch(tx, kept.id, &link).await?;
            refreshes::append_event(tx, doomed.id, &event).await?;
            refreshes::append_event(tx, kept.id, &event).await?;
            for id in [doomed.id, kept.id] {
                leases::acquire(tx, &leases::refresh_of(id), "h", Duration::from_secs(1)).await?;
            }
            connections::soft_delete(tx, doomed.id).await?;
        });

        sweep_all(&world, 10).await;
        assert_eq!(world.count("SELECT COUNT(*) FROM connection").await, 2, "nothing is old yet");

        world.clock.advance(3 * DAY);
        sweep_all(&world, 1).await;
        assert_eq!(world.count("SELECT COUNT(*) FROM auth_attempt").await, 0);
        assert_eq!(world.count("SELECT COUNT(*) FROM auth_outcome").await, 0);
        assert_eq!(world.count("SELECT COUNT(*) FROM connect_session").await, 0);
        assert_eq!(world.count("SELECT COUNT(*) FROM delivery").await, 3);
        world.clock.advance(13 * DAY);
        sweep_all(&world, 1).await;
        assert_eq!(world.count("SELECT COUNT(*) FROM operation").await, 0);
        assert_eq!(world.count("SELECT COUNT(*) FROM message").await, 0);
        assert_eq!(world.count("SELECT COUNT(*) FROM delivery").await, 2);
        world.clock.advance(16 * DAY);
        sweep_all(&world, 1).await;
        assert_eq!(world.count("SELECT COUNT(*) FROM delivery WHERE status = 'pending'").await, 1);
        assert_eq!(world.count("SELECT COUNT(*) FROM delivery").await, 1);
        assert_eq!(world.count("SELECT COUNT(*) FROM connection").await, 1);
        assert_eq!(world.count("SELECT COUNT(*) FROM refresh_event").await, 1);
        assert_eq!(world.count("SELECT COUNT(*) FROM lease").await, 1);
        assert_eq!(world.count("SELECT COUNT(*) FROM end_user").await, 1);
        assert_eq!(world.count("SELECT COUNT(*) FROM connection_tag").await, 1);
    }

    async fn a_deleted_environment_goes_with_all_that_was_in_it(world) {
        let doomed = world.environment("doomed").await.id;
        let kept = world.environment("kept").await.id;
        for environment in [doomed, kept] {
            let integration = world.integration(environment, "github").await;
            for n in 0..5 {
                world.connection(integration.id, &format!("c{n}"), &[("k", "v")]).await;
            }
            let key = NewApiKey {
                uuid: world.uuid(),
                account_id: world.account,
                environment_id: Some(environment),
                display_name: "k".into(),
                scopes: ScopeSet::full_environment(),
                secret: "s".into(),
                secret_hash: hash(&environment.to_string()),
            };
            commit!(world, |tx| {
                api_keys::create(tx, &key).await?;
                environments::set_variable(tx, environment, "n", &"v".into()).await?;
            });
        }
        commit!(world, |tx| { environments::soft_delete(tx, doomed).await? });
        world.clock.advance(32 * DAY);
        sweep_all(&world, 2).await;
        for (sql, left) in [
            ("SELECT COUNT(*) FROM environment", 1),
            ("SELECT COUNT(*) FROM environment_variable", 1),
            ("SELECT COUNT(*) FROM api_key", 1),
            ("SELECT COUNT(*) FROM integration", 1),
            ("SELECT COUNT(*) FROM connection", 5),
            ("SELECT COUNT(*) FROM connection_tag", 5),
        ] {
            assert_eq!(world.count(sql).await, left, "{sql}");
        }
        let alive = commit!(world, |tx| {
            let listed = integrations::list(tx, kept).await?;
            connections::find(tx, kept, listed[0].unique_key.as_str(), "c3").await?
        });
        assert!(alive.is_some(), "what is kept still opens");
    }
}
