//! `patchbay keys`.

use anyhow::bail;
use patchbay_connections::api_keys::{self, KeyRef, NewApiKey};
use patchbay_types::api_keys::ApiKey;
use patchbay_types::{ApiKeyId, EnvironmentId, ScopeSet};
use serde::Serialize;
use uuid::Uuid;

use super::Exit;
use super::admin::{Admin, optional_time, time};
use super::args::{Format, KeysAction};
use super::output::Output;

#[derive(Serialize)]
struct Row {
    id: i64,
    uuid: String,
    /// None: of the account.
    environment: Option<String>,
    display_name: String,
    scopes: Vec<String>,
    last_used_at: String,
    created_at: String,
}

pub(super) async fn run(
    admin: &Admin,
    action: &KeysAction,
    format: Format,
    out: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    match action {
        KeysAction::Create { owner, name, scopes } => {
            create(admin, owner.env.as_deref(), name, scopes, format, out).await?;
        }
        KeysAction::List { owner } => {
            list(admin, owner.env.as_deref(), owner.account, format, out).await?;
        }
        KeysAction::Revoke { id } => revoke(admin, id, out).await?,
        KeysAction::RotateEncryption => rotate(admin, format, out).await?,
    }
    Ok(Exit::Done)
}

async fn create(
    admin: &Admin,
    environment: Option<&str>,
    name: &str,
    scopes: &[String],
    format: Format,
    out: &mut Output<'_>,
) -> anyhow::Result<()> {
    if !(1..=255).contains(&name.chars().count()) {
        bail!("a key's name has 1 to 255 characters");
    }
    let environment = admin.environment_id(environment).await?;
    let namespace = if environment.is_some() {
        "environment:"
    } else {
        "account:"
    };
    if let Some(foreign) = scopes.iter().find(|scope| !scope.starts_with(namespace)) {
        bail!("`{foreign}` is no scope of such a key: its scopes begin with `{namespace}`");
    }
    let scopes = match (scopes, environment) {
        ([], Some(_)) => ScopeSet::full_environment(),
        ([], None) => ScopeSet::full_account(),
        _ => ScopeSet::parse(scopes.iter().map(String::as_str))?,
    };
    let new = NewApiKey {
        account: admin.account,
        environment,
        display_name: name.to_owned(),
        scopes,
    };
    let made = api_keys::create(&admin.context, new).await?;
    if format.json {
        let (id, uuid) = (made.key.id.0, made.key.uuid.to_string());
        out.json(&serde_json::json!({ "id": id, "uuid": uuid, "api_key": made.secret.expose() }))?;
    } else {
        out.line(format!("Made the key {} ({name}). Shown once:", made.key.id))?;
        out.line(made.secret.expose())?;
    }
    Ok(())
}

/// Every key with the environment it opens.
async fn all(admin: &Admin) -> anyhow::Result<Vec<(Option<(EnvironmentId, String)>, ApiKey)>> {
    let mut found = Vec::new();
    for key in api_keys::list(&admin.context, admin.account, None).await? {
        found.push((None, key));
    }
    for environment in admin.environments().await? {
        let keys = api_keys::list(&admin.context, admin.account, Some(environment.id)).await?;
        let owner = (environment.id, environment.name.to_string());
        found.extend(keys.into_iter().map(|key| (Some(owner.clone()), key)));
    }
    Ok(found)
}

async fn list(
    admin: &Admin,
    environment: Option<&str>,
    account: bool,
    format: Format,
    out: &mut Output<'_>,
) -> anyhow::Result<()> {
    let wanted = admin.environment_id(environment).await?;
    let rows: Vec<Row> = all(admin)
        .await?
        .into_iter()
        .filter(|(owner, _)| match (wanted, account) {
            (Some(id), _) => owner.as_ref().is_some_and(|(owner, _)| *owner == id),
            (None, true) => owner.is_none(),
            (None, false) => true,
        })
        .map(|(owner, key)| Row {
            id: key.id.0,
            uuid: key.uuid.to_string(),
            environment: owner.map(|(_, name)| name),
            display_name: key.display_name,
            scopes: key.scopes.iter().map(ToString::to_string).collect(),
            last_used_at: optional_time(key.last_used_at),
            created_at: time(key.created_at),
        })
        .collect();
    let columns = [
        "ID",
        "OF",
        "NAME",
        "SCOPES",
        "LAST USED (UTC)",
        "CREATED (UTC)",
        "UUID",
    ];
    let cells = |row: &Row| {
        vec![
            row.id.to_string(),
            row.environment.clone().unwrap_or_else(|| "account".to_owned()),
            row.display_name.clone(),
            row.scopes.join(" "),
            row.last_used_at.clone(),
            row.created_at.clone(),
            row.uuid.clone(),
        ]
    };
    Ok(out.table(format, &rows, &columns, cells, "There is no key.")?)
}

async fn revoke(admin: &Admin, id: &str, out: &mut Output<'_>) -> anyhow::Result<()> {
    let keys = all(admin).await?;
    let found = keys
        .iter()
        .find(|(_, key)| key.uuid.to_string() == id || key.id.to_string() == id);
    let Some((owner, key)) = found else {
        bail!("there is no key {id}; `patchbay keys list` shows them");
    };
    let reference = match id.parse::<Uuid>() {
        Ok(uuid) => KeyRef::Uuid(uuid),
        Err(_) => KeyRef::Id(ApiKeyId(key.id.0)),
    };
    let environment = owner.as_ref().map(|(id, _)| *id);
    api_keys::revoke(&admin.context, admin.account, environment, reference).await?;
    let of = owner.as_ref().map_or("the account", |(_, name)| name.as_str());
    out.line(format!(
        "Revoked the key {} ({}) of {of}.",
        key.id, key.display_name
    ))?;
    Ok(())
}

pub(super) async fn rotate(admin: &Admin, format: Format, out: &mut Output<'_>) -> anyhow::Result<()> {
    let done = admin.context.store.rotate_encryption().await?;
    if format.json {
        let (rewrapped, unchanged) = (done.rewrapped, done.unchanged);
        out.json(&serde_json::json!({ "rewrapped": rewrapped, "unchanged": unchanged }))?;
        return Ok(());
    }
    out.line(format!(
        "{} data keys are now encrypted with the first key; {} were already. Once every node has been restarted \
         with that key first, the others can be taken out.",
        done.rewrapped, done.unchanged
    ))?;
    Ok(())
}
