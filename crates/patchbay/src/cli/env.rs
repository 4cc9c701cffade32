//! `patchbay env`.

use std::io;

use anyhow::bail;
use patchbay_connections::environments::{
    self, EnvironmentError, EnvironmentRef, KeyRotation, NewEnvironment,
};
use patchbay_types::EnvironmentName;
use patchbay_types::environments::{Environment, EnvironmentSettings};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Exit;
use super::admin::{Admin, time};
use super::args::{EnvAction, Format};
use super::output::Output;
use crate::config::environments::ENVIRONMENT_SETTINGS;
use crate::config::options::Visibility;
use crate::config::{Assignment, EnvironmentPatch, Origin};

#[derive(Serialize)]
struct Row {
    id: i64,
    uuid: String,
    name: String,
    is_production: bool,
    webhook_url: Option<String>,
    created_at: String,
}

pub(super) async fn run(
    admin: &Admin,
    action: &EnvAction,
    format: Format,
    out: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    match action {
        EnvAction::List => list(admin, format, out).await?,
        EnvAction::Create { name, production } => create(admin, name, *production, format, out).await?,
        EnvAction::Show { name } => show(admin, name, format, out).await?,
        EnvAction::Delete { name, confirm } => delete(admin, name, confirm, out).await?,
        EnvAction::RotateSigningKey { name, now } => {
            let rotation = if *now {
                KeyRotation::Immediate
            } else {
                KeyRotation::Graceful
            };
            rotate_signing_key(admin, name, rotation, format, out).await?;
        }
        EnvAction::Set { name, assignments } => return set(admin, name, assignments, out).await,
    }
    Ok(Exit::Done)
}

async fn list(admin: &Admin, format: Format, out: &mut Output<'_>) -> anyhow::Result<()> {
    let rows: Vec<Row> = admin.environments().await?.into_iter().map(row).collect();
    let columns = ["NAME", "ID", "PRODUCTION", "WEBHOOKS TO", "UUID", "CREATED (UTC)"];
    let cells = |row: &Row| {
        vec![
            row.name.clone(),
            row.id.to_string(),
            if row.is_production { "yes" } else { "no" }.to_owned(),
            row.webhook_url.clone().unwrap_or_else(|| "–".to_owned()),
            row.uuid.clone(),
            row.created_at.clone(),
        ]
    };
    Ok(out.table(format, &rows, &columns, cells, "There is no environment.")?)
}

fn row(environment: Environment) -> Row {
    Row {
        id: environment.id.0,
        uuid: environment.uuid.to_string(),
        name: environment.name.to_string(),
        is_production: environment.is_production,
        webhook_url: environment.settings.webhooks.primary_url,
        created_at: time(environment.created_at),
    }
}

async fn create(
    admin: &Admin,
    name: &str,
    production: bool,
    format: Format,
    out: &mut Output<'_>,
) -> anyhow::Result<()> {
    let Ok(name) = EnvironmentName::parse(name) else {
        bail!("`{name}` cannot name an environment: use lower-case letters, digits, - and _");
    };
    let new = NewEnvironment {
        account: admin.account,
        name,
        is_production: production.then_some(true),
        settings: EnvironmentSettings::default(),
    };
    let made = environments::create(&admin.context, new).await?;
    let (name, secret) = (made.environment.name.to_string(), made.secret);
    if format.json {
        let id = made.environment.id.0;
        out.json(&serde_json::json!({ "id": id, "name": name, "api_key": secret.expose() }))?;
    } else {
        out.line(format!("Made the environment {name}. Its API key, shown once:"))?;
        out.line(secret.expose())?;
    }
    Ok(())
}

async fn show(admin: &Admin, name: &str, format: Format, out: &mut Output<'_>) -> anyhow::Result<()> {
    let environment = admin.environment(name).await?;
    let variables = environments::variables(&admin.context, environment.id).await?;
    let mut shown: Vec<(String, Option<String>)> = vec![
        ("id".to_owned(), Some(environment.id.to_string())),
        ("uuid".to_owned(), Some(environment.uuid.to_string())),
        (
            "production".to_owned(),
            Some(environment.is_production.to_string()),
        ),
    ];
    let previous = environment.previous_signing_key.as_ref();
    shown.push((
        "previous_signing_key_until".to_owned(),
        previous.map(|previous| time(previous.valid_until)),
    ));
    for setting in ENVIRONMENT_SETTINGS {
        let value = setting
            .get(&environment.settings)
            .map(|value| match setting.visibility {
                Visibility::Public => value,
                Visibility::Secret | Visibility::UrlPassword => "***".to_owned(),
            });
        shown.push((setting.key.to_owned(), value));
    }
    let masked = |prefix: &str, name: &str| (format!("{prefix}.{name}"), Some("***".to_owned()));
    let headers = environment.settings.otlp_headers.iter();
    shown.extend(headers.map(|header| masked("otlp_headers", &header.name)));
    shown.extend(
        variables
            .iter()
            .map(|variable| masked("variables", &variable.name)),
    );
    if format.json {
        let values = shown
            .into_iter()
            .map(|(key, value)| (key, value.map_or(Value::Null, Value::String)));
        out.json(&values.collect::<Map<_, _>>())?;
        return Ok(());
    }
    for (key, value) in shown {
        out.line(format!("{key:36}{}", value.unwrap_or_else(|| "–".to_owned())))?;
    }
    Ok(())
}

async fn delete(admin: &Admin, name: &str, confirm: &str, out: &mut Output<'_>) -> anyhow::Result<()> {
    if name != confirm {
        bail!("--confirm says `{confirm}`, not `{name}`: nothing was deleted");
    }
    admin.environment(name).await?;
    environments::delete(
        &admin.context,
        admin.account,
        EnvironmentRef::Name(name.to_owned()),
    )
    .await?;
    out.line(format!(
        "Deleted the environment {name}. Its data is purged after 31 days."
    ))?;
    Ok(())
}

async fn rotate_signing_key(
    admin: &Admin,
    name: &str,
    rotation: KeyRotation,
    format: Format,
    out: &mut Output<'_>,
) -> anyhow::Result<()> {
    let environment = admin.environment(name).await?;
    let rotated = environments::rotate_signing_key(&admin.context, environment.id, rotation).await;
    let rotated = match rotated {
        Err(error @ EnvironmentError::RotationInGrace(_)) => {
            bail!("{error}, or end it now with --now");
        }
        rotated => rotated?,
    };
    let valid_until = rotated
        .previous_signing_key
        .map(|previous| time(previous.valid_until));
    let key = rotated.signing_key.expose();
    if format.json {
        let shown = serde_json::json!({ "signing_key": key, "previous_valid_until": valid_until });
        return Ok(out.json(&shown)?);
    }
    out.line(format!(
        "Webhooks of {name} are signed with this key from now on:"
    ))?;
    out.line(key)?;
    out.line(match valid_until {
        Some(time) => format!("The old key is valid until {time} (UTC)."),
        None => "The old key is no longer valid.".to_owned(),
    })?;
    Ok(())
}

async fn set(
    admin: &Admin,
    name: &str,
    assignments: &[String],
    out: &mut Output<'_>,
) -> anyhow::Result<Exit> {
    let environment = admin.environment(name).await?;
    let patch = match EnvironmentPatch::parse(name, "", parse(assignments)?) {
        Ok(patch) => patch,
        Err(problems) => {
            refuse(&problems, out)?;
            return Ok(Exit::Failed);
        }
    };
    if patch
        .production
        .is_some_and(|production| production != environment.is_production)
    {
        bail!("`production` is decided when an environment is made; nothing was changed");
    }
    let variables: Vec<_> = patch.variables.clone().into_iter().collect();
    let by = EnvironmentRef::Id(environment.id);
    environments::update_settings(&admin.context, admin.account, by, move |settings| {
        patch.apply(settings);
    })
    .await?;
    if !variables.is_empty() {
        environments::set_variables(&admin.context, environment.id, variables).await?;
    }
    out.line(format!("Changed {} settings of {name}.", assignments.len()))?;
    Ok(Exit::Done)
}

fn parse(assignments: &[String]) -> anyhow::Result<Vec<Assignment>> {
    assignments
        .iter()
        .map(|assignment| {
            let Some((key, value)) = assignment.split_once('=') else {
                bail!("an argument has no `=`: write KEY=VALUE, or KEY= to clear");
            };
            Ok(Assignment {
                key: key.to_owned(),
                value: Some(value.to_owned()).filter(|value| !value.is_empty()),
                origin: Origin::Argument,
            })
        })
        .collect()
}

fn refuse(problems: &crate::config::Problems, out: &mut Output<'_>) -> io::Result<()> {
    out.line("Nothing was changed:")?;
    for problem in &problems.0 {
        out.line(format!("\n{problem}"))?;
    }
    Ok(())
}
