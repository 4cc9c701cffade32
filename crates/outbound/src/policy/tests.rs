use proptest::prelude::*;

use super::*;

use BlockReason::{Address, Denied, NotAllowed};
use Range::{
    Benchmarking, Documentation, LinkLocal, Loopback, Metadata, Multicast, Private, Reserved, Shared, Tunnel,
    Unspecified,
};

fn verdict(policy: &Policy, url: &str) -> Result<(), BlockReason> {
    let url = Url::parse(url).expect(url);
    match policy.check_url(&url) {
        Ok(()) => Ok(()),
        Err(Error::Blocked { reason, .. }) => Err(reason),
        Err(other) => panic!("{url}: {other:?}"),
    }
}

/// Targets an attacker writes, and why each is refused without asking DNS.
const HOSTILE: &[(&str, BlockReason)] = &[
    ("http://127.0.0.1/", Address(Loopback)),
    ("http://127.0.0.1./", Address(Loopback)),
    ("http://127.1/", Address(Loopback)),
    ("http://127.0.1/", Address(Loopback)),
    ("http://2130706433/", Address(Loopback)),
    ("http://0x7f000001/", Address(Loopback)),
    ("http://0x7f.0x0.0x0.0x1/", Address(Loopback)),
    ("http://0X7F.1/", Address(Loopback)),
    ("http://0177.0.0.1/", Address(Loopback)),
    ("http://017700000001/", Address(Loopback)),
    ("http://127.255.255.254:8080/", Address(Loopback)),
    ("http://①②⑦.⓪.⓪.①/", Address(Loopback)),
    ("http://127。0。0。1/", Address(Loopback)),
    ("http://%31%32%37.0.0.1/", Address(Loopback)),
    ("http:127.0.0.1", Address(Loopback)),
    ("http:\\\\127.0.0.1\\", Address(Loopback)),
    ("http://\t127.0.0.1/", Address(Loopback)),
    ("http://user:secret@127.0.0.1/", Address(Loopback)),
    ("http://example.com@127.0.0.1/", Address(Loopback)),
    ("http://example.com:80@127.0.0.1/", Address(Loopback)),
    ("http://localhost/", Address(Loopback)),
    ("http://LOCALHOST/", Address(Loopback)),
    ("http://localhost./", Address(Loopback)),
    ("http://app.localhost/", Address(Loopback)),
    ("http://localhost.localdomain/", Address(Loopback)),
    ("http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/", Address(Loopback)),
    ("http://[::1]/", Address(Loopback)),
    ("http://[0:0:0:0:0:0:0:1]/", Address(Loopback)),
    ("http://[::ffff:127.0.0.1]/", Address(Loopback)),
    ("http://[::ffff:7f00:1]/", Address(Loopback)),
    ("http://[::127.0.0.1]/", Address(Loopback)),
    ("http://[64:ff9b::127.0.0.1]/", Address(Loopback)),
    ("http://[2002:7f00:1::]/", Address(Loopback)),
    ("http://[::ffff:0:127.0.0.1]/", Address(Loopback)),
    ("http://0.0.0.0/", Address(Unspecified)),
    ("http://0/", Address(Unspecified)),
    ("http://0x0/", Address(Unspecified)),
    ("http://0.1.2.3/", Address(Unspecified)),
    ("http://[::]/", Address(Unspecified)),
    ("http://[::ffff:0.0.0.0]/", Address(Unspecified)),
    ("http://10.0.0.1/", Address(Private)),
    ("http://10.255.255.255/", Address(Private)),
    ("http://012.0.0.1/", Address(Private)),
    ("http://167772161/", Address(Private)),
    ("http://172.16.0.1/", Address(Private)),
    ("http://172.31.255.255/", Address(Private)),
    ("http://192.168.1.1/", Address(Private)),
    ("http://3232235777/", Address(Private)),
    ("http://[fc00::1]/", Address(Private)),
    ("http://[fd12:3456:789a::1]/", Address(Private)),
    ("http://[fec0::1]/", Address(Private)),
    ("http://[::ffff:192.168.0.1]/", Address(Private)),
    ("http://[2002:c0a8:1::1]/", Address(Private)),
    ("http://100.64.0.1/", Address(Shared)),
    ("http://100.127.255.255/", Address(Shared)),
    ("http://169.254.0.1/", Address(LinkLocal)),
    ("http://[fe80::1]/", Address(LinkLocal)),
    ("http://[febf::1]/", Address(LinkLocal)),
    ("http://169.254.169.254/latest/meta-data/", Address(Metadata)),
    ("http://2852039166/", Address(Metadata)),
    ("http://0xa9fea9fe/", Address(Metadata)),
    ("http://0251.0376.0251.0376/", Address(Metadata)),
    ("http://[::ffff:a9fe:a9fe]/", Address(Metadata)),
    ("http://[64:ff9b::a9fe:a9fe]/", Address(Metadata)),
    ("http://169.254.170.2/v2/credentials", Address(Metadata)),
    ("http://100.100.100.200/", Address(Metadata)),
    ("http://168.63.129.16/", Address(Metadata)),
    ("http://192.0.0.192/", Address(Metadata)),
    ("http://[fd00:ec2::254]/", Address(Metadata)),
    ("http://[fd20:ce::254]/", Address(Metadata)),
    (
        "http://metadata.google.internal/computeMetadata/v1/",
        Address(Metadata),
    ),
    ("http://Metadata.Google.Internal./", Address(Metadata)),
    ("http://metadata.goog/", Address(Metadata)),
    ("http://instance-data/", Address(Metadata)),
    ("http://192.0.0.8/", Address(Reserved)),
    ("http://240.0.0.1/", Address(Reserved)),
    ("http://255.255.255.255/", Address(Reserved)),
    ("http://[100::1]/", Address(Reserved)),
    ("http://[4000::1]/", Address(Reserved)),
    ("http://192.0.2.1/", Address(Documentation)),
    ("http://198.51.100.1/", Address(Documentation)),
    ("http://203.0.113.1/", Address(Documentation)),
    ("http://[2001:db8::1]/", Address(Documentation)),
    ("http://198.18.0.1/", Address(Benchmarking)),
    ("http://198.19.255.255/", Address(Benchmarking)),
    ("http://224.0.0.1/", Address(Multicast)),
    ("http://239.255.255.255/", Address(Multicast)),
    ("http://[ff02::1]/", Address(Multicast)),
    ("http://192.88.99.1/", Address(Tunnel)),
    ("http://[2001::1]/", Address(Tunnel)),
    ("http://[64:ff9b:1::1]/", Address(Tunnel)),
];

#[test]
fn every_hostile_target_is_refused_with_its_reason() {
    let policy = Policy::public(&PrivateNetworks::Deny);
    assert!(HOSTILE.len() >= 60);
    for (url, reason) in HOSTILE {
        assert_eq!(verdict(&policy, url), Err(*reason), "{url}");
    }
}

#[test]
fn schemes_other_than_http_are_refused() {
    let policy = Policy::public(&PrivateNetworks::AllowPrivate);
    for url in [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "data:,x",
        "ws://example.com/",
    ] {
        let error = policy.check_url(&Url::parse(url).unwrap()).unwrap_err();
        assert!(
            matches!(error, Error::InvalidUrl(InvalidUrl::Scheme)),
            "{url}: {error:?}"
        );
    }
}

#[test]
fn public_targets_pass() {
    let policy = Policy::public(&PrivateNetworks::Deny);
    for url in [
        "https://api.example.com/x?y",
        "http://1.1.1.1/",
        "http://[2606:4700::1111]/",
        "https://user:pass@example.com/",
        "https://localhost.example.com/",
        "https://notlocalhost/",
        "https://bücher.example/",
        "http://[64:ff9b::8.8.8.8]/",
    ] {
        assert_eq!(verdict(&policy, url), Ok(()), "{url}");
    }
}

#[test]
fn true_opens_loopback_and_private_ranges_and_nothing_else() {
    let policy = Policy::public(&"true".parse().unwrap());
    for (url, reason) in HOSTILE {
        let expect = match reason {
            Address(Loopback | Private | Shared) => Ok(()),
            other => Err(*other),
        };
        assert_eq!(verdict(&policy, url), expect, "{url}");
    }
}

#[test]
fn ranges_open_exactly_what_they_spell_out() {
    let policy = |text: &str| Policy::public(&text.parse().unwrap());
    let check = |networks: &str, url: &str, expect| {
        assert_eq!(verdict(&policy(networks), url), expect, "{networks} {url}");
    };
    check("10.0.0.0/8", "http://10.1.2.3/", Ok(()));
    check("10.0.0.0/8", "http://[::ffff:10.1.2.3]/", Ok(()));
    check("10.0.0.0/8", "http://192.168.1.1/", Err(Address(Private)));
    check("10.0.0.0/8", "http://localhost/", Err(Address(Loopback)));
    check("127.0.0.0/8", "http://localhost/", Ok(()));
    check("127.0.0.0/8", "http://[::1]/", Err(Address(Loopback)));
    check("::1/128", "http://localhost/", Ok(()));
    check("169.254.169.254/32", "http://169.254.169.254/", Ok(()));
    check("169.254.169.254", "http://metadata.google.internal/", Ok(()));
    check("169.254.169.254", "http://169.254.0.1/", Err(Address(LinkLocal)));
    check("169.254.0.0/16, fe80::/10", "http://[fe80::1]/", Ok(()));
    check("198.18.0.0/15", "http://198.18.0.1/", Ok(()));
}

#[test]
fn localhost_resolves_to_the_families_that_are_open() {
    let addresses = |text: &str| {
        Policy::public(&text.parse().unwrap())
            .fixed_addresses("localhost")
            .unwrap()
            .len()
    };
    assert_eq!(addresses("true"), 2);
    assert_eq!(addresses("127.0.0.0/8"), 1);
    assert_eq!(addresses("false"), 0);
    assert_eq!(
        Policy::public(&PrivateNetworks::Deny).fixed_addresses("api.example.com"),
        None
    );
}

#[test]
fn identity_providers_may_be_private_but_not_loopback_or_metadata() {
    let policy = Policy::oauth(&PrivateNetworks::Deny);
    for (url, reason) in HOSTILE {
        let expect = match reason {
            Address(Private | Shared) => Ok(()),
            other => Err(*other),
        };
        assert_eq!(verdict(&policy, url), expect, "{url}");
    }
    let opened = Policy::oauth(&PrivateNetworks::loopback());
    assert_eq!(verdict(&opened, "http://localhost:1234/token"), Ok(()));
    assert_eq!(verdict(&opened, "http://10.0.0.1/token"), Ok(()));
    assert_eq!(
        verdict(&opened, "http://169.254.169.254/"),
        Err(Address(Metadata))
    );
}

#[test]
fn deny_lists_name_hosts_domains_and_addresses() {
    let list = [
        "evil.example",
        ".bad.example",
        "*.worse.example",
        "8.8.8.8",
        "9.0.0.0/8",
        "[2606:4700::1111]",
    ];
    let policy = Policy::public(&PrivateNetworks::AllowPrivate).deny(list);
    for url in [
        "http://evil.example/",
        "http://EVIL.example./",
        "http://bad.example/",
        "http://a.b.bad.example/",
        "http://x.worse.example/",
        "http://8.8.8.8/",
        "http://0x08080808/",
        "http://[::ffff:8.8.8.8]/",
        "http://9.1.1.1/",
        "http://[2606:4700::1111]/",
    ] {
        assert_eq!(verdict(&policy, url), Err(Denied), "{url}");
    }
    for url in [
        "http://sub.evil.example/",
        "http://notbad.example/",
        "http://8.8.4.4/",
        "http://10.0.0.1/",
    ] {
        assert_eq!(verdict(&policy, url), Ok(()), "{url}");
    }
    let resolved = policy.check_address("innocent.example", "8.8.8.8".parse().unwrap());
    assert!(
        resolved.unwrap_err().is_blocked(),
        "a name may not resolve into a denied address either"
    );
}

#[test]
fn allow_lists_include_sub_domains_and_do_not_open_ranges() {
    let policy =
        Policy::public(&PrivateNetworks::Deny).allow_only(["example.com", ".partner.example", "10.0.0.1"]);
    for url in [
        "https://example.com/",
        "https://api.example.com/",
        "https://partner.example/",
        "https://a.partner.example/",
    ] {
        assert_eq!(verdict(&policy, url), Ok(()), "{url}");
    }
    for url in [
        "https://example.org/",
        "https://notexample.com/",
        "https://example.com.evil.org/",
        "http://1.1.1.1/",
    ] {
        assert_eq!(verdict(&policy, url), Err(NotAllowed), "{url}");
    }
    assert_eq!(verdict(&policy, "http://10.0.0.1/"), Err(Address(Private)));
}

#[test]
fn the_setting_is_a_switch_or_a_list() {
    let parse = |text: &str| text.parse::<PrivateNetworks>();
    assert_eq!(parse(""), Ok(PrivateNetworks::Deny));
    assert_eq!(parse("false"), Ok(PrivateNetworks::Deny));
    assert_eq!(parse("true"), Ok(PrivateNetworks::AllowPrivate));
    let Ok(PrivateNetworks::Cidrs(nets)) = parse(" 10.0.0.0/8,192.168.1.5 , fd00::/8") else {
        panic!("a list")
    };
    assert_eq!(nets.len(), 3);
    for wrong in [
        "yes",
        "10.0.0.0/33",
        "10.0.0.0/8;127.0.0.1",
        "true,10.0.0.0/8",
        "localhost",
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn no_notation_of_a_forbidden_ipv4_address_gets_through(octets: [u8; 4], form in 0..5) {
        let address = Ipv4Addr::from(octets);
        let number = u32::from(address);
        let [a, b, c, d] = octets;
        let host = match form {
            0 => format!("{number}"),
            1 => format!("0x{number:x}"),
            2 => format!("0{number:o}"),
            3 => format!("0{a:o}.0x{b:x}.{c}.{d}"),
            _ => format!("{a}.{b}.{}", u32::from(c) << 8 | u32::from(d)),
        };
        let policy = Policy::public(&PrivateNetworks::Deny);
        let expect = classify(IpAddr::V4(address));
        match policy.check_host(&host) {
            Ok(()) => prop_assert_eq!(expect, Range::Global),
            Err(Error::Blocked { reason, .. }) => prop_assert_eq!(reason, Address(expect)),
            Err(other) => prop_assert!(false, "{}: {:?}", host, other),
        }
    }

    #[test]
    fn no_host_makes_it_panic(host in ".{0,40}") {
        let policy = Policy::public(&PrivateNetworks::Deny).deny([&host]).allow_only([&host]);
        let _ = policy.check_host(&host);
        let _ = policy.fixed_addresses(&host);
    }
}
