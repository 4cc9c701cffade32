use std::time::Duration;

use patchbay_store::integrations;
use patchbay_types::integrations::IntegrationSecrets;

use crate::world::{World, commit, integration_draft, story};

story! {
    async fn an_integration_is_made_found_and_changed(world) {
        let environment = world.environment("dev").await.id;
        let mut integration = world.integration(environment, "github").await;
        let made = integration.clone();
        let found = commit!(world, |tx| {
            [
                integrations::find_by_key(tx, environment, "github").await?,
                integrations::find_by_id(tx, made.id).await?,
            ]
        });
        assert_eq!(found, [Some(integration.clone()), Some(integration.clone())]);

        world.clock.advance(Duration::from_secs(5));
        integration.unique_key = "github-2".parse().unwrap();
        integration.display_name = None;
        integration.forward_webhooks = false;
        integration.secrets = IntegrationSecrets {
            client_secret: Some("planted-client-secret".into()),
            custom: [("webhookSecret".to_owned(), "planted-custom".into())].into(),
            ..Default::default()
        };
        let changed = integration.clone();
        let (updated, old, new) = commit!(world, |tx| {
            let updated = integrations::update(tx, &changed).await?.unwrap();
            (
                updated,
                integrations::find_by_key(tx, environment, "github").await?,
                integrations::find_by_key(tx, environment, "github-2").await?.unwrap(),
            )
        });
        assert_eq!(old, None);
        assert_eq!(new, updated);
        assert_eq!(new.secrets, integration.secrets);
        assert_eq!((new.created_at, new.updated_at), (integration.created_at, world.now()));
        let stored = world.dump("integration").await;
        assert!(!stored.contains("planted"), "a secret is stored in clear");
    }

    async fn integrations_are_listed_by_provider_then_age(world) {
        let environment = world.environment("dev").await.id;
        for (key, provider) in [("1", "slack"), ("2", "Zed"), ("3", "github"), ("4", "slack"), ("5", "github")] {
            world.integration_of(environment, key, provider).await;
            world.clock.advance(Duration::from_secs(1));
        }
        let listed = commit!(world, |tx| { integrations::list(tx, environment).await? });
        let keys: Vec<_> = listed.iter().map(|i| i.unique_key.as_str()).collect();
        assert_eq!(keys, ["2", "3", "5", "1", "4"]);
    }

    async fn a_key_is_unique_among_the_living_only(world) {
        let environment = world.environment("dev").await.id;
        let first = world.integration(environment, "github").await;
        let draft = integration_draft(environment, "github", "github");
        let refused =
            world.store.write(move |tx| Box::pin(async move { integrations::insert(tx, &draft).await })).await;
        assert_eq!(refused.unwrap_err().conflict(), Some("integration_live_key"));
        let taken = commit!(world, |tx| {
            let taken = integrations::is_key_taken(tx, environment, &"github".parse().unwrap()).await?;
            integrations::soft_delete(tx, first.id).await?;
            [taken, integrations::is_key_taken(tx, environment, &"github".parse().unwrap()).await?]
        });
        assert_eq!(taken, [true, false]);
        let second = world.integration(environment, "github").await;
        assert_ne!(first.id, second.id);
        assert_eq!(commit!(world, |tx| { integrations::update(tx, &first).await? }), None);
    }

    async fn deleting_one_takes_its_connections(world) {
        let environment = world.environment("dev").await.id;
        let doomed = world.integration(environment, "a").await;
        let kept = world.integration(environment, "b").await;
        let connection = world.connection(doomed.id, "c", &[("k", "v")]).await;
        world.connection(kept.id, "c", &[("k", "v")]).await;
        let (before, any, deleted, again, gone, after) = commit!(world, |tx| {
            (
                integrations::count_live_connections(tx, doomed.id).await?,
                integrations::has_live_connections(tx, doomed.id).await?,
                integrations::soft_delete(tx, doomed.id).await?,
                integrations::soft_delete(tx, doomed.id).await?,
                patchbay_store::connections::find_by_row(tx, connection.id).await?,
                integrations::has_live_connections(tx, doomed.id).await?,
            )
        });
        assert_eq!((before, any, deleted, again, gone, after), (1, true, true, false, None, false));
        assert_eq!(world.count("SELECT COUNT(*) FROM connection_tag").await, 1);
    }
}
