//! What every auth mode owes a connection: a reconnect leaves its labels alone, and whoever gave the credentials is told
//! before it is deleted.

use serde_json::{Value, json};

use super::{Answer, TestServer};

/// Members that a reconnect must not touch.
const LASTING: [&str; 5] = ["id", "connection_id", "tags", "metadata", "created_at"];

impl TestServer {
    pub async fn read_connection(&self, integration: &str, id: &str, more: &str) -> Answer {
        let target = format!("/connections/{id}?provider_config_key={integration}{more}");
        self.api.get(&target).await
    }

    /// Gives a connection metadata and begins to authorize it again: the session's token, and the connection.
    pub async fn begin_reconnect(&self, integration: &str, id: &str) -> (String, Value) {
        let labels = json!({
            "connection_id": id, "provider_config_key": integration, "metadata": {"plan": "pro", "seats": [1, 2]},
        });
        self.api.post("/connections/metadata", &labels).await.expect(201);
        let target = format!("/connections/{id}?provider_config_key={integration}");
        // Without its credentials: reading those could renew them.
        let listed = self
            .api
            .get(&format!("/connections?connectionId={id}"))
            .await
            .expect(200);
        let rows = listed["connections"].as_array().unwrap();
        let row = rows.iter().find(|row| row["provider_config_key"] == integration);
        let row = row.unwrap_or_else(|| panic!("{target} is not listed"));
        assert!(!row["tags"].as_object().unwrap().is_empty(), "{row}");
        let again = json!({"connection_id": id, "integration_id": integration});
        let made = self
            .api
            .post("/connect/sessions/reconnect", &again)
            .await
            .expect(201);
        (made["data"]["token"].as_str().unwrap().to_owned(), row.clone())
    }

    /// Sees that a connection is the one it was before it was authorized again.
    pub async fn assert_same_connection(&self, integration: &str, id: &str, before: &Value) {
        let listed = self
            .api
            .get(&format!("/connections?connectionId={id}"))
            .await
            .expect(200);
        let rows = listed["connections"].as_array().unwrap();
        let after = rows
            .iter()
            .find(|row| row["provider_config_key"] == integration)
            .unwrap();
        for name in LASTING {
            assert_eq!(after[name], before[name], "{name} of {integration}");
        }
    }

    /// Goes through the popup again for a connection that exists, and sees that its labels outlive that.
    pub async fn reauthorize(&self, integration: &str, id: &str, params: &str) {
        let (session, before) = self.begin_reconnect(integration, id).await;
        self.authorize(&format!("{session}{params}"), integration).await;
        self.assert_same_connection(integration, id, &before).await;
    }

    /// A proxied request.
    pub async fn relay(
        &self,
        integration: &str,
        id: &str,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let request = self.api.request(method, &format!("/proxy{path}"));
        let request = request
            .header("connection-id", id)
            .header("provider-config-key", integration);
        match body {
            Some(body) => request.json(body).send().await,
            None => request.send().await,
        }
    }

    /// Deletes it, sees that the provider was told with credentials it takes, and that the connection is gone.
    pub async fn remove(&self, integration: &str, id: &str) {
        let before = self.revocations(integration).await.len();
        let target = format!("/connections/{id}?provider_config_key={integration}");
        self.api.delete(&target).await.expect(200);
        let told = self.revocations(integration).await;
        assert_eq!(told.len(), before + 1, "{integration}: the provider was not told");
        assert_eq!(told[0]["state"], "success", "{integration}: {}", told[0]);
        self.read_connection(integration, id, "")
            .await
            .fails(404, "not_found");
        self.relay(integration, id, "GET", "/anything", None)
            .await
            .fails(404, "unknown_connection");
    }

    /// What the logs say of revocations, newest first.
    async fn revocations(&self, integration: &str) -> Vec<Value> {
        let logs = self
            .operator
            .json("logs --env dev --type auth --json --limit 1000")
            .await;
        let all = logs.as_array().unwrap().iter();
        all.filter(|row| row["action"] == "pre_connection_deletion" && row["integration"] == integration)
            .cloned()
            .collect()
    }
}
