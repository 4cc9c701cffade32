//! End users: deprecated on the wire in favour of tags, kept for those who send them.

use std::collections::HashMap;

use patchbay_types::end_users::{EndUser, EndUserInput, OrganizationInput};
use patchbay_types::{EndUserId, EnvironmentId};

use crate::columns::{Binds, Columns, padded, params, search_column, text, text_opt, to_json};
use crate::db::{DbError, Row, Tx, Value};

/// Most rows one statement names.
const CHUNK: usize = 512;

/// The columns [`read`] reads, of the table under the name `u`.
pub(crate) const COLUMNS: &str = "u.id, u.environment_id, u.end_user_id, u.email, u.display_name, u.tags, \
                                  u.organization_id, u.organization_display_name";

/// How many they are.
pub(crate) const COLUMN_COUNT: usize = 8;

/// Writes an end user as a connect session or an import names it: found by its id, everything else replaced.
pub async fn upsert(
    tx: &mut Tx,
    environment: EnvironmentId,
    user: &EndUserInput,
    organization: Option<&OrganizationInput>,
) -> Result<EndUser, DbError> {
    let mut params = vec![environment.into(), tx.now().into()];
    params.extend(fields(user, organization)?);
    let row = tx
        .query_one(
            "INSERT INTO end_user (environment_id, created_at, updated_at, end_user_id, email, display_name, tags,
               organization_id, organization_display_name, search)
             VALUES ($1, $2, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (environment_id, end_user_id) DO UPDATE SET
               updated_at = excluded.updated_at, email = excluded.email, display_name = excluded.display_name,
               tags = excluded.tags, organization_id = excluded.organization_id,
               organization_display_name = excluded.organization_display_name, search = excluded.search
             RETURNING id",
            &params,
        )
        .await?;
    Ok(EndUser {
        id: row.get(0)?,
        environment_id: environment,
        user: user.clone(),
        organization: organization.cloned(),
    })
}

/// One end user.
pub async fn find(tx: &mut Tx, id: EndUserId) -> Result<Option<EndUser>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM end_user u WHERE u.id = $1");
    let row = tx.query_opt(&sql, &params![id]).await?;
    row.map(|row| read(&row)).transpose()
}

/// These end users, as far as they exist.
pub(crate) async fn find_all(tx: &mut Tx, ids: &[EndUserId]) -> Result<HashMap<EndUserId, EndUser>, DbError> {
    let mut found = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(CHUNK) {
        let mut binds = Binds::default();
        let list = binds.list(padded(ids).copied());
        let sql = format!("SELECT {COLUMNS} FROM end_user u WHERE u.id IN ({list})");
        for row in tx.query(&sql, binds.values()).await? {
            let user = read(&row)?;
            found.insert(user.id, user);
        }
    }
    Ok(found)
}

/// One end user by the product's id.
pub async fn find_by_end_user_id(
    tx: &mut Tx,
    environment: EnvironmentId,
    end_user_id: &str,
) -> Result<Option<EndUser>, DbError> {
    let sql = format!("SELECT {COLUMNS} FROM end_user u WHERE u.environment_id = $1 AND u.end_user_id = $2");
    let row = tx
        .query_opt(&sql, &[environment.into(), text(end_user_id)])
        .await?;
    row.map(|row| read(&row)).transpose()
}

/// `end_user` of `PATCH /connections/:id`: rewrites `linked` in place, organization set to none. If another end
/// user has the id already, that one is rewritten, and is the one to link instead.
pub async fn patch(
    tx: &mut Tx,
    environment: EnvironmentId,
    linked: Option<EndUserId>,
    user: &EndUserInput,
) -> Result<EndUser, DbError> {
    let Some(linked) = linked else {
        return upsert(tx, environment, user, None).await;
    };
    let namesake = find_by_end_user_id(tx, environment, &user.id).await?;
    if namesake.is_some_and(|namesake| namesake.id != linked) {
        return upsert(tx, environment, user, None).await;
    }
    let mut params = vec![linked.into(), environment.into(), tx.now().into()];
    params.extend(fields(user, None)?);
    let updated = tx
        .execute(
            "UPDATE end_user SET updated_at = $3, end_user_id = $4, email = $5, display_name = $6, tags = $7,
               organization_id = $8, organization_display_name = $9, search = $10
             WHERE id = $1 AND environment_id = $2",
            &params,
        )
        .await?;
    if updated == 0 {
        return upsert(tx, environment, user, None).await;
    }
    Ok(EndUser {
        id: linked,
        environment_id: environment,
        user: user.clone(),
        organization: None,
    })
}

/// The end user in the columns of [`COLUMNS`].
pub(crate) fn read(row: &Row) -> Result<EndUser, DbError> {
    let user = read_joined(&mut Columns::of(row))?;
    user.ok_or_else(|| DbError::internal("an end user without a number"))
}

/// The same where a join may have found none.
pub(crate) fn read_joined(columns: &mut Columns<'_>) -> Result<Option<EndUser>, DbError> {
    let id: Option<EndUserId> = columns.next()?;
    let environment_id: Option<EnvironmentId> = columns.next()?;
    let end_user_id: Option<String> = columns.next()?;
    let email = columns.next()?;
    let display_name = columns.next()?;
    let tags = columns.json_opt()?;
    let organization_id: Option<String> = columns.next()?;
    let organization_display_name = columns.next()?;
    let (Some(id), Some(environment_id), Some(end_user_id)) = (id, environment_id, end_user_id) else {
        return Ok(None);
    };
    Ok(Some(EndUser {
        id,
        environment_id,
        user: EndUserInput {
            id: end_user_id,
            email,
            display_name,
            tags,
        },
        organization: organization_id.map(|id| OrganizationInput {
            id,
            display_name: organization_display_name,
        }),
    }))
}

fn fields(user: &EndUserInput, organization: Option<&OrganizationInput>) -> Result<[Value; 7], DbError> {
    let tags = user.tags.as_ref().map(to_json).transpose()?;
    let search = search_column([user.display_name.as_deref(), user.email.as_deref()]);
    Ok([
        text(&user.id),
        text_opt(user.email.as_deref()),
        text_opt(user.display_name.as_deref()),
        tags.into(),
        text_opt(organization.map(|organization| organization.id.as_str())),
        text_opt(organization.and_then(|organization| organization.display_name.as_deref())),
        search.into(),
    ])
}
