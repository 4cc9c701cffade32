//! The proofs at small sizes, with the server as a real process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use patchbay_ambient::Ambient;
use patchbay_bench::prove::{Proof, Setting, Size};

/// The server's program, built if it is not up to date.
fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM
        .get_or_init(|| {
            let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
            let built = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--bin", "patchbay"])
                .current_dir(root)
                .status();
            assert!(built.unwrap().success(), "the server does not build");
            // `…/debug/deps/small-…`
            let this = std::env::current_exe().unwrap();
            this.parent().unwrap().with_file_name("patchbay")
        })
        .clone()
}

async fn holds(proof: Proof) {
    let setting = Setting {
        program: program(),
        bench: PathBuf::from(env!("CARGO_BIN_EXE_patchbay-bench")),
        size: Size::Small,
        ambient: Ambient::system(),
    };
    let report = proof.run(&setting).await.unwrap();
    assert!(report.holds(), "{}", report.markdown("", &setting.ambient));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_readers_of_an_expired_connection_cause_one_token_request() {
    holds(Proof::RefreshSingleFlight).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_during_a_refresh_loses_nothing_the_provider_still_honours() {
    holds(Proof::RefreshKill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_connections_and_their_webhooks_outlive_kills() {
    holds(Proof::ConnectKill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_expiring_at_once_are_refreshed_once_each() {
    holds(Proof::Storm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_answers_under_load_whatever_the_upstream_and_the_size() {
    holds(Proof::ProxyLoad).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_pass_whole_at_constant_memory() {
    holds(Proof::ProxyStreams).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_served_beside_a_fast_one() {
    holds(Proof::ProxySlowClients).await;
}
