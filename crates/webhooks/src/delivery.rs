//! The deliverer: claims due deliveries, sends them signed, records what came of it.
//!
//! A claim is a lease on a row: a node that dies leaves it to end, and another node sends the delivery again, so a
//! receiver may see one twice (same `webhook-id`), never zero times. Wake-ups cannot be lost: the deliverer
//! subscribes before it looks, and looks again on a timer.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use http::{HeaderValue, Method, StatusCode};
use patchbay_connections::{Context, environments};
use patchbay_outbound::{Client, FetchRequest, Limits, backoff};
use patchbay_store::db::{DbError, Notice, Topic};
use patchbay_store::deliveries::{self, Attempt, AttemptOutcome};
use patchbay_types::Timestamp;
use patchbay_types::deliveries::Delivery;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, Semaphore};
use url::Url;

use crate::schedule::{WAITS, wait_after};
use crate::sign::sign;

/// What the operator may tune.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time for one attempt, connecting included.
    pub timeout: Duration,
    /// Attempts under way at once on this node.
    pub concurrency: usize,
    /// Waits after each failed attempt; their end is the delivery's.
    pub schedule: Vec<Duration>,
}

impl Default for Settings {
    /// 20 s (webhooks §B5), 64 at once, about three days.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(20),
            concurrency: 64,
            schedule: WAITS.to_vec(),
        }
    }
}

/// Looks even if nothing woke it: covers notices lost and claims of dead nodes that ended.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Sends what the outbox holds.
#[derive(Debug)]
pub struct Deliverer {
    context: Arc<Context>,
    client: Client,
    settings: Settings,
    free: Arc<Semaphore>,
    /// An attempt was put off: the next look may have to be earlier than planned.
    put_off: Notify,
    holder: String,
}

impl Deliverer {
    /// A deliverer of this node; `client` carries the webhooks' address policy.
    pub fn new(context: Arc<Context>, client: Client, settings: Settings) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(settings.concurrency));
        let holder = format!("{}/{}", context.settings.node, context.ambient.entropy.uuid());
        Arc::new(Self {
            context,
            client,
            settings,
            free,
            put_off: Notify::new(),
            holder,
        })
    }

    /// Delivers in the background until shutdown. Attempts under way then are finished, not cut.
    pub fn start(self: &Arc<Self>) {
        let deliverer = self.clone();
        self.context
            .ambient
            .tasks
            .spawn(async move { deliverer.run().await });
    }

    async fn run(self: Arc<Self>) {
        let stopping = self.context.ambient.tasks.stopping();
        let mut notices = self.context.store.subscribe();
        while !stopping.is_cancelled() {
            // A permit first: rows claimed without one would wait inside their claim.
            let Ok(permit) = self.free.clone().acquire_owned().await else {
                return;
            };
            drop(permit);
            let claimed = match self.claim().await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::warn!(%error, "the outbox cannot be read, trying again");
                    Vec::new()
                }
            };
            if claimed.is_empty() {
                let due = self.next_due().await;
                tokio::select! {
                    () = woken(&mut notices) => {}
                    () = self.put_off.notified() => {}
                    () = self.context.ambient.clock.sleep_until(due) => {}
                    () = stopping.cancelled() => return,
                }
                continue;
            }
            for delivery in claimed {
                let Ok(permit) = self.free.clone().acquire_owned().await else {
                    return;
                };
                let deliverer = self.clone();
                self.context.ambient.tasks.spawn(async move {
                    deliverer.attempt(&delivery).await;
                    drop(permit);
                });
            }
        }
    }

    async fn claim(&self) -> Result<Vec<Delivery>, DbError> {
        let free = u32::try_from(self.free.available_permits())
            .unwrap_or(u32::MAX)
            .max(1);
        let holder = self.holder.clone();
        // Twice the time an attempt may take: a claim must not end under the hands of a slow but living node.
        let length = self.settings.timeout * 2 + Duration::from_secs(10);
        self.context
            .store
            .write(move |tx| {
                Box::pin(async move {
                    let until = tx.now().checked_add(length).unwrap_or(Timestamp::MAX);
                    deliveries::claim_due(tx, free, &holder, until).await
                })
            })
            .await
    }

    async fn next_due(&self) -> Timestamp {
        let latest = self
            .context
            .ambient
            .now()
            .checked_add(LOOK_EVERY)
            .unwrap_or(Timestamp::MAX);
        let next = self
            .context
            .store
            .read(|tx| Box::pin(async move { deliveries::next_due(tx).await }))
            .await;
        next.ok().flatten().map_or(latest, |next| next.min(latest))
    }

    /// One attempt of a claimed delivery.
    async fn attempt(&self, delivery: &Delivery) {
        let began = self.context.ambient.now();
        let sent = self.send(delivery, began).await;
        let now = self.context.ambient.now();
        let number = u32::try_from(delivery.attempts).unwrap_or(0).saturating_add(1);
        let retry = |after: Option<Duration>| match wait_after(
            &self.settings.schedule,
            number,
            after,
            &*self.context.ambient.entropy,
        ) {
            Some(wait) => AttemptOutcome::RetryAt(now.checked_add(wait).unwrap_or(Timestamp::MAX)),
            None => AttemptOutcome::Dead,
        };
        let (outcome, status, error) = match sent {
            Ok(answer) if answer.status.is_success() => {
                (AttemptOutcome::Delivered, Some(answer.status), None)
            }
            // The receiver says that nobody lives here any more.
            Ok(answer) if answer.status == StatusCode::GONE => (
                AttemptOutcome::Dead,
                Some(answer.status),
                Some("the receiver answered 410 Gone".to_owned()),
            ),
            Ok(answer) => {
                let words = format!("the receiver answered {}", answer.status.as_u16());
                (retry(answer.retry_after), Some(answer.status), Some(words))
            }
            Err(NotSent::Never(words)) => (AttemptOutcome::Dead, None, Some(words)),
            Err(NotSent::Perhaps(words)) => (retry(None), None, Some(words)),
        };
        let label = match outcome {
            AttemptOutcome::Delivered => "delivered",
            AttemptOutcome::RetryAt(_) => "failed",
            AttemptOutcome::Dead => "dead",
        };
        metrics::counter!("patchbay_webhook_attempts_total", "outcome" => label).increment(1);
        if outcome == AttemptOutcome::Dead {
            tracing::warn!(delivery = %delivery.id, kind = delivery.kind, error, "a webhook was given up");
        }
        self.record(
            delivery,
            outcome,
            status,
            error,
            now.duration_since(began).as_millis(),
        )
        .await;
    }

    async fn record(
        &self,
        delivery: &Delivery,
        outcome: AttemptOutcome,
        status: Option<StatusCode>,
        error: Option<String>,
        millis: i128,
    ) {
        let put_off = matches!(outcome, AttemptOutcome::RetryAt(_));
        let noted = Arc::new((delivery.id.clone(), self.holder.clone(), outcome, error));
        // Noted a second time rather than sent a second time.
        let recorded = self
            .context
            .store
            .write_retry(move |tx| {
                let noted = Arc::clone(&noted);
                Box::pin(async move {
                    let (id, holder, outcome, error) = &*noted;
                    let attempt = Attempt {
                        id,
                        holder,
                        outcome: outcome.clone(),
                        status: status.map(|status| i32::from(status.as_u16())),
                        error: error.as_deref(),
                        duration_ms: i64::try_from(millis).unwrap_or(i64::MAX),
                    };
                    deliveries::record_attempt(tx, &attempt).await
                })
            })
            .await;
        if put_off {
            self.put_off.notify_one();
        }
        if let Err(error) = recorded {
            // The claim will end and the delivery will be sent again: at least once, as promised.
            tracing::warn!(%error, delivery = %delivery.id, "a webhook attempt was not recorded");
        }
    }

    async fn send(&self, delivery: &Delivery, now: Timestamp) -> Result<Answer, NotSent> {
        let url: Url = delivery
            .url
            .parse()
            .map_err(|error| NotSent::Never(format!("the target is no URL: {error}")))?;
        let environment = environments::get(&self.context, delivery.environment_id)
            .await
            .map_err(|error| NotSent::Perhaps(error.to_string()))?
            .ok_or_else(|| NotSent::Never("the environment was deleted".to_owned()))?;
        let seconds = now.as_second();
        let signatures = sign(
            environment.signing_keys(now),
            &delivery.id.0,
            seconds,
            &delivery.body,
        );
        let mut request = FetchRequest::new(Method::POST, url)
            .header("content-type", HeaderValue::from_static("application/json"))
            .header(
                "user-agent",
                HeaderValue::from_static(concat!("Patchbay/", env!("CARGO_PKG_VERSION"))),
            )
            .limits(Limits {
                body: 64 * 1024,
                total: self.settings.timeout,
                redirects: 5,
            });
        let headers = [
            ("x-nango-signature", signatures.legacy),
            ("x-nango-hmac-sha256", signatures.hmac),
            ("webhook-id", delivery.id.0.clone()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", signatures.standard),
        ];
        for (name, value) in headers {
            let value = HeaderValue::try_from(value)
                .map_err(|_| NotSent::Never(format!("{name} cannot be written as a header")))?;
            request = request.header(name, value);
        }
        request.body = delivery.body.clone().into();
        match self.client.fetch(request).await {
            Ok(response) => {
                let retry_after = backoff::retry_after(&response.headers, self.context.ambient.now());
                Ok(Answer {
                    status: response.status,
                    retry_after,
                })
            }
            Err(error) if error.is_blocked() => Err(NotSent::Never(error.to_string())),
            // The answer to a webhook is not read: one too large to hold is still an answer.
            Err(error) => Err(NotSent::Perhaps(error.to_string())),
        }
    }
}

struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
}

enum NotSent {
    /// No later attempt can succeed.
    Never(String),
    Perhaps(String),
}

/// Returns when something may have become due; drains what came together.
async fn woken(notices: &mut broadcast::Receiver<Notice>) {
    loop {
        match notices.recv().await {
            Ok(notice) if !matches!(notice.topic, Topic::Deliveries | Topic::Everything) => {}
            Ok(_) | Err(RecvError::Lagged(_)) => break,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
    while notices
        .recv()
        .now_or_never()
        .is_some_and(|received| !matches!(received, Err(RecvError::Closed)))
    {}
}
