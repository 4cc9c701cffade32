//! What kind of place an IP address is. Sources: the IANA special-purpose address registries for IPv4 and IPv6
//! (RFC 6890 and its updates), the multicast and reserved blocks, and the metadata addresses cloud vendors document.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kind of range an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Range {
    /// Ordinary public unicast.
    Global,
    /// `0.0.0.0/8`, `::`: "this host"; connecting to it reaches loopback.
    Unspecified,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// `10/8`, `172.16/12`, `192.168/16`, `fc00::/7`, `fec0::/10`.
    Private,
    /// `100.64.0.0/10`: carrier NAT, also used by overlay networks and clusters.
    Shared,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// Addresses at which clouds hand out a machine's credentials.
    Metadata,
    /// `192.0.2/24`, `198.51.100/24`, `203.0.113/24`, `2001:db8::/32`, `3fff::/20`.
    Documentation,
    /// `198.18.0.0/15`, `2001:2::/48`.
    Benchmarking,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// Tunnels whose end cannot be judged: Teredo `2001::/32`, 6to4 relays `192.88.99/24`, local NAT64
    /// `64:ff9b:1::/48`.
    Tunnel,
    /// Everything set aside: `192.0.0/24`, `240/4`, `100::/64`, `2001::/23`, `5f00::/16`, all that is not `2000::/3`.
    Reserved,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "a public address",
            Self::Unspecified => "an unspecified address",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::Shared => "a shared (carrier NAT) address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud metadata address",
            Self::Documentation => "a documentation address",
            Self::Benchmarking => "a benchmarking address",
            Self::Multicast => "a multicast address",
            Self::Tunnel => "a tunnel address",
            Self::Reserved => "a reserved address",
        })
    }
}

/// The range of `address`. An IPv4 address inside an IPv6 one (mapped, compatible, translated, NAT64, 6to4) is
/// judged as the IPv4 address.
pub fn classify(address: IpAddr) -> Range {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => embedded_v4(address).map_or_else(|| classify_v6(address), classify_v4),
    }
}

/// The IPv4 address that packets to `address` really go to, if it only wraps one.
pub(crate) fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let joined = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match segments {
        // `::` and `::1` are themselves, the rest of ::/96 is IPv4-compatible.
        [0, 0, 0, 0, 0, 0, 0, 0..=1] => None,
        // ::/96, ::ffff:0:0/96 mapped, ::ffff:0:0:0/96 translated, 64:ff9b::/96 NAT64.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        // 2002::/16 6to4.
        | [0x2002, high, low, ..] => joined(high, low),
        _ => None,
    }
}

/// Beyond link-local, where every 169.254 address is judged anyway: Azure's wire server, Oracle's and Alibaba's.
const METADATA_V4: [Ipv4Addr; 5] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(100, 100, 100, 200),
];

/// Amazon's (`fd00:ec2::254`, `fd00:ec2::23`) and Google's (`fd20:ce::254`): inside the private range, so they
/// need naming.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

fn classify_v4(address: Ipv4Addr) -> Range {
    if METADATA_V4.contains(&address) {
        return Range::Metadata;
    }
    match address.octets() {
        [0, ..] => Range::Unspecified,
        [127, ..] => Range::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Range::Private,
        [100, 64..=127, ..] => Range::Shared,
        [169, 254, ..] => Range::LinkLocal,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Range::Documentation,
        [198, 18..=19, ..] => Range::Benchmarking,
        [192, 88, 99, _] => Range::Tunnel,
        [192, 0, 0, _] | [240..=255, ..] => Range::Reserved,
        [224..=239, ..] => Range::Multicast,
        _ => Range::Global,
    }
}

fn classify_v6(address: Ipv6Addr) -> Range {
    if METADATA_V6.contains(&address) {
        return Range::Metadata;
    }
    let segments = address.segments();
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Range::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Range::Loopback,
        [0x64, 0xff9b, 1, ..] | [0x2001, 0, ..] => Range::Tunnel,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Range::Documentation,
        [0x2001, 2, 0, ..] => Range::Benchmarking,
        [0x2001, 1..=0x1ff, ..] => Range::Reserved,
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Range::Private,
        [0xfe80..=0xfebf, ..] => Range::LinkLocal,
        [0xff00..=0xffff, ..] => Range::Multicast,
        // Only 2000::/3 is handed out as global unicast; what is not known to be public is not.
        [0x2000..=0x3fff, ..] => Range::Global,
        _ => Range::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;

    fn check(address: &str, expect: Range) {
        let parsed: IpAddr = address.parse().expect(address);
        assert_eq!(classify(parsed), expect, "{address}");
    }

    /// Each special range with the kind it must be given.
    const TABLE: &[(&str, Range)] = &[
        ("0.0.0.0/8", Range::Unspecified),
        ("10.0.0.0/8", Range::Private),
        ("127.0.0.0/8", Range::Loopback),
        ("172.16.0.0/12", Range::Private),
        ("192.0.2.0/24", Range::Documentation),
        ("192.88.99.0/24", Range::Tunnel),
        ("192.168.0.0/16", Range::Private),
        ("198.18.0.0/15", Range::Benchmarking),
        ("198.51.100.0/24", Range::Documentation),
        ("203.0.113.0/24", Range::Documentation),
        ("224.0.0.0/4", Range::Multicast),
        ("240.0.0.0/4", Range::Reserved),
        ("64:ff9b:1::/48", Range::Tunnel),
        ("100::/64", Range::Reserved),
        ("2001::/32", Range::Tunnel),
        ("2001:2::/48", Range::Benchmarking),
        ("2001:10::/28", Range::Reserved),
        ("2001:20::/28", Range::Reserved),
        ("2001:db8::/32", Range::Documentation),
        ("3fff::/20", Range::Documentation),
        ("5f00::/16", Range::Reserved),
        ("fec0::/10", Range::Private),
        ("fe80::/10", Range::LinkLocal),
        ("ff00::/8", Range::Multicast),
        ("4000::/2", Range::Reserved),
        ("8000::/2", Range::Reserved),
        ("200::/7", Range::Reserved),
    ];

    #[test]
    fn both_ends_of_every_special_range_are_recognised() {
        for (net, expect) in TABLE {
            let net: IpNet = net.parse().expect(net);
            assert_eq!(classify(net.network()), *expect, "first of {net}");
            assert_eq!(classify(net.broadcast()), *expect, "last of {net}");
        }
    }

    #[test]
    fn neighbours_of_special_ranges_and_known_services() {
        for (address, expect) in [
            ("1.1.1.1", Range::Global),
            ("9.255.255.255", Range::Global),
            ("11.0.0.0", Range::Global),
            ("100.63.255.255", Range::Global),
            ("100.64.0.0", Range::Shared),
            ("100.127.255.255", Range::Shared),
            ("100.128.0.0", Range::Global),
            ("100.100.100.200", Range::Metadata),
            ("126.255.255.255", Range::Global),
            ("128.0.0.0", Range::Global),
            ("168.63.129.16", Range::Metadata),
            ("168.63.129.17", Range::Global),
            ("169.253.255.255", Range::Global),
            ("169.254.0.1", Range::LinkLocal),
            ("169.254.169.254", Range::Metadata),
            ("169.254.170.2", Range::Metadata),
            ("172.15.255.255", Range::Global),
            ("172.32.0.0", Range::Global),
            ("192.0.0.1", Range::Reserved),
            ("192.0.0.192", Range::Metadata),
            ("192.0.1.0", Range::Global),
            ("192.167.255.255", Range::Global),
            ("192.169.0.0", Range::Global),
            ("198.17.255.255", Range::Global),
            ("198.20.0.0", Range::Global),
            ("223.255.255.255", Range::Global),
            ("255.255.255.255", Range::Reserved),
            ("::", Range::Unspecified),
            ("::1", Range::Loopback),
            ("::2", Range::Unspecified),
            ("::7f00:1", Range::Loopback),
            ("::ffff:127.0.0.1", Range::Loopback),
            ("::ffff:8.8.8.8", Range::Global),
            ("::ffff:0:10.0.0.1", Range::Private),
            ("64:ff9b::169.254.169.254", Range::Metadata),
            ("64:ff9b::8.8.8.8", Range::Global),
            ("64:ff9b:1::8.8.8.8", Range::Tunnel),
            ("2002:7f00:1::", Range::Loopback),
            ("2002:c0a8:101::1", Range::Private),
            ("2002:808:808::1", Range::Global),
            ("2001:4860:4860::8888", Range::Global),
            ("2606:4700::1111", Range::Global),
            ("2001:200::", Range::Global),
            ("3fff:1000::", Range::Global),
            ("fc00::", Range::Private),
            ("fdff:ffff::1", Range::Private),
            ("fd00:ec2::254", Range::Metadata),
            ("fd20:ce::254", Range::Metadata),
            ("fe00::", Range::Reserved),
        ] {
            check(address, expect);
        }
    }

    proptest! {
        #[test]
        fn a_wrapped_ipv4_address_is_judged_as_itself(octets: [u8; 4], tail: [u16; 5]) {
            let v4 = Ipv4Addr::from(octets);
            let [high, low] = [u16::from_be_bytes([octets[0], octets[1]]), u16::from_be_bytes([octets[2], octets[3]])];
            let expect = classify(IpAddr::V4(v4));
            let [t0, t1, t2, t3, t4] = tail;
            for wrapped in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, t0, t1, t2, t3, t4),
            ] {
                prop_assert_eq!(classify(IpAddr::V6(wrapped)), expect);
            }
        }

        #[test]
        fn every_address_of_a_special_range_is_recognised(index in 0..TABLE.len(), bits: u128) {
            let (net, expect) = TABLE[index];
            let net: IpNet = net.parse().expect("a valid net");
            let address: IpAddr = match net {
                IpNet::V4(net) => {
                    let host = u32::try_from(bits & u128::from(u32::MAX)).expect("masked") & u32::from(net.hostmask());
                    IpAddr::V4(Ipv4Addr::from(u32::from(net.network()) | host))
                }
                IpNet::V6(net) => {
                    IpAddr::V6(Ipv6Addr::from(u128::from(net.network()) | (bits & u128::from(net.hostmask()))))
                }
            };
            prop_assert_eq!(classify(address), expect);
        }

        #[test]
        fn nothing_outside_2000_slash_3_is_global(bits: u128) {
            let address = Ipv6Addr::from(bits);
            if embedded_v4(address).is_none() && address.segments()[0] >> 13 != 1 {
                prop_assert_ne!(classify(IpAddr::V6(address)), Range::Global);
            }
        }
    }
}
