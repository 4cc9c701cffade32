//! Named scripts (catalog-format §7): routers are code in the server; the others are what the shipped definition of
//! that name says.

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

pub(super) fn check(rules: &mut Rules<'_>) {
    let definition = rules.definition;
    // What a definition says itself needs no script; one that it names beside is a name for others to refer to.
    let own_check = definition.proxy.verification.is_some();
    for (key, script, suffix, has_own) in [
        (
            "webhook_routing_script",
            &definition.webhook_routing_script,
            "WebhookRouting",
            false,
        ),
        (
            "post_connection_script",
            &definition.post_connection_script,
            "PostConnection",
            rules.wire.contains_key("post_connection"),
        ),
        (
            "credentials_verification_script",
            &definition.credentials_verification_script,
            "CredentialsVerification",
            own_check,
        ),
        (
            "pre_connection_deletion_script",
            &definition.pre_connection_deletion_script,
            "PreConnectionDeletion",
            rules.wire.contains_key("revoke"),
        ),
    ] {
        let Some(script) = script.as_ref().filter(|_| !has_own) else {
            continue;
        };
        let stems: Vec<&str> = if key == "webhook_routing_script" {
            ROUTERS.to_vec()
        } else {
            crate::shipped::scripts(key).collect()
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
        // Whole names, so that a slip in the suffix is found too.
        let names: Vec<String> = stems.iter().map(|stem| format!("{stem}{suffix}")).collect();
        rules.suggest(crate::suggest::nearest(script, names.iter().map(String::as_str)));
    }
}
