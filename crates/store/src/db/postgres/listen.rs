//! Notices of other nodes.
//!
//! A dedicated connection listens. Whether it really hears is tested by a probe sent through the pool, at first
//! and then every half minute: through a pooler `LISTEN` succeeds and nothing ever arrives, and a connection may
//! die in silence. Whenever notices may have been missed (at first, after a reconnect) subscribers get
//! [`super::super::Topic::Everything`].
//!
//! Where listening does not work the fallback polls `pg_current_snapshot()`: its text changes whenever a
//! transaction that wrote anything has begun or ended, so it misses no commit, needs no table and costs writers
//! nothing. Subscribers then get `Everything` after any write in the cluster, our own included.
//!
//! Waits here are real time: they are about the network and other processes.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::{Context, Notice};
use super::session::CHANNEL;

const PROBE_EVERY: Duration = Duration::from_secs(30);
const PROBE_WAIT: Duration = Duration::from_secs(3);
const POLL_EVERY: Duration = Duration::from_millis(500);
/// Polls before listening is tried again, unless a pooler is known to be there.
const POLLS: u32 = 120;
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_MOST: Duration = Duration::from_secs(5);

pub(super) struct Listener {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
    pub(super) pool: Pool,
    pub(super) context: Arc<Context>,
    pub(super) pooled: bool,
}

enum Silence {
    /// Connected, but the probe did not arrive.
    Deaf,
    /// The connection broke or was never made.
    Lost,
}

impl Listener {
    /// Runs until the pool is closed.
    pub(super) async fn run(self) {
        let mut pause = RECONNECT_FIRST;
        while !self.pool.is_closed() {
            if self.pooled {
                self.poll(u32::MAX).await;
                continue;
            }
            match self.listen(&mut pause).await {
                Silence::Deaf => {
                    tracing::warn!("LISTEN does not work with this Postgres; polling for changes instead");
                    self.poll(POLLS).await;
                }
                Silence::Lost => {
                    sleep(pause).await;
                    pause = (pause * 2).min(RECONNECT_MOST);
                }
            }
        }
    }

    async fn listen(&self, pause: &mut Duration) -> Silence {
        let Ok((client, mut connection)) = self.config.connect(self.tls.clone()).await else {
            return Silence::Lost;
        };
        let (sender, mut heard) = mpsc::unbounded_channel();
        // The connection works only while it is polled; this ends with the client or the connection.
        self.context.ambient.tasks.spawn(async move {
            while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message
                    && sender.send(notification.payload().to_owned()).is_err()
                {
                    return;
                }
            }
        });
        if client.batch_execute(&format!("LISTEN {CHANNEL}")).await.is_err() {
            return Silence::Lost;
        }
        if let Err(silence) = self.probe(&mut heard).await {
            return silence;
        }
        *pause = RECONNECT_FIRST;
        self.context.hub.publish([Notice::everything()]);
        self.relay(&client, &mut heard).await
    }

    async fn relay(&self, _client: &Client, heard: &mut mpsc::UnboundedReceiver<String>) -> Silence {
        while !self.pool.is_closed() {
            match timeout(PROBE_EVERY, heard.recv()).await {
                Ok(Some(payload)) => self.publish(&payload),
                Ok(None) => return Silence::Lost,
                Err(_) => {
                    if let Err(silence) = self.probe(heard).await {
                        return silence;
                    }
                }
            }
        }
        Silence::Lost
    }

    /// Sends ourselves a word through the pool and waits for it; what else arrives meanwhile is relayed.
    async fn probe(&self, heard: &mut mpsc::UnboundedReceiver<String>) -> Result<(), Silence> {
        let word = format!("probe {}", self.context.hub.node());
        let client = self.pool.get().await.map_err(|_| Silence::Lost)?;
        let sent = client
            .batch_execute(&format!("SELECT pg_notify('{CHANNEL}', '{word}')"))
            .await;
        drop(client);
        sent.map_err(|_| Silence::Lost)?;
        let arrival = async {
            loop {
                match heard.recv().await {
                    None => return Err(Silence::Lost),
                    Some(payload) if payload == word => return Ok(()),
                    Some(payload) => self.publish(&payload),
                }
            }
        };
        timeout(PROBE_WAIT, arrival).await.unwrap_or(Err(Silence::Deaf))
    }

    fn publish(&self, payload: &str) {
        if payload.starts_with("probe ") {
            return;
        }
        self.context.hub.publish(self.context.hub.decode(payload));
    }

    async fn poll(&self, polls: u32) {
        let mut seen = None;
        for _ in 0..polls {
            if self.pool.is_closed() {
                return;
            }
            let snapshot = self.snapshot().await;
            if snapshot.is_some() && snapshot != seen {
                seen = snapshot;
                self.context.hub.publish([Notice::everything()]);
            }
            sleep(POLL_EVERY).await;
        }
    }

    async fn snapshot(&self) -> Option<String> {
        let client = self.pool.get().await.ok()?;
        let rows = client
            .query_typed("SELECT pg_current_snapshot()::text", &[])
            .await
            .ok()?;
        rows.first()?.try_get(0).ok()
    }
}
