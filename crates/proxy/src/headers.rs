//! Which headers pass.

use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONNECTION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

/// Hop-by-hop headers (RFC 9110 §7.6.1): they belong to one connection and never pass. `Trailer` is not among them:
/// it announces fields that do pass, and a server sends only what was announced.
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What the caller receives of an upstream's headers: all but hop-by-hop ones, those `Connection` names, and
/// `access-control-*`, which speaks about the upstream's origin and not about ours (proxy §7).
pub(crate) fn relayed(mut upstream: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = upstream
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    // Most responses have few of them: looking once at what is there is cheaper than looking for each.
    let stays = |name: &HeaderName| {
        HOP_BY_HOP.contains(name)
            || named.contains(name)
            || name.as_str() == "keep-alive"
            || name.as_str().starts_with("access-control-")
    };
    let staying: Vec<HeaderName> = upstream.keys().filter(|name| stays(name)).cloned().collect();
    for name in &staying {
        upstream.remove(name);
    }
    upstream
}

/// What the caller says of the answers it takes: that is what the upstream should send, for its bytes come back as
/// they are.
pub(crate) fn wishes(caller: &HeaderMap) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
    let takes_trailers = caller
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"));
    let trailers = takes_trailers.then(|| (TE, HeaderValue::from_static("trailers")));
    let accepted = [ACCEPT, ACCEPT_ENCODING].into_iter();
    accepted.flat_map(|name| all(caller, name)).chain(trailers)
}

/// Every value of a header.
pub(crate) fn all(
    caller: &HeaderMap,
    name: HeaderName,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> + '_ {
    let values = caller.get_all(&name).iter();
    values.map(move |value| (name.clone(), value.clone()))
}

/// Headers that frame a message: the transport writes them, a caller's wish cannot.
pub(crate) fn is_framing(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
        || *name == TRAILER
        || matches!(name.as_str(), "keep-alive" | "host" | "content-length" | "expect")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn connection_bound_headers_stay_behind() {
        let mut upstream = HeaderMap::new();
        for (name, value) in [
            ("trailer", "x-sum"),
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("access-control-allow-origin", "https://upstream.example"),
            ("link", "<a>; rel=next"),
            ("set-cookie", "a=1"),
        ] {
            upstream.append(
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_static(value),
            );
        }
        upstream.append("set-cookie", HeaderValue::from_static("b=2"));
        let relayed = relayed(upstream);
        let mut names: Vec<_> = relayed
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        // The order of one header's values has a meaning, the order of different headers has none (RFC 9110 §5.3).
        names.sort_by_key(|(name, _)| *name);
        assert_eq!(
            names,
            [
                ("link", "<a>; rel=next"),
                ("set-cookie", "a=1"),
                ("set-cookie", "b=2"),
                ("trailer", "x-sum")
            ]
        );
    }

    proptest! {
        #[test]
        fn all_other_headers_pass_unchanged(
            pairs in prop::collection::vec(("x-[a-z]{1,8}", "[ -~]{0,20}"), 0..20),
        ) {
            let mut upstream = HeaderMap::new();
            for (name, value) in &pairs {
                upstream.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
            }
            prop_assert_eq!(relayed(upstream.clone()), upstream);
        }
    }
}
