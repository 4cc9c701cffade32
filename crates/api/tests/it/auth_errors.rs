//! auth-flows §25: the catalogue of errors of connecting, held against the code.

use std::collections::BTreeSet;
use std::path::Path;

use patchbay_api::{Endpoint, codes};
use patchbay_store::testing::TestDb;

use crate::common::TestApi;

/// §25.1: what a popup's WebSocket and page may say.
const POPUP: &[&str] = &[
    "provider_config_err",
    "unknown_config_key",
    "auth_mode_err",
    "grant_type_err",
    "url_param_err",
    "callback_err",
    "state_cookie_err",
    "token_err",
    "account_or_environment_retrieval_err",
    "connection_validation_failed",
    "unknown_err",
];

/// §25.2, and §3 for callers: code and status. The first group is of every form, the second of some.
const EVERY_FORM: &[(&str, u16)] = &[
    ("missing_public_key", 401),
    ("invalid_connect_session_token_format", 401),
    ("unknown_connect_session_token", 401),
    ("invalid_query_params", 400),
    ("invalid_uri_params", 400),
    ("unknown_provider_template", 404),
    ("invalid_auth_mode", 400),
    ("integration_not_allowed", 400),
    ("invalid_connection", 400),
    ("too_many_request", 429),
];
const SOME_FORM: &[(&str, u16)] = &[
    ("invalid_json", 400),
    ("invalid_content_type", 415),
    ("invalid_body", 400),
    ("unknown_provider_config", 404),
    ("unknown_provider_config", 400),
    ("missing_client_id", 400),
    ("missing_client_secret", 400),
    ("client_credentials_fetch_error", 400),
    ("missing_token_url", 400),
    ("two_step_credentials_fetch_error", 400),
    ("invalid_two_step_credentials", 400),
    ("connection_test_failed", 400),
    ("missing_token_body", 400),
    ("missing_signature_type", 400),
    ("failed_to_generate", 400),
    ("failed_to_sign", 400),
    ("signature_token_generation_error", 400),
    ("missing_aws_sigv4_service", 400),
    ("missing_aws_sigv4_sts_endpoint", 400),
    ("missing_aws_sigv4_builtin_credentials", 400),
    ("missing_aws_sigv4_region", 400),
    ("missing_aws_sigv4_role_arn", 400),
    ("missing_aws_sigv4_external_id", 400),
    ("invalid_aws_sigv4_config", 400),
    ("aws_sigv4_sts_request_failed", 502),
];
/// Known, with a page, and not declared by a form: no functions run yet, public keys are not taken, and any route may
/// fail by our own fault.
const NO_FORM: &[&str] = &[
    "server_error",
    "connection_validation_failed",
    "missing_hmac",
    "invalid_hmac",
    "invalid_public_key",
    "unknown_account",
    "deprecated_authentication",
    "generic_error_support",
    "resource_capped",
];

#[test]
fn every_popup_error_is_one_that_the_code_says() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = String::new();
    for room in ["auth", "connections", "web"] {
        collect(&crates.join(room).join("src"), &mut sources);
    }
    for kind in POPUP {
        assert!(
            sources.contains(&format!("\"{kind}\"")),
            "nothing leads to {kind}"
        );
    }
    // And no other of that form: a new one belongs into the list.
    let named: BTreeSet<&str> = sources
        .split('"')
        .filter(|text| text.len() < 50 && text.ends_with("_err") && !text.contains([' ', '\n']))
        .collect();
    let ours = ["state_err"];
    let unknown: Vec<_> = named
        .iter()
        .filter(|kind| !POPUP.contains(kind) && !ours.contains(kind))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

fn collect(folder: &Path, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else {
            into.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

#[tokio::test]
async fn every_form_error_is_declared_where_it_is_said() {
    let api = TestApi::on(TestDb::sqlite().await).await;
    let is_form = |endpoint: &&Endpoint| {
        let post = endpoint.method() == Some(&http::Method::POST);
        let roots = ["/auth/", "/api-auth/", "/oauth2/auth/"];
        post && endpoint
            .paths()
            .any(|path| roots.iter().any(|root| path.starts_with(root)))
    };
    let forms: Vec<&Endpoint> = api.service.endpoints().iter().filter(is_form).collect();
    assert_eq!(forms.len(), 11, "one a mode");
    let says = |form: &Endpoint, (name, status): &(&str, u16)| {
        let declared = form.errors();
        let found = declared.iter().find(|code| code.name == *name);
        found.is_some_and(|code| code.statuses.contains(status))
    };
    let path = |form: &Endpoint| form.paths().next().unwrap_or_default();
    let mut missing = Vec::new();
    for form in &forms {
        missing.extend(
            EVERY_FORM
                .iter()
                .filter(|error| !says(form, error))
                .map(|error| format!("{}: {error:?}", path(form))),
        );
    }
    for error in SOME_FORM {
        if !forms.iter().any(|form| says(form, error)) {
            missing.push(format!("no form says {error:?}"));
        }
    }
    for name in NO_FORM {
        if !codes::ALL.iter().any(|code| code.name == *name) {
            missing.push(format!("{name} is no code"));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
