//! Which targets may be reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

use crate::address::{Range, classify, embedded_v4};
use crate::error::{BlockReason, Error, InvalidUrl};

/// The operator's setting: which non-public addresses are open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PrivateNetworks {
    /// None.
    #[default]
    Deny,
    /// Loopback and private ranges (RFC 1918, unique local, shared 100.64/10); never link-local or cloud metadata
    /// addresses.
    AllowPrivate,
    /// Exactly these ranges, whatever they hold: the only way to open link-local or metadata addresses.
    Cidrs(Vec<IpNet>),
}

/// A setting that is neither a switch nor a list of ranges.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not true, false or a CIDR range like 10.0.0.0/8")]
pub struct InvalidNetworks(pub String);

impl FromStr for PrivateNetworks {
    type Err = InvalidNetworks;

    /// `true`, `false` (or nothing), or comma-separated CIDR ranges; a single address is a range of one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "" | "false" => return Ok(Self::Deny),
            "true" => return Ok(Self::AllowPrivate),
            _ => {}
        }
        let ranges = text.split(',').map(str::trim).filter(|range| !range.is_empty());
        let ranges = ranges.map(|range| parse_net(range).ok_or_else(|| InvalidNetworks(range.to_owned())));
        Ok(Self::Cidrs(ranges.collect::<Result<_, _>>()?))
    }
}

impl PrivateNetworks {
    /// Loopback only, what a demonstration on one machine needs.
    pub fn loopback() -> Self {
        let v4 = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
        let v6 = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);
        Self::Cidrs(vec![v4.into(), v6.into()])
    }
}

/// Which targets may be reached. Only http and https; only public addresses unless opened.
///
/// The host lists are checked once per connection, the ranges on literal addresses and on every address a name
/// resolves to; one bad address refuses the host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Policy(Arc<Rules>);

#[derive(Clone, Debug, Default)]
struct Rules {
    loopback: bool,
    private: bool,
    open: Vec<IpNet>,
    denied: Vec<HostPattern>,
    denied_nets: Vec<IpNet>,
    /// Every list must name the host.
    allowed: Vec<Vec<HostPattern>>,
}

impl Policy {
    /// Public addresses plus what the operator opened: proxied requests and webhooks.
    pub fn public(networks: &PrivateNetworks) -> Self {
        let rules = match networks {
            PrivateNetworks::Deny => Rules::default(),
            PrivateNetworks::AllowPrivate => Rules {
                loopback: true,
                private: true,
                ..Rules::default()
            },
            PrivateNetworks::Cidrs(open) => Rules {
                open: open.clone(),
                ..Rules::default()
            },
        };
        Self(Arc::new(rules))
    }

    /// As [`Policy::public`], with private ranges open by default, because self-hosted identity providers live
    /// there. Loopback, link-local and metadata stay closed unless the operator opened them.
    pub fn oauth(networks: &PrivateNetworks) -> Self {
        let Self(rules) = Self::public(networks);
        Self(Arc::new(Rules {
            private: true,
            ..Rules::clone(&rules)
        }))
    }

    /// Refuses these hosts too. `example.com` is that host alone, `.example.com` also its sub-domains; an address or
    /// a CIDR range also refuses names that resolve into it.
    #[must_use]
    pub fn deny<I: IntoIterator<Item: AsRef<str>>>(self, hosts: I) -> Self {
        let mut rules = Arc::unwrap_or_clone(self.0);
        for host in hosts {
            match parse_net(host.as_ref().trim_matches(['[', ']'])) {
                Some(net) => rules.denied_nets.push(net),
                None => rules
                    .denied
                    .push(HostPattern::parse(host.as_ref(), Subdomains::WhenDotted)),
            }
        }
        Self(Arc::new(rules))
    }

    /// Refuses every host not on this list, besides those that earlier lists refuse. `example.com` is that host and its
    /// sub-domains. The ranges still apply.
    #[must_use]
    pub fn allow_only<I: IntoIterator<Item: AsRef<str>>>(self, hosts: I) -> Self {
        let mut rules = Arc::unwrap_or_clone(self.0);
        let patterns = hosts
            .into_iter()
            .map(|host| HostPattern::parse(host.as_ref(), Subdomains::Always));
        rules.allowed.push(patterns.collect());
        Self(Arc::new(rules))
    }

    /// Checks what can be known without resolving the name: scheme, userinfo, lists, literal addresses. For refusing
    /// a setting early; the connector checks again.
    pub fn check_url(&self, url: &Url) -> Result<(), Error> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::InvalidUrl(InvalidUrl::Scheme));
        }
        let host = url.host_str().ok_or(Error::InvalidUrl(InvalidUrl::Host))?;
        self.check_host(host)
    }

    /// Checks a host as it stands in a URL: a name, an IPv4 address in any notation, or a bracketed IPv6 address.
    pub fn check_host(&self, host: &str) -> Result<(), Error> {
        let blocked = |reason| Error::Blocked {
            host: host.to_owned(),
            reason,
        };
        let parsed = parse_host(host).ok_or(Error::InvalidUrl(InvalidUrl::Host))?;
        let rules = &*self.0;
        if rules.denied.iter().any(|pattern| pattern.matches(&parsed)) {
            return Err(blocked(BlockReason::Denied));
        }
        let is_on = |list: &Vec<HostPattern>| list.iter().any(|pattern| pattern.matches(&parsed));
        if !rules.allowed.iter().all(is_on) {
            return Err(blocked(BlockReason::NotAllowed));
        }
        match literal(&parsed) {
            Some(address) => self.judge(address).map_err(blocked),
            None => Ok(()),
        }
        .and_then(|()| match well_known(&parsed) {
            // Loopback may be open in one family only: resolving picks what is open.
            Some(Known::Loopback) if self.loopback_addresses().next().is_none() => {
                Err(blocked(BlockReason::Address(Range::Loopback)))
            }
            Some(Known::Metadata) => self.judge(METADATA).map_err(blocked),
            _ => Ok(()),
        })
    }

    /// Checks one address.
    pub fn check_address(&self, host: &str, address: IpAddr) -> Result<(), Error> {
        self.judge(address).map_err(|reason| Error::Blocked {
            host: host.to_owned(),
            reason,
        })
    }

    /// The addresses that `host` has without asking DNS: literals in any notation, and `localhost` with the names
    /// under it (RFC 6761 §6.3).
    pub(crate) fn fixed_addresses(&self, host: &str) -> Option<Vec<IpAddr>> {
        let host = parse_host(host)?;
        if let Some(address) = literal(&host) {
            return Some(vec![address]);
        }
        matches!(well_known(&host), Some(Known::Loopback)).then(|| self.loopback_addresses().collect())
    }

    fn loopback_addresses(&self) -> impl Iterator<Item = IpAddr> {
        [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
            .into_iter()
            .filter(|address| self.judge(*address).is_ok())
    }

    fn judge(&self, address: IpAddr) -> Result<(), BlockReason> {
        let rules = &*self.0;
        // A wrapped IPv4 address is what the packets reach; ranges may be written in either form.
        let inner = match address {
            IpAddr::V6(v6) => embedded_v4(v6).map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        let within = |nets: &[IpNet]| {
            nets.iter()
                .any(|net| net.contains(&address) || inner.is_some_and(|inner| net.contains(&inner)))
        };
        if within(&rules.denied_nets) {
            return Err(BlockReason::Denied);
        }
        let range = classify(address);
        let open = match range {
            Range::Global => true,
            Range::Loopback => rules.loopback,
            Range::Private | Range::Shared => rules.private,
            _ => false,
        };
        if open || within(&rules.open) {
            Ok(())
        } else {
            Err(BlockReason::Address(range))
        }
    }
}

const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

enum Known {
    Loopback,
    Metadata,
}

/// Names judged as the address they stand for, whatever DNS or a hosts file says.
fn well_known(host: &Host<String>) -> Option<Known> {
    let Host::Domain(name) = host else { return None };
    if name == "localhost" || name.ends_with(".localhost") || name == "localhost.localdomain" {
        return Some(Known::Loopback);
    }
    let metadata = [
        "metadata.google.internal",
        "metadata.goog",
        "instance-data",
        "instance-data.ec2.internal",
    ];
    metadata.contains(&name.as_str()).then_some(Known::Metadata)
}

fn literal(host: &Host<String>) -> Option<IpAddr> {
    match host {
        Host::Ipv4(address) => Some(IpAddr::V4(*address)),
        Host::Ipv6(address) => Some(IpAddr::V6(*address)),
        Host::Domain(_) => None,
    }
}

/// Parses a host the way browsers do (octal, hexadecimal and short IPv4 forms, IDNA), without the trailing dot.
fn parse_host(host: &str) -> Option<Host<String>> {
    let host = host.trim_end_matches('.');
    Host::parse(host).ok()
}

fn parse_net(text: &str) -> Option<IpNet> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Subdomains {
    Always,
    WhenDotted,
}

#[derive(Clone, Debug)]
struct HostPattern {
    host: String,
    subdomains: bool,
}

impl HostPattern {
    fn parse(text: &str, subdomains: Subdomains) -> Self {
        let text = text.trim();
        let bare = text.strip_prefix("*.").or_else(|| text.strip_prefix('.'));
        let host = bare.unwrap_or(text);
        // An entry that is no valid host matches nothing that is one.
        let host = parse_host(host).map_or_else(|| host.to_ascii_lowercase(), |host| host.to_string());
        Self {
            host,
            subdomains: bare.is_some() || subdomains == Subdomains::Always,
        }
    }

    fn matches(&self, host: &Host<String>) -> bool {
        match host {
            Host::Domain(name) => {
                name == &self.host
                    || self.subdomains
                        && name
                            .strip_suffix(self.host.as_str())
                            .is_some_and(|rest| rest.ends_with('.'))
            }
            address => address.to_string() == self.host,
        }
    }
}

#[cfg(test)]
mod tests;
