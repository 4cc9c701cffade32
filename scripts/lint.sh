#!/usr/bin/env bash
# Everything about the source that a machine can judge. Runs all checks and names those that failed.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=()
check() {
  local name=$1 began=$SECONDS
  shift
  printf '== %s\n' "$name"
  "$@" || failed+=("$name")
  printf '   %s s\n' $((SECONDS - began))
}

advisories() {
  # The database of advisories is a git repository elsewhere; without it there is nothing to compare with.
  if timeout 20 git ls-remote --exit-code https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then
    "$tools/cargo-deny" check advisories
  else
    echo '   not checked: the advisory database is unreachable from here'
  fi
}

check format cargo fmt --all --check
check clippy cargo clippy --workspace --all-targets -- -D warnings
if pkg-config --exists openssl; then
  check 'clippy of legacy-tls' cargo clippy -p patchbay-outbound --features legacy-tls --all-targets -- -D warnings
fi
check docs env RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --quiet
if tools=$(scripts/tools.sh); then
  check 'deny (licences, bans, sources)' "$tools/cargo-deny" --offline check --hide-inclusion-graph licenses bans sources
  check advisories advisories
  check machete "$tools/cargo-machete"
else
  failed+=(tools)
fi

if [ ${#failed[@]} -gt 0 ]; then
  printf '\nfailed: %s\n' "${failed[*]}" >&2
  exit 1
fi
