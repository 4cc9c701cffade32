//! Named scripts (catalog-format §7): code in the server that definitions refer to by name.

use super::{Rules, keys};

const ROUTERS: &[&str] = &[
    "affinity",
    "airtable",
    "attio",
    "autotask",
    "calCom",
    "calendly",
    "checkrPartner",
    "connectwisePsa",
    "fathom",
    "fillout",
    "folk",
    "githubAppOauth",
    "githubApp",
    "gitlab",
    "gmail",
    "gong",
    "googleCalendar",
    "googleDrive",
    "google",
    "granola",
    "highlevel",
    "hubspot",
    "jira",
    "jobber",
    "jobdiva",
    "linear",
    "microsoftClientCredentials",
    "microsoftTeams",
    "notion",
    "outlook",
    "pagerduty",
    "salesforce",
    "sellsy",
    "sentryOauth",
    "shipstation",
    "shopify",
    "slack",
    "streak",
    "unauthenticated",
    "videoask",
    "xero",
    "zoom",
    "zoomCc",
];

const AFTER_CONNECTING: &[&str] = &[
    "adobeUmapi",
    "jira",
    "atlassianGovernmentCloud",
    "atlassianServicAccount",
    "attio",
    "basecamp",
    "bullhorn",
    "calendly",
    "candis",
    "checkrPartner",
    "docusign",
    "githubAppOauth",
    "googleCalendar",
    "googleMail",
    "gusto",
    "highlevel",
    "hubspot",
    "jobber",
    "linear",
    "mailchimp",
    "microsoftTeams",
    "microsoftTeamsBot",
    "onedrive",
    "procore",
    "ripplingShopApp",
    "sage200",
    "salesforce",
    "sellsy",
    "sentryOauth",
    "snowflake",
    "sophosCentral",
    "workable",
    "xero",
    "zoho",
    "zoom",
];

const VERIFIERS: &[&str] = &[
    "apollo",
    "appleCalendar",
    "awsIam",
    "azureDevops",
    "bitdefender",
    "cdw",
    "expensify",
    "lastpass",
    "pushpayChmsV1",
    "skio",
    "snipeIt",
    "vantageApparel",
];

const BEFORE_DELETION: &[&str] = &["hubspot", "intercom", "linear", "onelogin"];

pub(super) fn check(rules: &mut Rules<'_>) {
    let definition = rules.definition;
    for (key, script, stems, suffix) in [
        (
            "webhook_routing_script",
            &definition.webhook_routing_script,
            ROUTERS,
            "WebhookRouting",
        ),
        (
            "post_connection_script",
            &definition.post_connection_script,
            AFTER_CONNECTING,
            "PostConnection",
        ),
        (
            "credentials_verification_script",
            &definition.credentials_verification_script,
            VERIFIERS,
            "CredentialsVerification",
        ),
        (
            "pre_connection_deletion_script",
            &definition.pre_connection_deletion_script,
            BEFORE_DELETION,
            "PreConnectionDeletion",
        ),
    ] {
        let Some(script) = script else {
            continue;
        };
        let known = script
            .strip_suffix(suffix)
            .is_some_and(|stem| stems.contains(&stem));
        if known {
            continue;
        }
        rules.warn(
            "script",
            keys([key]),
            format!("there is no script `{script}`; nothing will run"),
        );
        let stem = script.strip_suffix(suffix).unwrap_or(script);
        let nearest =
            crate::suggest::nearest(stem, stems.iter().copied()).map(|stem| format!("{stem}{suffix}"));
        rules.suggest(nearest.as_deref());
    }
}
