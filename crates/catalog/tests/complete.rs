//! What each shipped definition has to say, beyond being usable: `catalog/README.md` as a test.

use std::fs;
use std::path::Path;

use patchbay_catalog::definition::{Field, Fields};
use patchbay_catalog::{Catalogue, Definition, Provider};
use patchbay_types::AuthMode;

/// Providers that published function templates are written for.
const WITH_TEMPLATES: &str = "\
    1password-scim active-campaign adp agentcard aircall aircall-basic airtable airtable-pat algolia amplitude \
    anrok anthropic apollo asana ashby attio auth0 auth0-cc avalara aws-iam azure-devops bamboohr bamboohr-basic \
    basecamp baserow basin bigcommerce bill bitbucket bitdefender box brightcrowd cal-com-v2 calendly canva \
    chargebee checkr-partner clari-copilot clicksend clickup close coda confluence connectsecure \
    databricks-workspace datadog dialpad discord discourse docusign dope-security dropbox dynamic-mockups \
    dynatrace elevenlabs evaluagent exa exact-online expensify facebook figma fireflies freshbooks freshdesk \
    front gem github github-app github-app-oauth gitlab gong gong-oauth google google-ads google-analytics \
    google-calendar google-docs google-drive google-gemini google-mail google-sheet gorgias gorgias-basic \
    grammarly greenhouse greenhouse-basic gusto hackerrank-work harvest hibob-service-user highlevel hubspot \
    hubstaff ingenious-build instantly intercom ironclad jira jira-basic keeper-scim klaviyo kustomer lastpass \
    lattice lever lever-basic linear linkedin luma mailchimp make mandrill metabase microsoft \
    microsoft-dynamics-365-finance-and-operations microsoft-excel-oauth2-cc microsoft-power-bi-oauth2-cc \
    microsoft-powerpoint-oauth2-cc microsoft-teams microsoft-word-oauth2-cc millionverifier mixpanel monday \
    namely-pat netsuite-tba next-cloud-ocs ninety-io notion odoo-api-key odoo-cc okta one-drive \
    one-drive-personal openai oracle-hcm outlook paycom paylocity paypal pennylane perimeter81 pinterest \
    pipedrive pipelinecrm posthog quickbooks ramp recharge recruiterflow ring-central sage-intacct-oauth \
    salesforce sap-success-factors sendgrid servicenow sharepoint-online shopify shopify-partner shortcut slack \
    smartsheet snowflake-jwt splitwise spotify squareup strava-web stripe stripe-api-key stripe-app \
    stripe-express supabase teamtailor tiktok-accounts tiktok-ads tiktok-personal timetastic todoist trello \
    tripletex twilio twitter-v2 typeform ukg-pro ukg-ready unanet vercel wildix-pbx woocommerce workable workday \
    xero youcanbook-me youtube zendesk zoho-books zoho-crm zoho-desk zoho-mail zoho-people zoom zoom-cc";

/// Their sandboxes and siblings.
const VARIANTS: &str = "\
    avalara-sandbox bill-sandbox checkr-partner-staging dialpad-sandbox docusign-sandbox gusto-demo \
    highlevel-white-label lever-sandbox lever-basic-sandbox okta-preview paypal-sandbox quickbooks-sandbox \
    ramp-sandbox ring-central-sandbox salesforce-sandbox squareup-sandbox stripe-app-sandbox";

/// Whose API is wherever the connection or the operator says.
const ANYWHERE: [&str; 2] = ["private-api-generic", "unauthenticated"];

#[test]
fn every_provider_with_templates_is_there() {
    let catalogue = Catalogue::built_in();
    let missing: Vec<&str> = WITH_TEMPLATES
        .split_whitespace()
        .chain(VARIANTS.split_whitespace())
        .filter(|name| catalogue.get(name).is_none())
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(catalogue.len() >= 300, "{}", catalogue.len());
}

#[test]
fn every_definition_says_what_people_need() {
    let mut gaps = Vec::new();
    for provider in &Catalogue::built_in() {
        gaps.extend(
            gaps_of(provider)
                .into_iter()
                .map(|gap| format!("{}: {gap}", provider.name)),
        );
    }
    assert!(gaps.is_empty(), "{}", gaps.join("\n"));
}

fn gaps_of(provider: &Provider) -> Vec<String> {
    let definition = &provider.definition;
    let mut gaps = Vec::new();
    let mut need = |met: bool, what: &str| {
        if !met {
            gaps.push(what.to_owned());
        }
    };
    need(!definition.categories.is_empty(), "no categories");
    let docs = definition.docs.as_deref().unwrap_or_default();
    need(docs.starts_with("https://"), "no documentation");
    let is_anywhere = ANYWHERE.contains(&provider.name.as_str());
    need(
        definition.proxy.base_url.is_some() || is_anywhere,
        "no base URL, and nobody says it is anywhere",
    );
    need(
        definition.proxy.verification.is_some()
            || !takes_typed_credentials(definition)
            || is_explained(provider),
        "no verification, and no comment why",
    );
    need(
        definition.auth_mode != AuthMode::OAuth2 || provider.wire.contains_key("available_scopes"),
        "no `available_scopes`; `[]` where none are known",
    );
    for fields in [
        &definition.connection_config,
        &definition.credentials,
        &definition.integration_config,
        &definition.assertion_option,
    ] {
        gaps.extend(gaps_of_fields(fields));
    }
    gaps
}

fn gaps_of_fields(fields: &Fields) -> Vec<String> {
    let mut gaps = Vec::new();
    let typed = |field: &&Field| !field.automated && !field.hidden;
    for field in fields.into_iter().filter(typed) {
        let mut need = |met: bool, what: &str| {
            if !met {
                gaps.push(format!("field {} has {what}", field.name));
            }
        };
        need(!field.title.is_empty(), "no title");
        need(!field.description.is_empty(), "no hint");
        let shows = field.example.is_some()
            || field
                .default_value
                .as_ref()
                .is_some_and(|value| !value.is_empty());
        need(
            field.pattern.is_none() || shows,
            "a pattern and no example of what matches it",
        );
        need(
            field.format.is_none() || shows || !field.choices.is_empty(),
            "a format and no example of what has it",
        );
    }
    gaps
}

/// Whether the end user's word is all there is: nothing is obtained with it.
fn takes_typed_credentials(definition: &Definition) -> bool {
    matches!(
        definition.auth_mode,
        AuthMode::ApiKey
            | AuthMode::Basic
            | AuthMode::Tba
            | AuthMode::Jwt
            | AuthMode::Signature
            | AuthMode::InstallPlugin
    )
}

/// Whether its file, or that of what it varies, has a comment about it.
fn is_explained(provider: &Provider) -> bool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../catalog");
    let names = std::iter::once(&provider.name).chain(&provider.alias_of);
    names.into_iter().any(|name| {
        let text = fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap_or_default();
        text.lines().any(|line| {
            let line = line.trim_start();
            line.starts_with("# No verification:") || line.starts_with("verification: null")
        })
    })
}
