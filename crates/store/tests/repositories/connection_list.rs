use std::time::Duration;

use patchbay_store::{connections, end_users};
use patchbay_types::connections::{
    Change, ConnectionFilter, ConnectionPatch, ConnectionSummary, ConnectionUpsert,
};
use patchbay_types::end_users::{EndUserInput, OrganizationInput};
use patchbay_types::{EnvironmentId, OperationId};
use serde_json::json;

use crate::world::{World, commit, object, story, tags, upsert};

async fn list(world: &World, environment: EnvironmentId, filter: ConnectionFilter) -> Vec<ConnectionSummary> {
    let limit = if filter.limit == 0 { 100 } else { filter.limit };
    let filter = ConnectionFilter { limit, ..filter };
    commit!(world, |tx| { connections::list(tx, environment, &filter).await? })
}

async fn ids(world: &World, environment: EnvironmentId, filter: ConnectionFilter) -> String {
    let rows = list(world, environment, filter).await;
    rows.iter()
        .map(|row| row.connection_id.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

story! {
    async fn newest_first_with_what_the_answer_shows(world) {
        let environment = world.environment("dev").await.id;
        let integration = world.integration(environment, "github").await;
        let old = world.connection(integration.id, "old", &[]).await;
        let new = ConnectionUpsert {
            metadata: Change::Set(Some(object(json!({"z": 1, "a": 2})))),
            tags: Change::Set(tags(&[("team", "a")])),
            ..upsert(&integration, "tie")
        };
        let (tie, _) = commit!(world, |tx| { connections::upsert(tx, environment, &new).await? });
        world.clock.advance(Duration::from_micros(1));
        let young = world.connection(integration.id, "young", &[]).await;
        let (row, log) = (tie.id, OperationId("op".into()));
        commit!(world, |tx| {
            connections::open_error(tx, row, "sync", "b", &log).await?;
            connections::open_error(tx, row, "auth", "", &log).await?;
            connections::open_error(tx, row, "sync", "a", &log).await?;
        });
        let listed = list(&world, environment, ConnectionFilter::default()).await;
        assert_eq!(listed.iter().map(|row| row.id).collect::<Vec<_>>(), [young.id, tie.id, old.id]);
        assert_eq!((&listed[1].tags, &listed[1].metadata), (&tie.tags, &tie.metadata));
        assert_eq!((&listed[1].integration_key, &listed[1].provider), (&tie.integration_key, &tie.provider));
        assert_eq!(listed[1].created_at, tie.created_at);
        assert_eq!(listed[1].errors.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>(), ["auth", "sync", "sync"]);
        assert!(listed[0].errors.is_empty() && listed[0].metadata.is_none());
    }

    async fn pages_pass_over_and_stop(world) {
        let environment = world.environment("dev").await.id;
        let integration = world.integration(environment, "github").await;
        for n in 0..7 {
            world.connection(integration.id, &format!("c{n}"), &[("team", "a")]).await;
        }
        let page = |offset, team: bool| ConnectionFilter {
            limit: 3,
            offset,
            tags: if team { tags(&[("team", "a")]) } else { tags(&[]) },
            ..Default::default()
        };
        for team in [false, true] {
            assert_eq!(ids(&world, environment, page(0, team)).await, "c6 c5 c4");
            assert_eq!(ids(&world, environment, page(3, team)).await, "c3 c2 c1");
            assert_eq!(ids(&world, environment, page(6, team)).await, "c0");
            assert_eq!(ids(&world, environment, page(9, team)).await, "");
        }
    }

    async fn every_filter_alone_and_together(world) {
        let environment = world.environment("dev").await.id;
        let github = world.integration(environment, "github").await;
        let slack = world.integration(environment, "slack").await;
        let zoom = world.integration(environment, "zoom").await;
        let elsewhere = world.environment("other").await.id;
        let foreign = world.integration(elsewhere, "github").await;
        let ann = EndUserInput {
            id: "ann".into(),
            email: Some("ANN@Example.com".into()),
            display_name: Some("Änn 100%_x".into()),
            tags: None,
        };
        let acme = OrganizationInput { id: "acme".into(), display_name: None };
        let ann = commit!(world, |tx| { end_users::upsert(tx, environment, &ann, Some(&acme)).await? });
        for (integration, id, labels, linked) in [
            (&github, "g1", &[("team", "a"), ("plan", "pro")][..], true),
            (&github, "g2", &[("team", "a"), ("plan", "free"), ("end_user_id", "ann")], false),
            (&slack, "s1", &[("team", "b"), ("plan", "pro"), ("organization_id", "acme")], false),
            (&slack, "G1", &[("end_user_display_name", "Änn"), ("end_user_email", "x@y.zz")], false),
            (&zoom, "z_=", &[("end_user_id", "ann"), ("organization_id", "acme")], true),
            (&foreign, "g1", &[("team", "a"), ("plan", "pro"), ("end_user_id", "ann")], false),
        ] {
            let new = ConnectionUpsert {
                tags: Change::Set(tags(labels)),
                end_user: Change::Set(linked.then_some(ann.id)),
                ..upsert(integration, id)
            };
            let environment = integration.environment_id;
            commit!(world, |tx| { connections::upsert(tx, environment, &new).await? });
        }
        let all = ConnectionFilter::default;
        let keys = |keys: &[&str]| Some(keys.iter().map(|key| (*key).to_owned()).collect());
        let text = |text: &str| Some(text.to_owned());
        for (filter, expected) in [
            (all(), "z_= G1 s1 g2 g1"),
            (ConnectionFilter { connection_id: text("g1"), ..all() }, "g1"),
            (ConnectionFilter { connection_id: text("\0"), ..all() }, ""),
            (ConnectionFilter { search: text("g"), ..all() }, "G1 g2 g1"),
            (ConnectionFilter { search: text("ÄNN"), ..all() }, "z_= G1 g1"),
            (ConnectionFilter { search: text("ann@EXAMPLE"), ..all() }, "z_= g1"),
            (
                ConnectionFilter {
                    search: text("g_"),
                    ..all()
                },
                "",
            ),
            (ConnectionFilter { search: text("_="), ..all() }, "z_="),
            (ConnectionFilter { search: text("100%_"), ..all() }, "z_= g1"),
            (ConnectionFilter { search: text("x@Y"), ..all() }, "G1"),
            (ConnectionFilter { integration_keys: keys(&["github"]), ..all() }, "g2 g1"),
            (ConnectionFilter { integration_keys: keys(&["zoom", "github", "none"]), ..all() }, "z_= g2 g1"),
            (ConnectionFilter { integration_keys: keys(&["none"]), ..all() }, ""),
            (ConnectionFilter { integration_keys: keys(&[]), ..all() }, ""),
            (ConnectionFilter { end_user_id: text("ann"), ..all() }, "z_= g2 g1"),
            (ConnectionFilter { end_user_id: text("Ann"), ..all() }, ""),
            (ConnectionFilter { organization_id: text("acme"), ..all() }, "z_= s1 g1"),
            (ConnectionFilter { tags: tags(&[("team", "a")]), ..all() }, "g2 g1"),
            (ConnectionFilter { tags: tags(&[("team", "A")]), ..all() }, ""),
            (ConnectionFilter { tags: tags(&[("team", "a"), ("plan", "pro")]), ..all() }, "g1"),
            (ConnectionFilter { tags: tags(&[("team", "a"), ("nope", "x")]), ..all() }, ""),
            (
                ConnectionFilter { end_user_id: text("ann"), organization_id: text("acme"), ..all() },
                "z_= g1",
            ),
            (
                ConnectionFilter { end_user_id: text("ann"), integration_keys: keys(&["github"]), ..all() },
                "g2 g1",
            ),
            (ConnectionFilter { end_user_id: text("ann"), tags: tags(&[("plan", "free")]), ..all() }, "g2"),
            (
                ConnectionFilter { organization_id: text("acme"), tags: tags(&[("plan", "pro")]), ..all() },
                "s1 g1",
            ),
            (
                ConnectionFilter {
                    search: text("g"),
                    tags: tags(&[("plan", "pro")]),
                    integration_keys: keys(&["github", "slack"]),
                    ..all()
                },
                "g1",
            ),
            (
                ConnectionFilter { connection_id: text("g1"), tags: tags(&[("team", "b")]), ..all() },
                "",
            ),
            (ConnectionFilter { end_user_id: text("ann"), limit: 1, offset: 1, ..all() }, "g2"),
            (
                ConnectionFilter {
                    integration_keys: keys(&["zoom", "github"]),
                    limit: 2,
                    offset: 1,
                    ..all()
                },
                "g2 g1",
            ),
        ] {
            assert_eq!(ids(&world, environment, filter.clone()).await, expected, "{filter:?}");
        }
    }

    async fn filters_follow_every_change_of_tags(world) {
        let environment = world.environment("dev").await.id;
        let integration = world.integration(environment, "github").await;
        let row = world.connection(integration.id, "c", &[("team", "a")]).await.id;
        let by = |value: &str| ConnectionFilter { tags: tags(&[("team", value)]), ..Default::default() };
        assert_eq!(ids(&world, environment, by("a")).await, "c");
        let patch = ConnectionPatch { tags: Change::Set(tags(&[("team", "b")])), ..Default::default() };
        commit!(world, |tx| { connections::patch(tx, row, &patch).await? });
        assert_eq!(ids(&world, environment, by("a")).await, "");
        assert_eq!(ids(&world, environment, by("b")).await, "c");
        let searched = ConnectionFilter { search: Some("Wanda".into()), ..Default::default() };
        assert_eq!(ids(&world, environment, searched.clone()).await, "");
        let new = ConnectionUpsert {
            tags: Change::Set(tags(&[("end_user_display_name", "WANDA")])),
            ..upsert(&integration, "c")
        };
        commit!(world, |tx| { connections::upsert(tx, environment, &new).await? });
        assert_eq!(ids(&world, environment, by("b")).await, "");
        assert_eq!(ids(&world, environment, searched).await, "c");
        commit!(world, |tx| { connections::soft_delete(tx, row).await? });
        let gone = ConnectionFilter { tags: tags(&[("end_user_display_name", "WANDA")]), ..Default::default() };
        assert_eq!(ids(&world, environment, gone).await, "");
    }

    async fn frequent_tags_meet_wherever_they_overlap(world) {
        // Beyond the window of newest entries: `even` and `low` are both frequent and meet only in the oldest rows.
        let environment = world.environment("dev").await.id;
        let integration = world.integration(environment, "github").await;
        world.bulk_connections(&integration, 9_000, |n| {
            let mut labels = vec![("all", "1")];
            if n % 2 == 0 {
                labels.push(("even", "1"));
            }
            if n < 600 {
                labels.push(("low", "1"));
            }
            if n == 5 {
                labels.push(("five", "1"));
            }
            labels
        })
        .await;
        let by = |labels: &[(&str, &str)], limit| ConnectionFilter { tags: tags(labels), limit, ..Default::default() };
        let first = |rows: &[ConnectionSummary]| rows.first().map(|row| row.connection_id.to_string());
        let dense = list(&world, environment, by(&[("all", "1"), ("even", "1")], 100)).await;
        assert_eq!((dense.len(), first(&dense)), (100, Some("c8998".to_owned())));
        let old = list(&world, environment, by(&[("all", "1"), ("even", "1"), ("low", "1")], 2000)).await;
        assert_eq!((old.len(), first(&old)), (300, Some("c598".to_owned())));
        let beyond = list(&world, environment, by(&[("all", "1"), ("low", "1")], 100)).await;
        assert_eq!((beyond.len(), first(&beyond)), (100, Some("c599".to_owned())));
        let rare = list(&world, environment, by(&[("all", "1"), ("five", "1")], 100)).await;
        assert_eq!((rare.len(), first(&rare)), (1, Some("c5".to_owned())));
        let none = list(&world, environment, by(&[("even", "1"), ("five", "1")], 100)).await;
        assert_eq!(none.len(), 0);
        let mut deep = by(&[("all", "1"), ("even", "1")], 100);
        deep.offset = 4_450;
        let deep = list(&world, environment, deep).await;
        assert_eq!((deep.len(), first(&deep)), (50, Some("c98".to_owned())));
    }
}
