use std::time::Duration;

use patchbay_store::{environments, integrations};
use patchbay_types::environments::{EnvironmentSettings, OtlpHeader, WebhookSettings};
use patchbay_types::{EnvironmentId, Secret};

use crate::world::{World, commit, story};

story! {
    async fn an_environment_comes_back_as_it_was_made(world) {
        let made = world.environment("dev").await;
        let id = made.id;
        let (by_id, by_uuid, by_name, all) = commit!(world, |tx| {
            (
                environments::find(tx, id).await?,
                environments::find_by_uuid(tx, made.uuid).await?,
                environments::find_by_name(tx, made.account_id, "dev").await?,
                environments::list(tx, made.account_id).await?,
            )
        });
        let again = by_id.unwrap();
        assert_eq!(Some(&again), by_uuid.as_ref());
        assert_eq!(Some(&again), by_name.as_ref());
        assert_eq!(all, std::slice::from_ref(&again));
        assert_eq!(again.created_at, world.now());
        assert_eq!(again.signing_key, Secret::new("signing-key-of-dev"));
    }

    async fn settings_and_signing_key_are_replaced(world) {
        let id = world.environment("dev").await.id;
        let settings = EnvironmentSettings {
            callback_url: Some("https://app.example.com/cb".into()),
            hmac_key: Some("planted-hmac-key".into()),
            otlp_headers: vec![OtlpHeader { name: "x".into(), value: "planted-header".into() }],
            webhooks: WebhookSettings { primary_url: Some("https://app.example.com/hook".into()), ..Default::default() },
            ..Default::default()
        };
        let expected = settings.clone();
        let found = commit!(world, |tx| {
            environments::update_settings(tx, id, &settings).await?;
            environments::set_signing_key(tx, id, &Secret::new("planted-fresh-key")).await?;
            environments::find(tx, id).await?.unwrap()
        });
        assert_eq!(found.settings, expected);
        assert_eq!(found.signing_key, Secret::new("planted-fresh-key"));
        let stored = world.dump("environment").await;
        for planted in ["planted-hmac-key", "planted-header", "planted-fresh-key"] {
            assert!(!stored.contains(planted), "{planted} is stored in clear");
        }
    }

    async fn a_rotated_signing_key_is_kept_for_its_grace_period_and_rotated_again_only_after_it(world) {
        let environment = world.environment("dev").await;
        let (id, first) = (environment.id, environment.signing_key);
        let ends = world.now() + Duration::from_mins(1);
        let found = commit!(world, |tx| {
            assert!(environments::rotate_signing_key(tx, id, &Secret::new("planted-second"), ends).await?);
            assert!(!environments::rotate_signing_key(tx, id, &Secret::new("third"), ends).await?);
            environments::find(tx, id).await?.unwrap()
        });
        let (second, now) = (Secret::new("planted-second"), world.now());
        assert_eq!(found.signing_keys(now).collect::<Vec<_>>(), [&second, &first]);
        assert_eq!(found.signing_keys(ends).collect::<Vec<_>>(), [&second]);
        assert!(!world.dump("environment").await.contains("planted-second"));

        world.clock.advance(Duration::from_mins(1));
        let (rotated, forgotten, found) = commit!(world, |tx| {
            let later = tx.now() + Duration::from_mins(1);
            let rotated = environments::rotate_signing_key(tx, id, &Secret::new("third"), later).await?;
            let forgotten = environments::forget_expired_signing_keys(tx, 10).await?;
            (rotated, forgotten, environments::find(tx, id).await?.unwrap())
        });
        assert_eq!((rotated, forgotten), (true, 0));
        assert_eq!(found.previous_signing_key.unwrap().key, second);

        world.clock.advance(Duration::from_mins(1));
        let (forgotten, found) = commit!(world, |tx| {
            let forgotten = environments::forget_expired_signing_keys(tx, 10).await?;
            (forgotten, environments::find(tx, id).await?.unwrap())
        });
        assert_eq!((forgotten, found.previous_signing_key), (1, None));
        let found = commit!(world, |tx| {
            let ends = tx.now() + Duration::from_mins(1);
            environments::rotate_signing_key(tx, id, &Secret::new("fourth"), ends).await?;
            environments::set_signing_key(tx, id, &Secret::new("fifth")).await?;
            environments::find(tx, id).await?.unwrap()
        });
        assert_eq!((found.signing_key.expose(), found.previous_signing_key), ("fifth", None));
    }

    async fn a_name_is_unique_among_the_living_only(world) {
        let first = world.environment("dev").await;
        let draft = world.environment_draft("dev");
        let error = world
            .store
            .write(move |tx| Box::pin(async move { environments::create(tx, &draft).await }))
            .await
            .unwrap_err();
        assert_eq!(error.conflict(), Some("environment_live_name"));
        assert!(commit!(world, |tx| { environments::soft_delete(tx, first.id).await? }));
        let second = world.environment("dev").await;
        assert_ne!(first.id, second.id);
        let gone = commit!(world, |tx| { environments::find(tx, first.id).await? });
        assert_eq!(gone, None);
        assert!(!commit!(world, |tx| { environments::soft_delete(tx, first.id).await? }));
    }

    async fn deleting_an_environment_takes_its_integrations_and_connections(world) {
        let environment = world.environment("dev").await.id;
        let integration = world.integration(environment, "github").await;
        let connection = world.connection(integration.id, "c1", &[("team", "a")]).await;
        let other = world.environment("other").await.id;
        let kept = world.integration(other, "github").await;
        let survivor = world.connection(kept.id, "c1", &[("team", "a")]).await;
        let (left, gone, alive) = commit!(world, |tx| {
            environments::soft_delete(tx, environment).await?;
            (
                integrations::list(tx, environment).await?,
                patchbay_store::connections::find_by_row(tx, connection.id).await?,
                patchbay_store::connections::find_by_row(tx, survivor.id).await?,
            )
        });
        assert_eq!((left.len(), gone), (0, None));
        assert!(alive.is_some());
        assert_eq!(world.count("SELECT COUNT(*) FROM connection_tag").await, 1);
    }

    async fn variables_are_set_replaced_listed_and_unset(world) {
        let id = world.environment("dev").await.id;
        let (listed, one, left) = commit!(world, |tx| {
            for (name, value) in [("b", "planted-1"), ("A", "planted-2"), ("b", "planted-3")] {
                environments::set_variable(tx, id, name, &Secret::new(value)).await?;
            }
            let listed = environments::variables(tx, id).await?;
            let one = environments::variable(tx, id, "b").await?;
            environments::unset_variable(tx, id, "A").await?;
            environments::unset_variable(tx, id, "never").await?;
            (listed, one, environments::variables(tx, id).await?)
        });
        let pairs: Vec<_> = listed.iter().map(|v| (v.name.as_str(), v.value.expose())).collect();
        assert_eq!(pairs, [("A", "planted-2"), ("b", "planted-3")]);
        assert_eq!(one, Some(Secret::new("planted-3")));
        assert_eq!(left.len(), 1);
        assert!(!world.dump("environment_variable").await.contains("planted"));
    }

    async fn the_default_account_is_made_once(world) {
        let (a, b) = (world.uuid(), world.uuid());
        let ids = commit!(world, |tx| {
            [
                patchbay_store::accounts::ensure_default(tx, a).await?,
                patchbay_store::accounts::ensure_default(tx, b).await?,
            ]
        });
        assert_eq!(ids, [world.account, world.account]);
    }

    async fn settings_of_the_server_are_kept_by_name(world) {
        let values = commit!(world, |tx| {
            let before = patchbay_store::settings::get(tx, "k").await?;
            patchbay_store::settings::set(tx, "k", "1").await?;
            patchbay_store::settings::set(tx, "k", "2").await?;
            [before, patchbay_store::settings::get(tx, "k").await?]
        });
        assert_eq!(values, [None, Some("2".to_owned())]);
    }

    async fn what_is_not_there_changes_nothing(world) {
        let found = commit!(world, |tx| {
            let nowhere = EnvironmentId(999);
            environments::update_settings(tx, nowhere, &EnvironmentSettings::default()).await?;
            environments::set_signing_key(tx, nowhere, &Secret::new("x")).await?;
            environments::find(tx, nowhere).await?
        });
        assert_eq!(found, None);
    }
}
