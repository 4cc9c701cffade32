//! AWS_SIGV4: a role is assumed, and requests are signed with its keys.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::forms::Companies;
use crate::common::forms::cloud::ROLE;
use crate::common::raw::{Kind, ask};
use crate::common::{DEV_KEY, TestServer, World};

const FORM: &str = "/auth/aws-sigv4/form-aws";
const EXTERNAL: &str = "6f1c1f9e-6a7a-4b0f-9c36-0f4f0a5d9b11";

fn builtin() -> Value {
    json!({
        "service": "dynamodb", "defaultRegion": "us-east-1", "awsAccessKeyId": "AKIAOPERATOR",
        "awsSecretAccessKey": "planted-aws-secret",
    })
}

fn role() -> Value {
    json!({"role_arn": ROLE})
}

async fn configure(server: &TestServer, config: &Value) {
    server
        .integrate("form-aws", &json!({"integration_config": config}))
        .await;
}

patchbay_store::both_backends! {
    async fn a_role_is_assumed_used_renewed_and_deleted(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        configure(&server, &builtin()).await;
        let target = format!("{FORM}?params[external_id]={EXTERNAL}&params[region]=eu-west-1&params[base_url]=http://x.test");
        let id = server.connect(&target, &role()).await;
        assert_eq!(companies.office().newest("cloud-external"), EXTERNAL, "the one that the form showed");

        let stored = server.read_connection("form-aws", &id, "").await.expect(200);
        let config = json!({"region": "eu-west-1", "external_id": EXTERNAL, "role_arn": ROLE, "service": "dynamodb"});
        assert_eq!(stored["connection_config"], config);
        let credentials = &stored["credentials"];
        assert_eq!((&credentials["type"], &credentials["access_key_id"]), (&json!("AWS_SIGV4"), &json!("ASIA1")));
        assert_eq!(credentials["raw"], json!({
            "access_key_id": "ASIA1", "secret_access_key": "planted-secret-1", "session_token": "planted-aws-session-1",
            "expires_at": credentials["expires_at"],
        }));

        // Path, query, body and the caller's own headers are signed.
        let body = json!({"TableName": "t"});
        let used = server.api.request("POST", "/proxy/a%20b/c?z=1&a=x%20y&a=&e").header("connection-id", &id)
            .header("provider-config-key", "form-aws").header("nango-proxy-x-amz-target", "DynamoDB.ListTables")
            .json(&body).send().await.expect(200);
        let names: Vec<&str> = used["signed"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        for name in ["content-type", "host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token", "x-amz-target"] {
            assert!(names.contains(&name), "{name} of {names:?}");
        }
        assert_eq!(used["body"], body.to_string());
        // A body whose length nobody announced is read whole first: the signature covers it.
        let chunked = format!(
            "PUT /proxy/o HTTP/1.1\r\nhost: patchbay\r\nauthorization: Bearer {DEV_KEY}\r\nconnection-id: {id}\r\n\
             provider-config-key: form-aws\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n\
             5\r\npiece\r\n6\r\n by pi\r\n2\r\nce\r\n0\r\n\r\n"
        );
        let answer = ask(server.port(), chunked.as_bytes(), Kind::Response { to_head: false }).await;
        assert_eq!((answer.status(), &answer.json()["body"]), (200, &json!("piece by pice")), "{answer:?}");
        server.relay("form-aws", &id, "GET", "/", None).await.expect(200);
        server.relay("form-aws", &id, "DELETE", "/x", None).await.expect(200);

        server.quiet().await;
        world.clock.advance(Duration::from_mins(46));
        server.relay("form-aws", &id, "GET", "/", None).await.expect(200);
        let renewed = server.read_connection("form-aws", &id, "").await.expect(200);
        assert_eq!(renewed["credentials"]["access_key_id"], "ASIA2");
        assert_eq!(companies.office().newest("cloud-external"), EXTERNAL);
        let identities = companies.seen("/cloud/sts/").iter().filter(|one| one.method == "GET").count();
        assert_eq!(identities, 1, "a renewal does not ask who we are");

        // What is stored wins over what a browser says.
        let again = format!("{FORM}?params[external_id]=11111111-1111-4111-8111-111111111111");
        let moved = json!({"role_arn": ROLE, "region": "us-west-2"});
        server.reconnect("form-aws", &id, &again, &moved).await.expect(200);
        let stored = server.read_connection("form-aws", &id, "").await.expect(200);
        assert_eq!(stored["connection_config"], config);
        server.relay("form-aws", &id, "GET", "/", None).await.expect(200);
        server.remove("form-aws", &id).await;
        server.finish().await;
    }

    async fn an_own_token_service_hands_out_the_keys(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        let config = json!({
            "service": "s3", "stsMode": "custom", "stsEndpointUrl": format!("{}/cloud/custom", companies.base),
            "stsAuthType": "api_key", "stsAuthHeader": "x-sts-key", "stsApiKey": "planted-sts-key",
        });
        configure(&server, &config).await;
        let body = json!({"role_arn": ROLE, "region": "eu-west-1"});
        let id = server.connect(FORM, &body).await;
        let external = companies.office().newest("cloud-external");
        let stored = server.read_connection("form-aws", &id, "").await.expect(200);
        assert_eq!(stored["connection_config"]["external_id"], external, "one was made");
        let expiry = world.now().checked_add(Duration::from_hours(1)).unwrap();
        let expiry = expiry.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string();
        assert_eq!(stored["credentials"]["expires_at"], expiry);
        // S3 signs the path as it is sent.
        server.relay("form-aws", &id, "GET", "/a%20b/c", None).await.expect(200);

        // A connection may have a base URL of its own, set by the product.
        let import = json!({
            "provider_config_key": "form-aws", "connection_id": "a1",
            "connection_config": {"region": "eu-west-1", "base_url": format!("{}/cloud/s3/eu-west-1/own", companies.base)},
            "credentials": {"type": "AWS_SIGV4", "role_arn": ROLE},
        });
        server.api.post("/connections", &import).await.expect(201);
        server.relay("form-aws", "a1", "GET", "/x", None).await.expect(200);
        assert_eq!(companies.last("/cloud/s3").path(), "/cloud/s3/eu-west-1/own/x");
        server.finish().await;
    }

    async fn what_keeps_a_role_from_being_assumed_is_told(db: TestDb) {
        let world = World::on(db).await;
        let companies = Companies::open(&world).await;
        let server = world.server().start().await;
        configure(&server, &builtin()).await;
        let arn = |name: &str| json!({"role_arn": format!("arn:aws:iam::123456789012:role/{name}")});
        server.fill(FORM, &arn("Stranger")).await.fails(502, "aws_sigv4_sts_request_failed");
        server.fill(FORM, &arn("Swapped")).await.fails(400, "connection_test_failed");
        companies.fail_next("cloud", 403, "application/json", r#"{"Error":{"Code":"InvalidClientTokenId"}}"#);
        server.fill(FORM, &role()).await.fails(502, "aws_sigv4_sts_request_failed");
        companies.fail_next("cloud", 200, "application/json", "{}");
        server.fill(FORM, &role()).await.fails(502, "aws_sigv4_sts_request_failed");
        for odd in [json!({}), json!({"role_arn": ROLE, "region": "evil.test/"}), json!({"role_arn": ROLE, "x": 1}), arn("")] {
            server.fill(FORM, &odd).await.fails(400, "invalid_body");
        }
        server.fill(&format!("{FORM}?params[region]=evil.test"), &role()).await.fails(400, "invalid_body");
        // A role that no longer trusts us is the end user's to mend; keys of ours that are wrong are not.
        let id = server.connect(FORM, &role()).await;
        server.quiet().await;
        world.clock.advance(Duration::from_mins(61));
        companies.fail_next("cloud", 403, "text/xml", "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>");
        let error = server.read_connection("form-aws", &id, "").await.fails(400, "invalid_credentials");
        assert_eq!(error["payload"]["cause"], "provider_refused");
        server.quiet().await;
        world.clock.advance(Duration::from_secs(31));
        companies.fail_next("cloud", 403, "text/xml", "<ErrorResponse><Error><Code>InvalidClientTokenId</Code></Error></ErrorResponse>");
        let error = server.read_connection("form-aws", &id, "").await.fails(500, "invalid_credentials");
        assert_eq!(error["payload"]["cause"], "ours");
        server.finish().await;
    }

    async fn what_the_operator_left_out_is_named(db: TestDb) {
        let world = World::on(db).await;
        let _companies = Companies::open(&world).await;
        let server = world.server().start().await;
        let cases = [
            (json!({}), "missing_aws_sigv4_service"),
            (json!({"service": "s3"}), "missing_aws_sigv4_builtin_credentials"),
            (json!({"service": "s3", "stsMode": "custom"}), "missing_aws_sigv4_sts_endpoint"),
            (json!({"service": "s3", "awsAccessKeyId": "a", "awsSecretAccessKey": "b"}), "missing_aws_sigv4_region"),
            (json!({"service": "s3/x", "awsAccessKeyId": "a", "awsSecretAccessKey": "b"}), "invalid_aws_sigv4_config"),
            (json!({"service": "s3", "defaultRegion": "a.b/", "awsAccessKeyId": "a", "awsSecretAccessKey": "b"}), "invalid_aws_sigv4_config"),
        ];
        for (number, (config, code)) in cases.iter().enumerate() {
            let key = format!("aws-{number}");
            server.integrate("form-aws", &json!({"unique_key": key, "integration_config": config})).await;
            server.fill(&format!("/auth/aws-sigv4/{key}"), &role()).await.fails(400, code);
        }
        // Imported without an external id: usable, but not to be renewed.
        configure(&server, &builtin()).await;
        let import = json!({
            "provider_config_key": "form-aws", "connection_id": "a1", "connection_config": {"region": "eu-west-1"},
            "credentials": {"type": "AWS_SIGV4", "role_arn": ROLE, "access_key_id": "ASIA9", "secret_access_key": "planted-x",
                "region": "eu-west-1", "service": "dynamodb"},
        });
        server.api.post("/connections", &import).await.expect(201);
        let error = server.read_connection("form-aws", "a1", "&force_refresh=true").await.fails(500, "invalid_credentials");
        assert!(error["message"].as_str().unwrap().contains("external id"), "{error}");
        server.finish().await;
    }
}
