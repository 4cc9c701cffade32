#!/usr/bin/env bash
# The full figures: storms, kill loops, load. Each program in prove/ writes its report to docs/proof/.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --bin patchbay
found=0
for proof in prove/*.sh; do
  [ -x "$proof" ] || continue
  found=1
  printf '== %s\n' "$proof"
  "$proof" "$@"
done
if [ "$found" = 0 ]; then
  echo 'There is no proof in prove/ yet.' >&2
  exit 1
fi
