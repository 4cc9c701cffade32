#!/usr/bin/env bash
# Builds both programs and runs the load rig; arguments go to `patchbay-bench load`.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v nginx >/dev/null || PATH=$PATH:/usr/sbin
if ! command -v nginx >/dev/null; then
  echo 'nginx is the yardstick and is missing: apt-get install nginx-light' >&2
  exit 1
fi
cargo build --release --bin patchbay
cargo build --release -p patchbay-bench
exec "${CARGO_TARGET_DIR:-target}/release/patchbay-bench" load "$@"
