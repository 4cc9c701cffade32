use http::Method;
use patchbay_types::JsonMap;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn map(value: Value) -> JsonMap {
    match value {
        Value::Object(map) => map,
        other => panic!("not an object: {other}"),
    }
}

fn get(given: Value) -> Result<Paginator, PaginationError> {
    let request = PageRequest {
        endpoint: "/items".to_owned(),
        params: map(json!({"state": "open"})),
        ..PageRequest::default()
    };
    Paginator::new(None, &map(given), &Method::GET, request)
}

fn answer(body: &Value) -> Answer<'_> {
    Answer { link: None, body }
}

#[test]
fn what_is_missing_is_named_in_the_contracts_words() {
    let says = |given: Value| get(given).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        says(json!({"limit": 10})),
        "There was no pagination configuration for this integration or configuration passed in."
    );
    assert_eq!(
        says(json!({"type": "cursor", "cursor_path_in_response": "next"})),
        "Param cursor_name_in_request is required for cursor pagination"
    );
    assert_eq!(
        says(json!({"type": "cursor", "cursor_name_in_request": "c", "cursor_path_in_response": null})),
        "Param cursor_path_in_response is required for cursor pagination"
    );
    assert_eq!(
        says(
            json!({"type": "cursor", "cursor_name_in_request": "c", "cursor_path_in_response": "n", "limit": 5})
        ),
        "Param limit_name_in_request is required for cursor pagination"
    );
    assert_eq!(
        says(json!({"type": "link"})),
        "Either param link_rel_in_response_header or link_path_in_response_body is required for link pagination"
    );
    assert_eq!(
        says(json!({"type": "offset"})),
        "Param offset_name_in_request is required for offset pagination"
    );
    assert!(says(json!({"type": "keyset"})).starts_with("Pagination type keyset is not supported."));
}

#[test]
fn the_callers_keys_overlay_the_providers() {
    let defaults = Pagination {
        kind: PaginationKind::Cursor {
            path_in_response: Some("meta.next".to_owned()),
            name_in_request: Some("after".to_owned()),
        },
        limit_name_in_request: Some("size".to_owned()),
        response_path: Some("items".to_owned()),
    };
    let given = map(json!({"limit": "2", "response_path": "rows"}));
    let mut paginator =
        Paginator::new(Some(&defaults), &given, &Method::GET, PageRequest::default()).unwrap();
    assert_eq!(paginator.request().params, map(json!({"size": "2"})));

    let body = json!({"rows": [1, 2], "meta": {"next": " abc "}});
    let turn = paginator.turn(answer(&body)).unwrap();
    assert_eq!(turn.page, Page::Items(Some(&json!([1, 2]))));
    assert_eq!(turn.on_page, OnPage::Call(Some(json!("abc"))));
    assert_eq!(turn.more, More::Yes);
    assert_eq!(
        paginator.request().params,
        map(json!({"size": "2", "after": "abc"}))
    );
}

#[test]
fn a_cursor_ends_when_it_is_missing_blank_or_no_scalar_and_zero_counts() {
    let given = json!({"type": "cursor", "cursor_name_in_request": "c", "cursor_path_in_response": "next", "response_path": "rows"});
    for next in [json!(null), json!("  "), json!({"a": 1}), json!(true)] {
        let mut paginator = get(given.clone()).unwrap();
        let body = json!({"rows": [1], "next": next});
        let turn = paginator.turn(answer(&body)).unwrap();
        assert_eq!(turn.page, Page::Items(Some(&json!([1]))));
        assert_eq!((turn.on_page, turn.more), (OnPage::Call(None), More::No));
    }
    let mut paginator = get(given.clone()).unwrap();
    let body = json!({"rows": [1], "next": 0});
    assert_eq!(paginator.turn(answer(&body)).unwrap().more, More::Yes);
    assert_eq!(paginator.request().params["c"], json!(0));
    let empty = json!({"rows": [], "next": "more"});
    assert_eq!(paginator.turn(answer(&empty)).unwrap(), Turn::ended());
}

#[test]
fn absolute_links_move_to_their_origin_and_relative_ones_replace_the_endpoint() {
    let mut paginator = get(json!({"type": "link", "link_rel_in_response_header": "next"})).unwrap();
    let body = json!([1]);
    let turn = paginator
        .turn(Answer {
            link: Some(r#"<https://eu.example.com:8443/v2/items?page=2>; rel="next""#),
            body: &body,
        })
        .unwrap();
    assert_eq!(turn.more, More::Yes);
    assert_eq!(
        *paginator.request(),
        PageRequest {
            endpoint: "/v2/items?page=2".to_owned(),
            base_url_override: Some("https://eu.example.com:8443".to_owned()),
            ..PageRequest::default()
        }
    );

    let given = json!({"type": "link", "link_path_in_response_body": "next", "response_path": "rows"});
    let mut paginator = get(given).unwrap();
    let body = json!({"next": "/items?page=2"});
    let turn = paginator.turn(answer(&body)).unwrap();
    assert_eq!(
        turn.page,
        Page::Items(None),
        "link pagination yields what is not there, too"
    );
    assert_eq!(paginator.request().endpoint, "/items?page=2");
    assert_eq!(paginator.request().base_url_override, None);
    let turn = paginator.turn(answer(&body)).unwrap();
    assert_eq!(turn.more, More::No, "a link that leads to itself ends the list");
}

#[test]
fn parameters_go_into_the_body_of_a_post_with_their_dots_as_objects() {
    let given = map(json!({
        "type": "offset", "offset_name_in_request": "page.offset", "limit_name_in_request": "page.size",
        "limit": 2, "response_path": "rows"
    }));
    let request = PageRequest {
        endpoint: "/search".to_owned(),
        data: Some(json!({"filter": "open"})),
        ..PageRequest::default()
    };
    let mut paginator = Paginator::new(None, &given, &Method::POST, request.clone()).unwrap();
    assert_eq!(
        paginator.request().data,
        Some(json!({"filter": "open", "page": {"size": 2, "offset": 0}}))
    );
    let body = json!({"rows": [1, 2]});
    let turn = paginator.turn(answer(&body)).unwrap();
    assert_eq!(turn.on_page, OnPage::Call(Some(json!(0))));
    assert_eq!(
        paginator.request().data.as_ref().unwrap()["page"]["offset"],
        json!(2)
    );
    let short = json!({"rows": [3]});
    let turn = paginator.turn(answer(&short)).unwrap();
    assert_eq!((turn.on_page, turn.more), (OnPage::Skip, More::No));

    let text = PageRequest {
        data: Some(json!("a=b")),
        ..request.clone()
    };
    assert_eq!(
        Paginator::new(None, &given, &Method::POST, text).unwrap_err(),
        PaginationError::BodyNotAnObject
    );
    let mut in_query = given;
    in_query.insert("in_body".to_owned(), json!(false));
    let paginator = Paginator::new(None, &in_query, &Method::POST, request).unwrap();
    assert_eq!(
        paginator.request().params,
        map(json!({"page.size": 2, "page.offset": "0"}))
    );
}

/// A list of `total` items, served as each kind of pagination has it.
fn serve(kind: &str, total: usize, size: usize, request: &PageRequest) -> (Value, Option<String>) {
    let number = |name: &str| request.params.get(name).and_then(count).unwrap_or(0);
    let start = match kind {
        "cursor" => number("cursor"),
        "pages" => number("page") * size as u64,
        "offset" => number("offset"),
        _ => {
            let query = request.endpoint.split_once("from=").map_or("0", |(_, from)| from);
            query.parse().unwrap()
        }
    };
    let start = usize::try_from(start).unwrap().min(total);
    let end = (start + size).min(total);
    let next = (end < total).then_some(end);
    let body = json!({"rows": (start..end).collect::<Vec<_>>(), "next": next});
    (
        body,
        next.map(|next| format!("<https://api.example.com/items?from={next}>; rel=\"next\"")),
    )
}

proptest! {
    #[test]
    fn every_item_is_yielded_once_and_in_order(
        kind in prop::sample::select(vec!["cursor", "link", "offset", "pages"]),
        total in 0_usize..40,
        size in 1_usize..9,
        says_limit in any::<bool>(),
    ) {
        let mut given = map(json!({"response_path": "rows"}));
        given.extend(map(match kind {
            "cursor" => json!({"type": "cursor", "cursor_name_in_request": "cursor", "cursor_path_in_response": "next"}),
            "link" => json!({"type": "link", "link_rel_in_response_header": "next"}),
            "pages" => json!({"type": "offset", "offset_name_in_request": "page", "offset_calculation_method": "per-page"}),
            _ => json!({"type": "offset", "offset_name_in_request": "offset"}),
        }));
        if says_limit {
            given.extend(map(json!({"limit": size, "limit_name_in_request": "limit"})));
        }
        let request = PageRequest { endpoint: "/items".to_owned(), ..PageRequest::default() };
        let mut paginator = Paginator::new(None, &given, &Method::GET, request).unwrap();
        let mut seen = Vec::new();
        for _ in 0..=total + 1 {
            let (body, link) = serve(kind, total, size, paginator.request());
            let turn = paginator.turn(Answer { link: link.as_deref(), body: &body }).unwrap();
            if let Page::Items(Some(Value::Array(items))) = turn.page {
                seen.extend(items.iter().map(|item| item.as_u64().unwrap()));
            }
            if turn.more == More::No {
                break;
            }
        }
        prop_assert_eq!(seen, (0..total as u64).collect::<Vec<_>>());
    }
}
