//! Which client a call goes out by: the server's, or one that also keeps its environment's host lists. Connections
//! are never shared between policies, so each list has its own pool.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use patchbay_outbound::{Client, Policy};
use patchbay_types::EnvironmentId;
use patchbay_types::environments::{Environment, ProxySettings};

/// Environments whose own clients are kept; more are made anew when needed.
const MOST: usize = 1000;

#[derive(Debug)]
pub(crate) struct Egress {
    shared: Client,
    own: Mutex<HashMap<EnvironmentId, Own>>,
}

#[derive(Debug)]
struct Own {
    denied: Vec<String>,
    allowed: Vec<String>,
    client: Client,
}

impl Egress {
    pub(crate) fn new(shared: Client) -> Self {
        Self {
            shared,
            own: Mutex::default(),
        }
    }

    pub(crate) fn client(&self, environment: &Environment) -> Client {
        let ProxySettings {
            deny_hosts,
            allow_hosts,
            ..
        } = &environment.settings.proxy;
        if deny_hosts.is_empty() && allow_hosts.is_empty() {
            return self.shared.clone();
        }
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = own.get(&environment.id)
            && known.denied == *deny_hosts
            && known.allowed == *allow_hosts
        {
            return known.client.clone();
        }
        if own.len() >= MOST {
            own.clear();
        }
        let client = self
            .shared
            .with_policy(|policy| narrowed(policy, deny_hosts, allow_hosts));
        own.insert(
            environment.id,
            Own {
                denied: deny_hosts.clone(),
                allowed: allow_hosts.clone(),
                client: client.clone(),
            },
        );
        client
    }
}

fn narrowed(policy: Policy, denied: &[String], allowed: &[String]) -> Policy {
    let policy = policy.deny(denied);
    if allowed.is_empty() {
        policy
    } else {
        policy.allow_only(allowed)
    }
}
