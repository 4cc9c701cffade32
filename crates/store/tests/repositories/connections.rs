use std::time::Duration;

use patchbay_store::connections::{self, MetadataChange, MetadataSaved};
use patchbay_store::end_users;
use patchbay_types::connections::{AuthOperation, Change, Connection, ConnectionPatch, ConnectionUpsert};
use patchbay_types::end_users::{EndUserInput, OrganizationInput};
use patchbay_types::integrations::Integration;
use patchbay_types::{ConnectionId, Credentials, JsonMap, OperationId};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{World, commit, object, story, tags, upsert};

async fn setup(world: &World) -> Integration {
    let environment = world.environment("dev").await.id;
    world.integration(environment, "github").await
}

async fn save(
    world: &World,
    integration: &Integration,
    new: ConnectionUpsert,
) -> (Connection, AuthOperation) {
    let environment = integration.environment_id;
    commit!(world, |tx| { connections::upsert(tx, environment, &new).await? })
}

async fn find(world: &World, integration: &Integration, id: &'static str) -> Option<Connection> {
    let (environment, key) = (integration.environment_id, integration.unique_key.clone());
    commit!(world, |tx| {
        connections::find(tx, environment, key.as_str(), id).await?
    })
}

fn oauth2(access: &str, refresh: &str) -> Credentials {
    Credentials::from_json(object(json!({
        "type": "OAUTH2", "access_token": access, "refresh_token": refresh, "raw": {"access_token": access}
    })))
    .unwrap()
}

story! {
    async fn a_connection_is_made_and_found_with_everything(world) {
        let integration = setup(&world).await;
        let environment = integration.environment_id;
        let user = EndUserInput {
            id: "u1".into(),
            email: Some("u@example.com".into()),
            display_name: None,
            tags: Some([("Plan".to_owned(), String::new())].into()),
        };
        let organization = OrganizationInput { id: "o1".into(), display_name: Some("Org".into()) };
        let end_user =
            commit!(world, |tx| { end_users::upsert(tx, environment, &user, Some(&organization)).await? });
        let expires = world.now() + Duration::from_hours(1);
        let new = ConnectionUpsert {
            credentials: oauth2("planted-access", "planted-refresh"),
            connection_config: object(json!({"subdomain": "acme", "n": [1, null], "key": "planted-config"})),
            metadata: Change::Set(Some(object(json!({"z": 1, "a": {"nul": "\u{0}"}})))),
            tags: Change::Set(tags(&[("end_user_id", "u1"), ("team", "Ä")])),
            webhook_url_override: Change::Set(Some("https://hook.example.com".into())),
            end_user: Change::Set(Some(end_user.id)),
            credentials_expires_at: Some(expires),
            ..upsert(&integration, r#"a b{"x":[1]}|@=+~,;:$'\_/"#)
        };
        let (made, operation) = save(&world, &integration, new.clone()).await;
        assert_eq!(operation, AuthOperation::Creation);
        assert_eq!(made.credentials, new.credentials);
        assert_eq!(made.connection_config, new.connection_config);
        assert_eq!(Change::Set(made.metadata.clone()), new.metadata);
        assert_eq!(Change::Set(made.tags.clone()), new.tags);
        assert_eq!(Change::Set(made.webhook_url_override.clone()), new.webhook_url_override);
        assert_eq!(made.end_user.as_ref(), Some(&end_user));
        assert_eq!((&made.integration_key, &made.provider), (&integration.unique_key, &integration.provider));
        assert_eq!((made.generation, made.last_fetched_at), (1, Some(world.now())));
        assert_eq!(made.refresh.credentials_expires_at, Some(expires));
        assert_eq!(made.refresh.last_success, Some(world.now()));
        assert_eq!(find(&world, &integration, r#"a b{"x":[1]}|@=+~,;:$'\_/"#).await, Some(made.clone()));
        let by_row = commit!(world, |tx| { connections::find_by_row(tx, made.id).await? });
        assert_eq!(by_row, Some(made.clone()));
        assert_eq!(find(&world, &integration, "\0").await, None);
        let stored = world.dump("connection").await;
        for planted in ["planted-access", "planted-refresh", "planted-config"] {
            assert!(!stored.contains(planted), "{planted} is stored in clear");
        }
    }

    async fn an_override_keeps_the_row_and_clears_its_failures(world) {
        let integration = setup(&world).await;
        let new = ConnectionUpsert {
            credentials: oauth2("a", "r"),
            tags: Change::Set(tags(&[("team", "a")])),
            metadata: Change::Set(Some(object(json!({"m": 1})))),
            webhook_url_override: Change::Set(Some("https://h.example.com".into())),
            ..upsert(&integration, "c")
        };
        let (made, _) = save(&world, &integration, new.clone()).await;
        let row = made.id;
        commit!(world, |tx| { connections::open_error(tx, row, "auth", "", &OperationId("op".into())).await? });
        commit!(world, |tx| { connections::open_error(tx, row, "sync", "issues", &OperationId("op2".into())).await? });
        assert_eq!(find(&world, &integration, "c").await.unwrap().errors.len(), 2);
        world.clock.advance(Duration::from_secs(5));

        let keep = ConnectionUpsert { credentials: oauth2("b", "s"), ..upsert(&integration, "c") };
        let (kept, operation) = save(&world, &integration, keep).await;
        assert_eq!(operation, AuthOperation::Override);
        assert_eq!((kept.id, kept.created_at, kept.generation), (made.id, made.created_at, 2));
        assert_eq!(kept.updated_at, world.now());
        assert_eq!(kept.credentials, oauth2("b", "s"));
        assert_eq!((&kept.tags, &kept.metadata), (&made.tags, &made.metadata));
        assert_eq!(kept.webhook_url_override, made.webhook_url_override);
        assert_eq!(kept.errors.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>(), ["sync"]);

        let wipe = ConnectionUpsert {
            credentials: Credentials::None {},
            tags: Change::Set(tags(&[])),
            metadata: Change::Set(None),
            webhook_url_override: Change::Set(None),
            connection_config: object(json!({"fresh": true})),
            ..upsert(&integration, "c")
        };
        let (wiped, _) = save(&world, &integration, wipe).await;
        assert_eq!(wiped.credentials, oauth2("b", "s"), "NONE leaves stored credentials alone");
        assert!(wiped.tags.is_empty() && wiped.metadata.is_none() && wiped.webhook_url_override.is_none());
        assert_eq!(wiped.connection_config, object(json!({"fresh": true})));
        assert_eq!(world.count("SELECT COUNT(*) FROM connection_tag").await, 0);
    }

    async fn the_same_id_lives_once_in_each_integration_and_again_after_deletion(world) {
        let integration = setup(&world).await;
        let other = world.integration(integration.environment_id, "slack").await;
        let first = world.connection(integration.id, "c", &[("team", "a")]).await;
        let elsewhere = world.connection(other.id, "c", &[]).await;
        assert_ne!(first.id, elsewhere.id);
        let (deleted, again) = commit!(world, |tx| {
            (connections::soft_delete(tx, first.id).await?, connections::soft_delete(tx, first.id).await?)
        });
        assert_eq!((deleted, again), (true, false));
        assert_eq!(find(&world, &integration, "c").await, None);
        let (second, operation) = save(&world, &integration, upsert(&integration, "c")).await;
        assert_eq!(operation, AuthOperation::Creation);
        assert_ne!(second.id, first.id);
        assert!(second.tags.is_empty());
        commit!(world, |tx| { connections::hard_delete(tx, second.id).await? });
        assert_eq!(find(&world, &integration, "c").await, None);
    }

    async fn many_creating_the_same_make_one(world) {
        let integration = setup(&world).await;
        let environment = integration.environment_id;
        let attempts = (0..12).map(|n| {
            let new = ConnectionUpsert {
                tags: Change::Set(tags(&[("n", &n.to_string())])),
                ..upsert(&integration, "c")
            };
            let store = world.store.clone();
            async move {
                store
                    .write_retry(move |tx| {
                        let new = new.clone();
                        Box::pin(async move { connections::upsert(tx, environment, &new).await })
                    })
                    .await
                    .unwrap()
            }
        });
        let saved = futures_util::future::join_all(attempts).await;
        assert!(saved.iter().all(|(connection, _)| connection.id == saved[0].0.id));
        let created = saved.iter().filter(|(_, operation)| *operation == AuthOperation::Creation).count();
        assert_eq!(created, 1);
        assert_eq!(find(&world, &integration, "c").await.unwrap().generation, 12);
        assert_eq!(world.count("SELECT COUNT(*) FROM connection_tag").await, 1);
    }

    async fn a_patch_replaces_tags_and_leaves_the_rest(world) {
        let integration = setup(&world).await;
        let made = world.connection(integration.id, "c", &[("team", "a"), ("x", "y")]).await;
        world.clock.advance(Duration::from_secs(1));
        let row = made.id;
        let patch = ConnectionPatch {
            tags: Change::Set(tags(&[("team", "b")])),
            webhook_url_override: Change::Set(Some("https://h.example.com".into())),
            ..Default::default()
        };
        let (done, missing) = commit!(world, |tx| {
            connections::soft_delete(tx, patchbay_types::ConnectionRowId(999)).await?;
            (
                connections::patch(tx, row, &patch).await?,
                connections::patch(tx, patchbay_types::ConnectionRowId(999), &patch).await?,
            )
        });
        assert_eq!((done, missing), (true, false));
        let found = find(&world, &integration, "c").await.unwrap();
        assert_eq!(found.tags, tags(&[("team", "b")]));
        assert_eq!(found.updated_at, made.updated_at);
        assert_eq!(found.webhook_url_override.as_deref(), Some("https://h.example.com"));
        commit!(world, |tx| { connections::patch(tx, row, &ConnectionPatch::default()).await? });
        assert_eq!(find(&world, &integration, "c").await.unwrap(), found);
    }

    async fn metadata_is_replaced_or_merged_on_all_or_none(world) {
        let integration = setup(&world).await;
        for id in ["a", "b"] {
            let new = ConnectionUpsert {
                metadata: Change::Set(Some(object(json!({"keep": id, "n": {"deep": 1}})))),
                ..upsert(&integration, id)
            };
            save(&world, &integration, new).await;
        }
        save(&world, &integration, upsert(&integration, "c")).await;
        let id = integration.id;
        let names = |names: &[&str]| names.iter().map(|n| ConnectionId::parse(n).unwrap()).collect::<Vec<_>>();
        let (all, some) = (names(&["a", "c", "b", "a"]), names(&["a", "ghost", "gone"]));
        let (merged, refused, none) = commit!(world, |tx| {
            let change = object(json!({"n": 2}));
            (
                connections::set_metadata(tx, id, &all, MetadataChange::Merge(&change)).await?,
                connections::set_metadata(tx, id, &some, MetadataChange::Replace(&change)).await?,
                connections::set_metadata(tx, id, &[], MetadataChange::Replace(&change)).await?,
            )
        });
        assert_eq!((merged, none), (MetadataSaved::Saved, MetadataSaved::Saved));
        assert_eq!(refused, MetadataSaved::Missing(ConnectionId::parse("ghost").unwrap()));
        let metadata = |c: Option<Connection>| Value::Object(c.unwrap().metadata.unwrap());
        assert_eq!(metadata(find(&world, &integration, "a").await), json!({"keep": "a", "n": 2}));
        assert_eq!(metadata(find(&world, &integration, "c").await), json!({"n": 2}));
        let all = names(&["a", "b", "c"]);
        commit!(world, |tx| {
            connections::set_metadata(tx, id, &all, MetadataChange::Replace(&JsonMap::new())).await?
        });
        assert_eq!(metadata(find(&world, &integration, "b").await), json!({}));
    }

    async fn connection_config_is_merged_key_by_key(world) {
        let integration = setup(&world).await;
        let new = ConnectionUpsert {
            connection_config: object(json!({"a": 1, "b": {"x": 1}})),
            ..upsert(&integration, "c")
        };
        let (made, _) = save(&world, &integration, new).await;
        let row = made.id;
        let (merged, missing) = commit!(world, |tx| {
            let changes = object(json!({"b": 2, "c": 3}));
            (
                connections::change_connection_config(tx, row, &changes, &[]).await?,
                connections::change_connection_config(tx, patchbay_types::ConnectionRowId(999), &changes, &[]).await?,
            )
        });
        assert_eq!(merged, Some(object(json!({"a": 1, "b": 2, "c": 3}))));
        assert_eq!(missing, None);
        let found = find(&world, &integration, "c").await.unwrap();
        assert_eq!((Some(found.connection_config), found.generation), (merged, 1));
    }

    async fn a_renamed_integration_keeps_its_connections_readable(world) {
        let mut integration = setup(&world).await;
        world.connection(integration.id, "c", &[]).await;
        integration.unique_key = "renamed".parse().unwrap();
        let renamed = integration.clone();
        commit!(world, |tx| { patchbay_store::integrations::update(tx, &renamed).await? });
        assert_eq!(find(&world, &integration, "c").await.unwrap().integration_key, integration.unique_key);
    }

    async fn times_of_reading_only_move_forward(world) {
        let integration = setup(&world).await;
        let row = world.connection(integration.id, "c", &[]).await.id;
        let late = world.now() + Duration::from_mins(1);
        commit!(world, |tx| {
            connections::touch_fetched(tx, &[(row, late)]).await?;
            connections::touch_fetched(tx, &[(row, late - Duration::from_secs(1))]).await?;
        });
        assert_eq!(find(&world, &integration, "c").await.unwrap().last_fetched_at, Some(late));
    }

    async fn an_end_user_is_rewritten_in_place_or_gives_way_to_its_namesake(world) {
        let environment = world.environment("dev").await.id;
        let user = |id: &str, email: &str| EndUserInput {
            id: id.to_owned(),
            email: Some(email.to_owned()),
            display_name: None,
            tags: None,
        };
        let organization = OrganizationInput { id: "o".into(), display_name: None };
        let (first, same, renamed, other, clash, found) = commit!(world, |tx| {
            let first = end_users::upsert(tx, environment, &user("u", "a@x.io"), Some(&organization)).await?;
            let same = end_users::upsert(tx, environment, &user("u", "b@x.io"), None).await?;
            let renamed = end_users::patch(tx, environment, Some(first.id), &user("v", "c@x.io")).await?;
            let other = end_users::patch(tx, environment, None, &user("w", "d@x.io")).await?;
            let clash = end_users::patch(tx, environment, Some(first.id), &user("w", "e@x.io")).await?;
            let found = end_users::find_by_end_user_id(tx, environment, "w").await?;
            assert_eq!(end_users::find(tx, first.id).await?.unwrap(), renamed);
            (first, same, renamed, other, clash, found)
        });
        assert_eq!((first.id, first.id), (same.id, renamed.id));
        assert_eq!(renamed.organization, None);
        assert_ne!(other.id, first.id);
        assert_eq!(clash.id, other.id);
        assert_eq!(found, Some(clash));
    }

    async fn tags_metadata_and_config_of_any_content_round_trip(world) {
        let integration = setup(&world).await;
        // Driven by hand: the body of a proptest cannot await.
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        for case in 0..48 {
            let tree = (any_tags(), any_object(), any_object()).new_tree(&mut runner).unwrap();
            let (tags, metadata, config) = proptest::strategy::ValueTree::current(&tree);
            let new = ConnectionUpsert {
                tags: Change::Set(tags.clone()),
                metadata: Change::Set(Some(metadata.clone())),
                connection_config: config.clone(),
                ..upsert(&integration, "c")
            };
            let (saved, _) = save(&world, &integration, new).await;
            assert_eq!(saved.tags, tags, "case {case}");
            assert_eq!(saved.metadata, Some(metadata), "case {case}");
            assert_eq!(saved.connection_config, config, "case {case}");
            let environment = integration.environment_id;
            let filter = patchbay_types::connections::ConnectionFilter { tags, limit: 10, ..Default::default() };
            let listed = commit!(world, |tx| { connections::list(tx, environment, &filter).await? });
            assert_eq!(listed.len(), 1, "case {case}: {:?} does not find itself", saved.tags);
            assert_eq!(listed[0].tags, saved.tags, "case {case}");
        }
    }
}

fn any_tags() -> impl Strategy<Value = patchbay_types::Tags> {
    proptest::collection::btree_map("[a-z][a-z0-9_./-]{0,63}", "(?s).{1,255}", 0..=10).prop_map(|pairs| {
        let object = pairs
            .into_iter()
            .map(|(key, value)| (key, Value::String(value)))
            .collect();
        patchbay_types::Tags::parse(&object).unwrap_or_default()
    })
}

fn any_object() -> impl Strategy<Value = JsonMap> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "(?s).{0,40}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("(?s).{0,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    proptest::collection::btree_map("(?s).{0,12}", value, 0..6).prop_map(|map| map.into_iter().collect())
}
