//! The proxy's figures: the bare upstream, nginx and the server, each with plain and TLS upstreams, small and large
//! bodies, few and many connections, in one run.

use std::sync::Arc;
use std::time::Duration;

use crate::measure::{Budget, Figure, Row, Subject, find, micros};
use crate::neighbours::{Nginx, Upstream};
use crate::process::Server;
use crate::prove::Size;
use crate::seed::{API_KEY, PLAIN, SECURE};
use crate::wire::request;

/// Which upstream is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    Http,
    Https,
}

impl Behind {
    fn provider(self) -> &'static str {
        match self {
            Self::Http => PLAIN,
            Self::Https => SECURE,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Http => "",
            Self::Https => ", HTTPS upstream",
        }
    }
}

/// A body's size, and what of the upstream has it.
#[derive(Clone, Copy, Debug)]
struct Length {
    words: &'static str,
    path: &'static str,
}

const KIB: Length = Length {
    words: "1 KB",
    path: "/some/resource",
};
const MIB: Length = Length {
    words: "1 MB",
    path: "/bytes/1048576",
};

fn direct(length: Length) -> String {
    format!("upstream, direct, {}", length.words)
}

fn nginx_name(length: Length, behind: Behind) -> String {
    format!("nginx proxy, {}{}", length.words, behind.words())
}

fn proxy_name(length: Length, behind: Behind) -> String {
    format!("ANY /proxy/*, {}{}", length.words, behind.words())
}

/// The rows, in an order that keeps what is compared together.
pub(crate) fn rows(server: &Server, upstream: &Upstream, nginx: Option<&Nginx>, size: Size) -> Vec<Row> {
    let authorization = format!("Authorization: Bearer {API_KEY}");
    let mut rows = Vec::new();
    for behind in [Behind::Http, Behind::Https] {
        for length in [KIB, MIB] {
            let through = [
                authorization.clone(),
                "Connection-Id: c0".to_owned(),
                format!("Provider-Config-Key: {}", behind.provider()),
            ];
            let mut compared = Vec::new();
            if behind == Behind::Http {
                let bytes = request("GET", length.path, "localhost", &[], b"");
                compared.push((direct(length), upstream.http, bytes, Subject::One(upstream.pid)));
            }
            if let Some(nginx) = nginx {
                let prefix = if behind == Behind::Http { "" } else { "/secure" };
                let target = format!("{prefix}{}", length.path);
                let bytes = request("GET", &target, "localhost", &[], b"");
                let name = nginx_name(length, behind);
                compared.push((name, nginx.address, bytes, Subject::Family(nginx.pid)));
            }
            let target = format!("/proxy{}", length.path);
            let bytes = request("GET", &target, "localhost", &through, b"");
            let name = proxy_name(length, behind);
            compared.push((name, server.address, bytes, Subject::One(server.pid)));
            for (name, address, bytes, subject) in compared {
                let requests = Arc::new(vec![bytes]);
                for clients in size.pick([1, 2, 4], [1, 32, 512]) {
                    rows.push(Row {
                        name: name.clone(),
                        address,
                        requests: requests.clone(),
                        subject,
                        clients,
                    });
                }
            }
        }
    }
    rows
}

/// What is asked of the proxy, as far as the figures are there.
pub(crate) fn budgets(figures: &[Figure]) -> Vec<Budget> {
    let mut all = Vec::new();
    let mut add = |what: &str, goal: &'static str, measured: String, met: bool| {
        let what = what.to_owned();
        all.push(Budget {
            what,
            goal,
            measured,
            met,
        });
    };
    for behind in [Behind::Http, Behind::Https] {
        let proxy = proxy_name(KIB, behind);
        let Some(ours) = find(figures, &proxy, 32) else {
            continue;
        };
        if let Some(theirs) = find(figures, &nginx_name(KIB, behind), 32) {
            let ratio = ours.measured.rate() / theirs.measured.rate();
            let goal = "≥ 0.40 × nginx at 32 clients";
            add(&proxy, goal, format!("{ratio:.2}"), ratio >= 0.40);
        }
        let cpu = format!("{:.4} ms", ours.cpu_ms);
        add(&proxy, "≤ 0.05 ms CPU", cpu, ours.cpu_ms <= 0.05);
    }
    let proxy = proxy_name(KIB, Behind::Http);
    if let (Some(ours), Some(direct)) = (find(figures, &proxy, 1), find(figures, &direct(KIB), 1)) {
        let added = ours.measured.p50.saturating_sub(direct.measured.p50);
        let goal = "≤ +0.3 ms p50 at one client";
        add(&proxy, goal, micros(added), added <= Duration::from_micros(300));
    }
    all
}
