use std::collections::BTreeMap;
use std::time::Duration;

use patchbay_store::connect_sessions::{self, NewConnectSession};
use patchbay_store::{auth_attempts, environments};
use patchbay_types::auth_attempts::AuthAttempt;
use patchbay_types::connect_sessions::{ConnectSessionSpec, IntegrationDefaults};
use patchbay_types::{AuthAttemptId, AuthMode, ConnectionRowId, OperationId};
use serde_json::json;

use crate::world::{World, commit, hash, object, story, tags};

async fn session(world: &World, token: &str) -> NewConnectSession {
    let environment_id = world.environment("dev").await.id;
    let defaults = IntegrationDefaults {
        connection_config: Some(object(
            json!({"oauth_client_secret_override": "planted-override"}),
        )),
        ..Default::default()
    };
    NewConnectSession {
        token_hash: hash(token),
        account_id: world.account,
        environment_id,
        spec: ConnectSessionSpec {
            tags: Some(tags(&[("end_user_id", "u")])),
            integrations_config_defaults: Some([("github".to_owned(), defaults)].into()),
            ..Default::default()
        },
        connection: Some(ConnectionRowId(4)),
        operation_id: Some(OperationId("op".into())),
        expires_at: world.now() + Duration::from_mins(30),
    }
}

story! {
    async fn a_session_is_found_by_its_token_until_it_expires(world) {
        let new = session(&world, "t").await;
        let made = commit!(world, |tx| { connect_sessions::create(tx, &new).await? });
        let find = async |token: &'static str| {
            commit!(world, |tx| { connect_sessions::find_by_token_hash(tx, &hash(token)).await? })
        };
        assert_eq!(find("t").await, Some(made.clone()));
        assert_eq!(find("u").await, None);
        assert!(!world.dump("connect_session").await.contains("planted-override"));
        world.clock.advance(Duration::from_mins(30) - Duration::from_micros(1));
        assert!(find("t").await.is_some());
        world.clock.advance(Duration::from_micros(1));
        assert_eq!(find("t").await, None);
        let id = made.id;
        assert_eq!(commit!(world, |tx| { connect_sessions::find(tx, id).await? }), Some(made));
    }

    async fn a_session_ends_when_deleted_or_with_its_environment(world) {
        let new = session(&world, "t").await;
        let other = NewConnectSession { token_hash: hash("u"), ..new.clone() };
        let (deleted, live, orphaned) = commit!(world, |tx| {
            let made = connect_sessions::create(tx, &new).await?;
            connect_sessions::create(tx, &other).await?;
            connect_sessions::delete(tx, made.id).await?;
            let deleted = connect_sessions::find_by_token_hash(tx, &hash("t")).await?;
            let live = connect_sessions::find_by_token_hash(tx, &hash("u")).await?;
            environments::soft_delete(tx, new.environment_id).await?;
            (deleted, live, connect_sessions::find_by_token_hash(tx, &hash("u")).await?)
        });
        assert!(deleted.is_none() && live.is_some() && orphaned.is_none());
    }

    async fn an_attempt_is_taken_once_however_many_callbacks_come(world) {
        let environment_id = world.environment("dev").await.id;
        let integration = world.integration(environment_id, "github").await;
        let attempt = AuthAttempt {
            environment_id,
            integration_id: integration.id,
            integration_key: integration.unique_key.clone(),
            provider: integration.provider.clone(),
            auth_mode: AuthMode::OAuth2,
            connection_id: "c".parse().unwrap(),
            callback_url: "https://app.example.com/cb".to_owned(),
            code_verifier: Some("planted-verifier".into()),
            request_token_secret: None,
            connection_config: object(json!({"subdomain": "acme"})),
            client_override: BTreeMap::new(),
            connect_session: None,
            ws_client_id: Some("ws".to_owned()),
            connect_ui: None,
            operation_id: None,
            created_at: world.now(),
        };
        let state = AuthAttemptId("planted-state".into());
        let (stored, key) = (attempt.clone(), state.clone());
        commit!(world, |tx| { auth_attempts::put(tx, &key, &stored).await? });
        let dump = world.dump("auth_attempt").await;
        assert!(!dump.contains("planted"), "state or verifier is stored in clear");
        let callbacks = (0..16).map(|_| {
            let (store, state) = (world.store.clone(), state.clone());
            async move {
                store
                    .write_retry(move |tx| {
                        let state = state.clone();
                        Box::pin(async move { auth_attempts::take(tx, &state).await })
                    })
                    .await
                    .unwrap()
            }
        });
        let taken: Vec<_> = futures_util::future::join_all(callbacks).await.into_iter().flatten().collect();
        assert_eq!(taken, [attempt]);
    }
}
