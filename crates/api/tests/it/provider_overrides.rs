//! `/provider-overrides`: definitions added and corrected while the server runs.

use crate::common::TestApi;
use serde_json::{Value, json};

fn definition() -> Value {
    json!({
        "display_name": "Acme Robots", "categories": ["other"], "auth_mode": "API_KEY",
        "docs": "https://docs.acme.example", "proxy": {
            "base_url": "https://api.acme.example", "headers": {"x-key": "${apiKey}"}
        },
        "credentials": {"apiKey": {"type": "string", "title": "Key", "description": "Yours.", "secret": true}}
    })
}

patchbay_store::both_backends! {
    async fn a_provider_is_added_changed_and_taken_back_while_the_server_runs(db: TestDb) {
        let api = TestApi::on(db).await;
        let admin = &api.account_key;
        let path = "/provider-overrides/acme-robots";
        api.get("/providers/acme-robots").fails(404, "not_found").await;

        let made = api.put(path, definition()).bearer(admin).expect(200).await;
        assert_eq!(made["data"]["version"], 1);
        assert_eq!(made["data"]["definition"], definition());
        assert_eq!(made["warnings"], json!([]));
        let shown = api.get("/providers/acme-robots").expect(200).await;
        assert_eq!(shown["data"]["display_name"], "Acme Robots");
        let integration = json!({"provider": "acme-robots", "unique_key": "robots"});
        api.post("/integrations", integration).expect(200).await;

        let patch = json!({"display_name": "Acme", "proxy": {"headers": {"x-version": "2"}}});
        let made = api.patch(path, patch).bearer(admin).expect(200).await;
        assert_eq!(made["data"]["version"], 2);
        let shown = api.get("/providers/acme-robots").expect(200).await;
        assert_eq!(shown["data"]["proxy"]["headers"], json!({"x-key": "${apiKey}", "x-version": "2"}));

        let versions = api.get(format!("{path}/versions")).bearer(admin).expect(200).await;
        let numbers: Vec<&Value> = versions["data"].as_array().unwrap().iter().map(|one| &one["version"]).collect();
        assert_eq!(numbers, [2, 1]);
        assert_eq!(versions["data"][1]["definition"], definition());

        api.delete(path).bearer(admin).expect(204).await;
        api.get("/providers/acme-robots").fails(404, "not_found").await;
        api.delete(path).bearer(admin).fails(404, "not_found").await;
        api.patch(path, json!({"docs": "https://x.example"})).bearer(admin).fails(404, "not_found").await;
        let listed = api.get("/provider-overrides").bearer(admin).expect(200).await;
        assert_eq!(listed, json!({"data": []}));
    }

    async fn a_patch_of_a_shipped_provider_keeps_only_what_differs(db: TestDb) {
        let api = TestApi::on(db).await;
        let admin = &api.account_key;
        let shipped = api.get("/providers.json").expect(200).await;
        let (name, before) = shipped.as_object().unwrap().iter().next().unwrap();
        let path = format!("/provider-overrides/{name}");
        let made = api.patch(&path, json!({"display_name": "Corrected"})).bearer(admin).expect(200).await;
        assert_eq!(made["data"]["definition"], json!({"alias": name, "display_name": "Corrected"}));
        let export = api.get("/provider-overrides/export").bearer(admin).expect(200).await;
        assert_eq!(export, json!({name: {"alias": name, "display_name": "Corrected"}}));

        let now = api.get(format!("/providers/{name}")).expect(200).await;
        assert_eq!(now["data"]["display_name"], "Corrected");
        assert_eq!(now["data"]["auth_mode"], before["auth_mode"]);
        api.delete(&path).bearer(admin).expect(204).await;
        let after = api.get(format!("/providers/{name}")).expect(200).await;
        assert_eq!(after["data"]["display_name"], before["display_name"]);
    }

    async fn what_cannot_be_used_is_refused_with_its_place(db: TestDb) {
        let api = TestApi::on(db).await;
        let admin = &api.account_key;
        let path = "/provider-overrides/acme-robots";
        let mut faulty = definition();
        faulty["auth_mode"] = json!("API_KEYS");
        let refused = api.put(path, faulty).bearer(admin).send().await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        let refused = refused.json;
        assert_eq!(refused["error"]["code"], "invalid_body");
        assert_eq!(refused["error"]["errors"][0]["path"], json!(["auth_mode"]));
        api.put(path, json!({"alias": "no-such"})).bearer(admin).fails(400, "invalid_body").await;
        api.put("/provider-overrides/No%20Name", definition()).bearer(admin).fails(400, "invalid_uri_params").await;
        api.get("/providers/acme-robots").fails(404, "not_found").await;

        api.put(path, definition()).fails(403, "forbidden").await;
        let listed = api.get("/provider-overrides").bearer(admin).expect(200).await;
        assert_eq!(listed, json!({"data": []}));
    }
}
