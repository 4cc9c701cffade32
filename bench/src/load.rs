//! The load generator: closed loop, a fixed number of connections, each with one request under way at a time.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use patchbay_ambient::Ambient;
use tokio::time::Instant;

use crate::wire::Wire;

/// What to send.
#[derive(Clone, Debug)]
pub struct Plan {
    /// To whom.
    pub address: SocketAddr,
    /// Whole requests, sent in turn; each client begins at another.
    pub requests: std::sync::Arc<Vec<Vec<u8>>>,
    /// Connections.
    pub clients: usize,
    /// Not measured.
    pub warm_up: Duration,
    /// Measured.
    pub time: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Requests answered with 200 within the measured time.
    pub requests: u64,
    /// Measured time in seconds.
    pub seconds: f64,
    /// Half of the requests took at most this long.
    pub p50: Duration,
    /// 99 of 100 took at most this long.
    pub p99: Duration,
}

impl Measured {
    /// Requests a second.
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

/// Loads the server. `began` is called when the warm-up is over.
///
/// # Errors
/// An answer that is not 200, or a broken connection: such a run measures nothing.
pub async fn run(plan: &Plan, ambient: &Ambient, began: impl FnOnce()) -> anyhow::Result<Measured> {
    let mut wires = Vec::with_capacity(plan.clients);
    for _ in 0..plan.clients {
        wires.push(Wire::connect(plan.address).await?);
    }
    let from = Instant::now() + plan.warm_up;
    let until = from + plan.time;
    let stride = plan.requests.len() / plan.clients.max(1);
    let mut clients = Vec::with_capacity(plan.clients);
    for (number, wire) in wires.into_iter().enumerate() {
        let requests = plan.requests.clone();
        let client = converse(wire, requests, number * stride, from, until);
        clients.push(ambient.tasks.spawn(client));
    }
    tokio::time::sleep_until(from).await;
    began();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await??);
    }
    ensure!(!times.is_empty(), "no request was answered in time");
    times.sort_unstable();
    let at = |share: usize| Duration::from_nanos(times[(times.len() - 1) * share / 100]);
    Ok(Measured {
        requests: times.len() as u64,
        seconds: plan.time.as_secs_f64(),
        p50: at(50),
        p99: at(99),
    })
}

/// Times of the measured requests, in nanoseconds.
async fn converse(
    mut wire: Wire,
    requests: std::sync::Arc<Vec<Vec<u8>>>,
    mut next: usize,
    from: Instant,
    until: Instant,
) -> anyhow::Result<Vec<u64>> {
    let mut times = Vec::new();
    let mut now = Instant::now();
    while now < until {
        let request = &requests[next % requests.len()];
        next += 1;
        wire.send(request).await?;
        let status = wire.status().await?;
        if status != 200 {
            wire.send(request).await?;
            let answer = wire.answer().await.context("after an answer that was not 200")?;
            anyhow::bail!(
                "status {status}; again: {} {}",
                answer.head,
                String::from_utf8_lossy(&answer.body)
            );
        }
        let end = Instant::now();
        if now >= from && end <= until {
            times.push(u64::try_from(end.duration_since(now).as_nanos()).unwrap_or(u64::MAX));
        }
        now = end;
    }
    Ok(times)
}
