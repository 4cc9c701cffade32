//! Who is calling, seen through the proxies we trust.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, header};
use ipnet::IpNet;

/// The networks whose `X-Forwarded-*` headers are believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

/// The caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub ip: IpAddr,
    /// `http` or `https`, as it called.
    pub scheme: Scheme,
    /// The host it called, with port if it named one.
    pub host: Option<String>,
}

/// The scheme a caller used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// TLS, ended before us.
    Https,
}

impl TrustedProxies {
    /// Trusts `networks`; none by default.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// The caller of a request that arrived from `peer`.
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> Client {
        let peer = peer.ip().to_canonical();
        let host = || text(headers, &header::HOST).map(str::to_owned);
        if !self.trusts(peer) {
            return Client {
                ip: peer,
                scheme: Scheme::Http,
                host: host(),
            };
        }
        let first = |name| {
            text(headers, name)
                .and_then(|list| list.split(',').next())
                .map(str::trim)
        };
        let https = first("x-forwarded-proto").is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        Client {
            ip: self.forwarded_for(headers).unwrap_or(peer),
            scheme: if https { Scheme::Https } else { Scheme::Http },
            host: first("x-forwarded-host")
                .filter(|host| !host.is_empty())
                .map(str::to_owned)
                .or_else(host),
        }
    }

    fn trusts(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// The nearest address that is not one of ours: what is left of it could have been made up.
    fn forwarded_for(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let lists: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .map(|value| value.to_str().unwrap_or_default())
            .collect();
        let mut nearest = None;
        for hop in lists.iter().rev().flat_map(|list| list.rsplit(',')) {
            let Some(ip) = address(hop.trim()) else { break };
            nearest = Some(ip);
            if !self.trusts(ip) {
                break;
            }
        }
        nearest
    }
}

/// An address, perhaps with a port or in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let ip = text.parse::<IpAddr>().ok();
    let ip = ip.or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    ip.or_else(bracketed).map(|ip: IpAddr| ip.to_canonical())
}

fn text<N: http::header::AsHeaderName>(headers: &HeaderMap, name: N) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn client(peer: &str, headers: &[(&'static str, &'static str)]) -> Client {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        proxies.client(SocketAddr::new(peer.parse().unwrap(), 1), &map)
    }

    #[test]
    fn forwarded_headers_count_only_from_trusted_networks() {
        let forged = [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("host", "h:1"),
        ];
        let stranger = client("203.0.113.9", &forged);
        assert_eq!(stranger.ip.to_string(), "203.0.113.9");
        assert_eq!(
            (stranger.scheme, stranger.host.as_deref()),
            (Scheme::Http, Some("h:1"))
        );
        let trusted = client("10.1.1.1", &forged);
        assert_eq!(
            (trusted.ip.to_string().as_str(), trusted.scheme),
            ("1.2.3.4", Scheme::Https)
        );
    }

    #[test]
    fn the_nearest_untrusted_hop_is_the_client() {
        for (lists, ip) in [
            (&["6.6.6.6, 1.2.3.4, 10.0.0.7"][..], "1.2.3.4"),
            (&["6.6.6.6", "1.2.3.4,10.0.0.7"], "1.2.3.4"),
            (&["10.0.0.9"], "10.0.0.9"),
            (&["junk, 10.0.0.9"], "10.0.0.9"),
            (&["junk"], "10.1.1.1"),
            (&[], "10.1.1.1"),
            (&["1.2.3.4:5678"], "1.2.3.4"),
            (&["[2001:db8::1]:443"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["::ffff:1.2.3.4"], "1.2.3.4"),
        ] {
            let headers: Vec<_> = lists.iter().map(|list| ("x-forwarded-for", *list)).collect();
            assert_eq!(client("10.1.1.1", &headers).ip.to_string(), ip, "{lists:?}");
        }
        assert_eq!(
            client("::ffff:10.1.1.1", &[("x-forwarded-for", "1.2.3.4")])
                .ip
                .to_string(),
            "1.2.3.4"
        );
    }
}
