//! Name look-up: asks the system, checks every answer against the policy, and pins what was checked.

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::Name;
use jiff::Timestamp;
use patchbay_ambient::Clock;
use tower::Service;

use crate::error::Error;
use crate::policy::Policy;

/// Turns names into addresses. The system's resolver in production, a table in tests.
pub trait Resolve: Send + Sync + Debug {
    /// All addresses of `host`.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsFailure>>;
}

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsFailure {
    /// There is no such name, or it has no address.
    NotFound,
    /// The name servers could not be asked.
    Temporary,
}

impl DnsFailure {
    /// `ENOTFOUND` or `EAI_AGAIN`.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotFound => "ENOTFOUND",
            Self::Temporary => "EAI_AGAIN",
        }
    }
}

/// `getaddrinfo`: honours hosts files, search domains and whatever else the system has.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsFailure>> {
        Box::pin(async move {
            match tokio::net::lookup_host((host, 0)).await {
                Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
                // The standard library keeps only the text: glibc, macOS and musl say EAI_AGAIN like this.
                Err(error) => {
                    let text = error.to_string().to_ascii_lowercase();
                    if text.contains("temporar") || text.contains("try again") {
                        Err(DnsFailure::Temporary)
                    } else {
                        Err(DnsFailure::NotFound)
                    }
                }
            }
        })
    }
}

/// How long a checked answer is used without asking again.
const PIN: Duration = Duration::from_secs(30);
/// How many names are remembered.
const CAPACITY: usize = 1000;

/// The resolver inside the connector: only addresses that the policy permits come out.
#[derive(Clone, Debug)]
pub(crate) struct GuardedResolver(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    policy: Policy,
    resolver: Arc<dyn Resolve>,
    clock: Arc<dyn Clock>,
    pinned: Mutex<HashMap<String, Pinned>>,
}

#[derive(Clone, Debug)]
struct Pinned {
    until: Timestamp,
    addresses: Arc<[IpAddr]>,
}

impl GuardedResolver {
    pub(crate) fn new(policy: Policy, resolver: Arc<dyn Resolve>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner {
            policy,
            resolver,
            clock,
            pinned: Mutex::default(),
        }))
    }

    /// What it is made of, for one with another policy.
    pub(crate) fn parts(&self) -> (Arc<dyn Resolve>, Arc<dyn Clock>) {
        (Arc::clone(&self.0.resolver), Arc::clone(&self.0.clock))
    }

    /// Drops the pinned answer of `host`, because connecting to it failed.
    pub(crate) fn forget(&self, host: &str) {
        self.pinned().remove(host);
    }

    async fn look_up(&self, host: &str) -> Result<Arc<[IpAddr]>, Error> {
        let Inner {
            policy,
            resolver,
            clock,
            ..
        } = &*self.0;
        let now = clock.now();
        if let Some(pinned) = self.pinned().get(host)
            && pinned.until > now
        {
            return Ok(Arc::clone(&pinned.addresses));
        }
        let addresses = if let Some(fixed) = policy.fixed_addresses(host) {
            fixed
        } else {
            let failed = |failure| Error::Dns {
                host: host.to_owned(),
                failure,
            };
            let addresses = resolver.resolve(host).await.map_err(failed)?;
            if addresses.is_empty() {
                return Err(failed(DnsFailure::NotFound));
            }
            addresses
        };
        for address in &addresses {
            policy.check_address(host, *address)?;
        }
        let addresses: Arc<[IpAddr]> = addresses.into();
        let mut pinned = self.pinned();
        if pinned.len() >= CAPACITY {
            pinned.retain(|_, entry| entry.until > now);
        }
        if pinned.len() >= CAPACITY {
            pinned.clear();
        }
        let until = now.checked_add(PIN).unwrap_or(Timestamp::MAX);
        pinned.insert(
            host.to_owned(),
            Pinned {
                until,
                addresses: Arc::clone(&addresses),
            },
        );
        Ok(addresses)
    }

    fn pinned(&self) -> std::sync::MutexGuard<'_, HashMap<String, Pinned>> {
        self.0.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let addresses = this.look_up(name.as_str()).await?;
            // The connector fills in the port.
            let addresses: Vec<_> = addresses
                .iter()
                .map(|address| SocketAddr::new(*address, 0))
                .collect();
            Ok(addresses.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use patchbay_ambient::TestClock;

    use super::*;
    use crate::error::BlockReason;
    use crate::policy::PrivateNetworks;

    #[derive(Debug, Default)]
    struct Scripted {
        asked: AtomicUsize,
        answers: Mutex<Vec<Result<Vec<IpAddr>, DnsFailure>>>,
    }

    impl Resolve for Scripted {
        fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsFailure>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let answer = self.answers.lock().unwrap().remove(0);
            Box::pin(std::future::ready(answer))
        }
    }

    fn guarded(answers: Vec<Result<Vec<IpAddr>, DnsFailure>>) -> (GuardedResolver, Arc<Scripted>, TestClock) {
        let scripted = Arc::new(Scripted {
            answers: Mutex::new(answers),
            ..Scripted::default()
        });
        let clock = TestClock::default();
        let resolver: Arc<dyn Resolve> = scripted.clone();
        let policy = Policy::public(&PrivateNetworks::Deny);
        (
            GuardedResolver::new(policy, resolver, Arc::new(clock.clone())),
            scripted,
            clock,
        )
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_checked_answer_is_pinned_for_thirty_seconds() {
        let (resolver, scripted, clock) = guarded(vec![Ok(ips(&["1.1.1.1"])), Ok(ips(&["8.8.8.8"]))]);
        for _ in 0..3 {
            assert_eq!(
                *resolver.look_up("api.example.com").await.unwrap(),
                ips(&["1.1.1.1"])
            );
            clock.advance(Duration::from_secs(9));
        }
        assert_eq!(scripted.asked.load(Ordering::SeqCst), 1);
        clock.advance(Duration::from_secs(3));
        assert_eq!(
            *resolver.look_up("api.example.com").await.unwrap(),
            ips(&["8.8.8.8"])
        );
    }

    #[tokio::test]
    async fn a_name_that_turns_to_a_private_address_is_refused_when_asked_again() {
        let (resolver, _, clock) = guarded(vec![Ok(ips(&["1.1.1.1"])), Ok(ips(&["10.0.0.1"]))]);
        resolver.look_up("rebind.example.com").await.unwrap();
        clock.advance(Duration::from_secs(31));
        assert!(
            resolver
                .look_up("rebind.example.com")
                .await
                .unwrap_err()
                .is_blocked()
        );
    }

    #[tokio::test]
    async fn one_forbidden_address_among_many_refuses_the_name_without_telling_it() {
        let (resolver, _, _) = guarded(vec![Ok(ips(&["1.1.1.1", "2606:4700::1111", "169.254.169.254"]))]);
        let error = resolver.look_up("mixed.example.com").await.unwrap_err();
        assert!(
            matches!(
                &error,
                Error::Blocked {
                    reason: BlockReason::Address(crate::Range::Metadata),
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(!error.to_string().contains("169.254"), "{error}");
    }

    #[tokio::test]
    async fn unknown_names_and_silent_name_servers_are_told_apart_and_not_remembered() {
        let (resolver, scripted, _) = guarded(vec![
            Err(DnsFailure::NotFound),
            Err(DnsFailure::Temporary),
            Ok(vec![]),
            Ok(ips(&["1.1.1.1"])),
        ]);
        let codes = [
            resolver.look_up("x.example").await.unwrap_err().code(),
            resolver.look_up("x.example").await.unwrap_err().code(),
            resolver.look_up("x.example").await.unwrap_err().code(),
        ];
        assert_eq!(codes, ["ENOTFOUND", "EAI_AGAIN", "ENOTFOUND"]);
        resolver.look_up("x.example").await.unwrap();
        resolver.forget("x.example");
        assert_eq!(scripted.asked.load(Ordering::SeqCst), 4);
    }
}
