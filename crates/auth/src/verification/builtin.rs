//! Named credential checks (catalog-format §7.3) as what they are: a request and what its answer must say.

use patchbay_catalog::definition::Verification;
use patchbay_catalog::template::{NamedTemplate, Template};
use serde_json::{Value, json};

/// The check of that name, with or without the suffix older catalogues write.
pub(super) fn check(name: &str) -> Option<Verification> {
    match name.strip_suffix("CredentialsVerification").unwrap_or(name) {
        "apollo" => Some(get(
            "/v1/auth/health",
            Some(json!({"json_path": "is_logged_in", "equals": true})),
        )),
        "awsIam" => Some(aws_caller_identity()),
        // A wrong token is answered by a sign-in page with status 203.
        "azureDevops" => Some(get("/_apis/projects", Some(json!({"status": 200})))),
        "snipeIt" => Some(get("/api/v1/users", None)),
        _ => None,
    }
}

fn get(endpoint: &str, expect: Option<Value>) -> Verification {
    Verification {
        method: "GET".to_owned(),
        endpoints: vec![Template::parse(endpoint)],
        base_url_override: None,
        headers: Vec::new(),
        data: None,
        expect,
    }
}

fn aws_caller_identity() -> Verification {
    const HOST: &str = "sts.${connectionConfig.region}.amazonaws.com";
    const KEYS: &str = "${credentials.username}, ${credentials.password}, ${connectionConfig.region}";
    let header = |name: &str, template: &str| NamedTemplate {
        name: name.to_owned(),
        template: Template::parse(template),
    };
    Verification {
        base_url_override: Some(Template::parse(&format!("https://{HOST}"))),
        headers: vec![
            header("authorization", &format!("${{awsSigV4({KEYS}, sts, {HOST})}}")),
            header("x-amz-date", "${now:YYYYMMDDTHHmmss[Z]}"),
        ],
        ..get("/?Action=GetCallerIdentity&Version=2011-06-15", None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_both_spellings_and_have_no_template_mistake() {
        for name in ["apollo", "awsIam", "azureDevops", "snipeIt"] {
            let long = check(&format!("{name}CredentialsVerification")).unwrap();
            let short = check(name).unwrap();
            assert_eq!(long, short);
            let templates = short
                .headers
                .iter()
                .map(|header| &header.template)
                .chain(&short.endpoints);
            assert!(
                templates
                    .chain(&short.base_url_override)
                    .all(|template| template.problems().is_empty())
            );
        }
        assert!(check("nobody").is_none());
    }
}
