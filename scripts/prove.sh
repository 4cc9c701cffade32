#!/usr/bin/env bash
# The full figures: storms, kill loops, load. Each proof writes its report to docs/proof/; names choose among them.
set -euo pipefail
cd "$(dirname "$0")/.."
setup=$(mktemp -d)
trap 'rm -rf "$setup"' EXIT
scripts/test-setup.sh "$setup/env"
# shellcheck disable=SC1091
. "$setup/env"
cargo build --release --bin patchbay
cargo build --release -p patchbay-bench
"${CARGO_TARGET_DIR:-target}/release/patchbay-bench" prove "$@"
