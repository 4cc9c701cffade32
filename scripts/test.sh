#!/usr/bin/env bash
# The gate of behaviour: every test on both databases, then the official clients against a running server.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
work=$target/test-run
rm -rf "$work"
mkdir -p "$work/logs"
scripts/test-setup.sh "$work/env"
# shellcheck disable=SC1091
. "$work/env"
work=$(cd "$work" && pwd)
export PATCHBAY_TEST_LOG_DIR=$work/logs

if cargo nextest --version >/dev/null 2>&1; then
  cargo nextest run --workspace --all-targets --no-fail-fast --status-level pass --final-status-level fail \
    2>&1 | tee "$work/rust.txt"
  cargo test --workspace --doc --quiet
else
  cargo test --workspace --no-fail-fast 2>&1 | tee "$work/rust.txt"
fi

if pkg-config --exists openssl; then
  cargo test --quiet -p patchbay-outbound --features legacy-tls legacy
else
  echo 'not tested: the feature legacy-tls, for want of OpenSSL headers'
fi

if [ -f clients/package.json ]; then
  cargo build --bin patchbay
  export PATCHBAY_BIN=${PATCHBAY_BIN:-$(cd "$target" && pwd)/debug/patchbay}
  npm --prefix clients test 2>&1 | tee "$work/clients.txt"
fi

# Of cargo test `test a::sqlite ... ok`, of nextest `PASS [0.1s] (1/2) crate a::sqlite`.
passed() { grep -cE "(^test .*$1 \.\.\. ok|^ *PASS .*$1( |$))" "$work/rust.txt" || true; }
printf '\nStory tests passed: %s on SQLite, %s on Postgres\n' "$(passed '::sqlite')" "$(passed '::postgres')"

scripts/no-secrets.sh "$work/logs"
