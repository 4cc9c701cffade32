use std::time::Duration;

use patchbay_store::operations;
use patchbay_types::operations::{Message, Operation, OperationFilter, OperationOrder, OperationState};
use patchbay_types::{ConnectionRowId, EnvironmentId, IntegrationId, OperationId};
use serde_json::json;

use crate::world::{World, commit, story};

fn operation(world: &World, number: u32) -> Operation {
    Operation {
        id: OperationId(format!("op-{number:03}")),
        environment_id: EnvironmentId(i64::from(number % 2)),
        kind: if number.is_multiple_of(3) { "proxy" } else { "auth" }.to_owned(),
        action: "call".to_owned(),
        state: OperationState::Running,
        integration: Some(IntegrationId(i64::from(number % 4))),
        connection: number.is_multiple_of(5).then_some(ConnectionRowId(7)),
        title: format!("GET /Items/{number}_%"),
        started_at: world.now() + Duration::from_secs(u64::from(number / 2)),
        ended_at: None,
    }
}

async fn ids(world: &World, filter: OperationFilter) -> String {
    let listed = commit!(world, |tx| { operations::list(tx, &filter).await? });
    let ids: Vec<_> = listed
        .iter()
        .map(|operation| operation.id.0.trim_start_matches("op-00"))
        .collect();
    ids.join(" ")
}

story! {
    async fn operations_begin_end_and_are_saved_again(world) {
        let mut one = operation(&world, 0);
        let begun = one.clone();
        let (found, ended, again, found_ended) = commit!(world, |tx| {
            operations::insert(tx, &begun).await?;
            let found = operations::get(tx, &begun.id).await?;
            let ended = operations::finish(tx, &begun.id, OperationState::Failed).await?;
            let again = operations::finish(tx, &begun.id, OperationState::Success).await?;
            (found, ended, again, operations::get(tx, &begun.id).await?.unwrap())
        });
        assert_eq!(found, Some(one.clone()));
        assert_eq!((ended, again), (true, false));
        assert_eq!((found_ended.state, found_ended.ended_at), (OperationState::Failed, Some(world.now())));
        one.state = OperationState::Success;
        one.connection = Some(ConnectionRowId(9));
        let saved = one.clone();
        let found = commit!(world, |tx| {
            operations::save_many(tx, &[saved.clone(), saved.clone()]).await?;
            operations::set_subject(tx, &saved.id, Some(IntegrationId(5)), None).await?;
            operations::get(tx, &saved.id).await?.unwrap()
        });
        assert_eq!(found, Operation { integration: Some(IntegrationId(5)), ..one });
    }

    async fn lists_filter_page_and_follow(world) {
        let all: Vec<_> = (0..8).map(|number| operation(&world, number)).collect();
        let stored = all.clone();
        commit!(world, |tx| {
            operations::save_many(tx, &stored).await?;
            operations::finish(tx, &stored[3].id, OperationState::Failed).await?;
        });
        let base = OperationFilter { limit: 50, ..Default::default() };
        for (filter, expected) in [
            (base.clone(), "7 6 5 4 3 2 1 0"),
            (OperationFilter { limit: 3, cursor: Some(all[5].cursor()), ..base.clone() }, "4 3 2"),
            (
                OperationFilter {
                    order: OperationOrder::OldestFirst,
                    cursor: Some(all[4].cursor()),
                    ..base.clone()
                },
                "5 6 7",
            ),
            (OperationFilter { environment_id: Some(EnvironmentId(1)), ..base.clone() }, "7 5 3 1"),
            (OperationFilter { kinds: vec!["proxy".into()], ..base.clone() }, "6 3 0"),
            (OperationFilter { kinds: vec!["proxy".into(), "auth".into(), "x".into()], limit: 1, ..base.clone() }, "7"),
            (OperationFilter { states: vec![OperationState::Failed], ..base.clone() }, "3"),
            (OperationFilter { integration: Some(IntegrationId(2)), ..base.clone() }, "6 2"),
            (OperationFilter { connection: Some(ConnectionRowId(7)), ..base.clone() }, "5 0"),
            (
                OperationFilter {
                    since: Some(all[2].started_at),
                    until: Some(all[4].started_at),
                    ..base.clone()
                },
                "3 2",
            ),
            (OperationFilter { search: Some("get /ITEMS/4_%".into()), ..base.clone() }, "4"),
            (OperationFilter { search: Some("items%".into()), ..base.clone() }, ""),
        ] {
            assert_eq!(ids(&world, filter.clone()).await, expected, "{filter:?}");
        }
    }

    async fn messages_come_back_in_order_and_in_pages(world) {
        let id = OperationId("op-1".into());
        let message = |n: usize| Message {
            operation_id: OperationId("op-1".into()),
            level: "info".to_owned(),
            text: format!("line {n}"),
            meta: Some(json!({"z": n, "a": "\u{0}"})),
            at: world.now(),
        };
        let lines: Vec<_> = (0..5).map(message).collect();
        let stored = lines.clone();
        let (first, rest) = commit!(world, |tx| {
            operations::append_messages(tx, &stored[..2]).await?;
            operations::append_messages(tx, &stored[2..]).await?;
            let first = operations::messages(tx, &id, 0, 2).await?;
            let rest = operations::messages(tx, &id, first[1].number, 100).await?;
            (first, rest)
        });
        let got: Vec<_> = first.into_iter().chain(rest).map(|stored| stored.message).collect();
        assert_eq!(got, lines);
    }

    async fn an_oversize_message_is_cut_at_a_character(world) {
        let id = OperationId("op-1".into());
        let message = Message {
            operation_id: id.clone(),
            level: "info".to_owned(),
            text: "é".repeat(operations::MAX_MESSAGE),
            meta: Some(json!({ "body": "x".repeat(operations::MAX_MESSAGE) })),
            at: world.now(),
        };
        let stored = commit!(world, |tx| {
            operations::append_messages(tx, &[message]).await?;
            operations::messages(tx, &id, 0, 1).await?.remove(0).message
        });
        assert!(stored.text.len() <= operations::MAX_MESSAGE && stored.text.len() > operations::MAX_MESSAGE - 4);
        assert_eq!(stored.meta.unwrap()["truncated"], json!(true));
    }
}
