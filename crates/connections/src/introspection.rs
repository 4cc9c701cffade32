//! Whether tokens that name no end are still good: the provider is asked, seldom (auth-flows §11).
//!
//! An answer is believed until shortly before the end it names, five minutes at most. Callers that find none at hand
//! share one question. A token that the provider says has ended, or about which it cannot be asked, is refreshed; a
//! token that was obtained less than those five minutes ago is not asked about.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use jiff::SignedDuration;
use moka::sync::Cache;
use patchbay_auth::driver::{self, TokenState};
use patchbay_auth::introspection;
use patchbay_types::connections::Connection;
use patchbay_types::{ConnectionRowId, Timestamp};

use crate::caches::ConnectionName;
use crate::context::Context;

/// Longest an answer is believed.
const BELIEVED: SignedDuration = SignedDuration::from_mins(5);

/// Row and generation: other credentials, another question.
type Key = (ConnectionRowId, i64);
type Question = Shared<BoxFuture<'static, bool>>;

/// What providers said lately.
#[derive(Debug)]
pub(crate) struct Introspections {
    /// Until when a token counts as good.
    good: Cache<Key, Timestamp>,
    asking: Mutex<HashMap<Key, Question>>,
}

impl Default for Introspections {
    fn default() -> Self {
        Self {
            good: Cache::new(50_000),
            asking: Mutex::default(),
        }
    }
}

/// Whether the connection's token is over, although nothing stored says so.
pub(crate) async fn is_over(
    context: &Arc<Context>,
    name: &ConnectionName,
    connection: &Arc<Connection>,
) -> bool {
    let Some(provider) = context.catalogue.get(connection.provider.as_str()) else {
        return false;
    };
    if !introspection::is_needed(&provider.definition, &connection.credentials) {
        return false;
    }
    let now = context.ambient.now();
    let made = connection.refresh.last_success.unwrap_or(connection.created_at);
    if now.duration_since(made) < BELIEVED {
        return false;
    }
    let key = (connection.id, connection.generation);
    let known = &context.introspections;
    if known.good.get(&key).is_some_and(|until| until > now) {
        return false;
    }
    let question = {
        let mut asking = known.asking.lock().unwrap_or_else(PoisonError::into_inner);
        asking
            .entry(key)
            .or_insert_with(|| {
                let (context, name, connection) = (context.clone(), name.clone(), connection.clone());
                let asked = context.clone();
                let task = context.ambient.tasks.spawn(async move {
                    let good = ask(&asked, &name, &connection).await;
                    let mut asking = asked
                        .introspections
                        .asking
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    asking.remove(&key);
                    good
                });
                async move { task.await.unwrap_or(true) }.boxed().shared()
            })
            .clone()
    };
    !question.await
}

/// Asks the provider, and notes a yes.
async fn ask(context: &Arc<Context>, name: &ConnectionName, connection: &Connection) -> bool {
    let Some(provider) = context.catalogue.get(connection.provider.as_str()) else {
        return true;
    };
    let found = crate::integrations::get(context, name.environment, &name.integration).await;
    let Ok(Some(integration)) = found else {
        return true;
    };
    let input = driver::RenewInput {
        definition: &provider.definition,
        secrets: &integration.secrets,
        credentials: &connection.credentials,
        connection_config: &connection.connection_config,
        callback_url: "",
    };
    let now = context.ambient.now();
    let state = driver::introspect(&context.token_client, &input, &context.ambient).await;
    let buffer = i64::try_from(provider.definition.expiration_buffer_s()).unwrap_or(i64::MAX);
    let good_until = match state {
        Ok(TokenState::Alive { until }) => until
            .checked_sub(SignedDuration::from_secs(buffer))
            .unwrap_or(Timestamp::MIN),
        Ok(TokenState::Ended) => return false,
        Err(error) => {
            tracing::debug!(%error, connection = %connection.id, "a token could not be asked about");
            return false;
        }
    };
    if good_until <= now {
        return false;
    }
    let believed = now.checked_add(BELIEVED).unwrap_or(Timestamp::MAX);
    let until = good_until.min(believed);
    context
        .introspections
        .good
        .insert((connection.id, connection.generation), until);
    true
}
