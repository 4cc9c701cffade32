use std::time::Duration;

use patchbay_store::api_keys::{self, NewApiKey, Provisioned};
use patchbay_store::environments;
use patchbay_types::{EnvironmentId, ScopeSet};

use crate::world::{World, commit, hash, story};

fn draft(world: &World, environment: Option<EnvironmentId>, name: &str, secret: &str) -> NewApiKey {
    NewApiKey {
        uuid: world.uuid(),
        account_id: world.account,
        environment_id: environment,
        display_name: name.to_owned(),
        scopes: ScopeSet::parse(["environment:connections:read", "environment:proxy"]).unwrap(),
        secret: secret.into(),
        secret_hash: hash(secret),
    }
}

story! {
    async fn a_key_is_found_by_the_hash_of_its_secret(world) {
        let environment = world.environment("dev").await.id;
        let new = draft(&world, Some(environment), "ci", "planted-secret");
        let (made, found, unknown, with_secret) = commit!(world, |tx| {
            let made = api_keys::create(tx, &new).await?;
            (
                made.clone(),
                api_keys::find_by_hash(tx, &hash("planted-secret")).await?,
                api_keys::find_by_hash(tx, &hash("other")).await?,
                api_keys::get_with_secret(tx, made.id).await?.unwrap(),
            )
        });
        assert_eq!(found, Some(made.clone()));
        assert_eq!(unknown, None);
        assert_eq!(with_secret.key, made);
        assert_eq!(with_secret.secret.expose(), "planted-secret");
        assert!(!world.dump("api_key").await.contains("planted-secret"));
    }

    async fn a_revoked_key_is_unknown_and_its_name_and_secret_are_free(world) {
        let environment = world.environment("dev").await.id;
        let (one, two) = (draft(&world, Some(environment), "ci", "s"), draft(&world, Some(environment), "ci", "s"));
        let (deleted, again, found, fresh, listed) = commit!(world, |tx| {
            let first = api_keys::create(tx, &one).await?;
            let deleted = api_keys::soft_delete(tx, first.id).await?;
            let again = api_keys::soft_delete(tx, first.id).await?;
            let found = api_keys::find_by_hash(tx, &hash("s")).await?;
            assert_eq!(api_keys::get_with_secret(tx, first.id).await?, None);
            let second = api_keys::create(tx, &two).await?;
            (deleted, again, found, second, api_keys::list(tx, one.account_id, one.environment_id).await?)
        });
        assert_eq!((deleted, again, found), (true, false, None));
        assert_eq!(listed, [fresh]);
    }

    async fn names_are_unique_in_their_place_and_secrets_everywhere(world) {
        let (a, b) = (world.environment("a").await.id, world.environment("b").await.id);
        for (index, environment) in [Some(a), Some(b), None].into_iter().enumerate() {
            let new = draft(&world, environment, "same", &format!("secret {index}"));
            commit!(world, |tx| { api_keys::create(tx, &new).await? });
        }
        for (environment, name, secret, constraint) in [
            (Some(a), "same", "x", "api_key_live_environment_name"),
            (None, "same", "x", "api_key_live_account_name"),
            (Some(a), "new", "secret 1", "api_key_live_secret"),
        ] {
            let new = draft(&world, environment, name, secret);
            let refused =
                world.store.write(move |tx| Box::pin(async move { api_keys::create(tx, &new).await })).await;
            assert_eq!(refused.unwrap_err().conflict(), Some(constraint));
        }
        let account = world.account;
        let (of_a, of_account) = commit!(world, |tx| {
            (api_keys::list(tx, account, Some(a)).await?, api_keys::list(tx, account, None).await?)
        });
        assert_eq!((of_a.len(), of_account.len()), (1, 1));
        assert_eq!(of_account[0].environment_id, None);
    }

    async fn a_key_of_a_deleted_environment_says_whose_it_is_but_opens_nothing(world) {
        let environment = world.environment("dev").await.id;
        let new = draft(&world, Some(environment), "ci", "s");
        let found = commit!(world, |tx| {
            api_keys::create(tx, &new).await?;
            environments::soft_delete(tx, environment).await?;
            api_keys::find_by_hash(tx, &hash("s")).await?.unwrap()
        });
        assert_eq!((found.account_id, found.environment_id), (world.account, None));
    }

    async fn last_use_only_moves_forward(world) {
        let new = draft(&world, None, "k", "s");
        let (early, late) = (world.now(), world.now() + Duration::from_mins(1));
        let found = commit!(world, |tx| {
            let key = api_keys::create(tx, &new).await?;
            api_keys::touch_last_used(tx, &[(key.id, late)]).await?;
            api_keys::touch_last_used(tx, &[(key.id, early)]).await?;
            api_keys::touch_last_used(tx, &[]).await?;
            api_keys::find_by_hash(tx, &hash("s")).await?.unwrap()
        });
        assert_eq!(found.last_used_at, Some(late));
    }

    async fn provisioning_is_idempotent_and_replaces_the_secret_of_the_same_name(world) {
        let environment = world.environment("dev").await.id;
        let first = draft(&world, Some(environment), "provisioned", "one");
        let again = draft(&world, Some(environment), "provisioned", "one");
        let changed = draft(&world, Some(environment), "provisioned", "two");
        let (a, b, c, old) = commit!(world, |tx| {
            (
                api_keys::provision(tx, &first).await?,
                api_keys::provision(tx, &again).await?,
                api_keys::provision(tx, &changed).await?,
                api_keys::find_by_hash(tx, &hash("one")).await?,
            )
        });
        assert_eq!((a.1, b.1, c.1), (Provisioned::Created, Provisioned::Unchanged, Provisioned::Created));
        assert_eq!(a.0, b.0);
        assert_ne!(a.0.id, c.0.id);
        assert_eq!(old, None);
    }
}
