use std::time::Duration;

use patchbay_store::provider_steps::{self, PendingSteps};
use patchbay_store::{connections, deliveries};
use patchbay_types::ConnectionRowId;
use patchbay_types::connections::Connection;
use patchbay_types::deliveries::{Delivery, DeliveryStatus};

use crate::world::{World, commit, object, story, upsert};

async fn setup(world: &World, id: &str) -> Connection {
    let environment = world.environment("dev").await.id;
    let integration = world.integration(environment, "github").await;
    let new = upsert(&integration, id);
    commit!(world, |tx| {
        connections::upsert(tx, environment, &new).await?.0
    })
}

fn pending(world: &World, connection: ConnectionRowId, run: &str, in_s: u64) -> PendingSteps {
    PendingSteps {
        connection,
        run: run.to_owned(),
        attempts: 0,
        due_at: world.now() + Duration::from_secs(in_s),
    }
}

story! {
    async fn steps_wait_until_they_are_done(world) {
        let id = setup(&world, "c").await.id;
        let first = pending(&world, id, "run-1", 30);
        let noted = first.clone();
        commit!(world, |tx| { provider_steps::put(tx, &noted).await? });
        let until = world.now() + Duration::from_mins(1);
        assert_eq!(commit!(world, |tx| { provider_steps::claim_due(tx, until, 10).await? }), []);
        world.clock.advance(Duration::from_secs(30));
        let until = world.now() + Duration::from_mins(1);
        let claimed = commit!(world, |tx| { provider_steps::claim_due(tx, until, 10).await? });
        assert_eq!(claimed, [PendingSteps { due_at: until, ..first.clone() }]);
        assert_eq!(commit!(world, |tx| { provider_steps::claim_due(tx, until, 10).await? }), [], "claimed");

        let later = world.now() + Duration::from_secs(90);
        let tried = first.clone();
        assert!(commit!(world, |tx| { provider_steps::postpone(tx, &tried, later).await? }));
        let found = commit!(world, |tx| { provider_steps::find(tx, id).await? });
        assert_eq!(found, Some(PendingSteps { attempts: 1, due_at: later, ..first.clone() }));

        // Another connecting replaces them: who still works on the first has nothing to say.
        let second = pending(&world, id, "run-2", 30);
        let (old, noted) = (first.clone(), second.clone());
        commit!(world, |tx| { provider_steps::put(tx, &noted).await? });
        assert!(!commit!(world, |tx| { provider_steps::finish(tx, &old).await? }));
        let done = second.clone();
        assert!(commit!(world, |tx| { provider_steps::finish(tx, &done).await? }));
        assert_eq!(commit!(world, |tx| { provider_steps::count(tx).await? }), 0);
    }

    async fn steps_go_with_their_connection(world) {
        let id = setup(&world, "c").await.id;
        let noted = pending(&world, id, "run-1", 0);
        let left = commit!(world, |tx| {
            provider_steps::put(tx, &noted).await?;
            connections::soft_delete(tx, id).await?;
            provider_steps::find(tx, id).await?
        });
        assert_eq!(left, None);
    }

    async fn config_is_changed_and_what_was_held_back_is_sent(world) {
        let made = setup(&world, "c").await;
        let (id, environment, now) = (made.id, made.environment_id, world.now());
        let delivery = Delivery {
            id: patchbay_types::DeliveryId("d1".to_owned()),
            environment_id: environment,
            connection: Some(id),
            kind: "auth".to_owned(),
            url: "https://hooks.example.com".to_owned(),
            body: "{}".to_owned(),
            operation_id: None,
            status: DeliveryStatus::Pending,
            attempts: 0,
            next_attempt_at: now + Duration::from_secs(5),
            last_status: None,
            last_error: None,
            created_at: now,
            finished_at: None,
        };
        let (config, hastened, due) = commit!(world, |tx| {
            deliveries::enqueue(tx, &[delivery]).await?;
            let first = object(serde_json::json!({"a": "1", "b": "2"}));
            connections::change_connection_config(tx, id, &first, &[]).await?;
            let second = object(serde_json::json!({"c": "3"}));
            let config = connections::change_connection_config(tx, id, &second, &["a".to_owned()]).await?;
            let hastened = deliveries::hasten(tx, id).await?;
            (config, hastened, deliveries::next_due(tx).await?)
        });
        let config = config.unwrap();
        assert!(!config.contains_key("a") && config["b"] == "2" && config["c"] == "3");
        assert_eq!((hastened, due), (1, Some(now)));
    }
}
