#!/usr/bin/env bash
# cargo-deny and cargo-machete at the versions we use, compiled once and kept. Prints the directory of the binaries,
# or says why they cannot be had and fails.
set -euo pipefail
deny=0.20.2
machete=0.9.2
root=${PATCHBAY_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/patchbay-tools}
mkdir -p "$root"

have() { [ "$("$root/bin/$1" "$2" 2>/dev/null | awk '{print $NF}')" = "$3" ]; }
install() {
  printf 'tools: compiling %s %s, once\n' "$1" "$2" >&2
  CARGO_TARGET_DIR=$root/build cargo install --locked --quiet --root "$root" "$1@$2" >&2 || {
    printf 'tools: %s %s cannot be installed; it needs the crate registry and a C compiler\n' "$1" "$2" >&2
    exit 1
  }
  rm -rf "$root/build"
}
have cargo-deny --version "$deny" || install cargo-deny "$deny"
have cargo-machete --version "$machete" || install cargo-machete "$machete"
printf '%s\n' "$root/bin"
