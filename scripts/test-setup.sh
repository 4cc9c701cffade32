#!/usr/bin/env bash
# Finds or fetches what the tests need besides Rust: Postgres, pgbouncer, a Chromium, the npm packages of clients/.
# Prints what it used; ends with the exact list of what is missing. Writes the environment of the tests to $1.
#
# Found first; else, as root, installed by apt-get; else, as another user, the Debian packages are unpacked below
# the cache directory without touching the system. Nothing is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
env_file=${1:?usage: test-setup.sh ENV_FILE}
cache=${PATCHBAY_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/patchbay-tests}
tree=$cache/tree
mkdir -p "$(dirname "$env_file")"
: >"$env_file"
missing=()

say() { printf 'setup: %s\n' "$*"; }

extend_path() {
  local dir
  for dir in "$tree"/usr/lib/postgresql/*/bin "$tree"/usr/sbin "$tree"/usr/bin /usr/lib/postgresql/*/bin /usr/sbin; do
    case ":$PATH:" in
      *":$dir:"*) ;;
      *) if [ -d "$dir" ]; then PATH=$PATH:$dir; fi ;;
    esac
  done
  export PATH
}

find_postgres() { [ -n "${PATCHBAY_TEST_POSTGRES_URL:-}${PATCHBAY_TEST_POSTGRES_BIN:-}" ] || command -v initdb; }
find_pgbouncer() { command -v pgbouncer; }
find_chromium() {
  local name
  if [ -n "${PATCHBAY_TEST_CHROMIUM:-}" ]; then echo "$PATCHBAY_TEST_CHROMIUM"; return; fi
  for name in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" && return
  done
  return 1
}

# Installs Debian packages, or unpacks them and what they need beyond the installed ones.
fetch() {
  command -v apt-get >/dev/null || return 1
  if [ "$(id -u)" = 0 ]; then
    say "apt-get install $*"
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"; } \
      >"$cache/apt.log" 2>&1
    return
  fi
  say "unpacking $* below $tree"
  local apt=(apt-get -q -o "Dir::State::lists=$cache/apt/lists" -o "Dir::Cache=$cache/apt/cache"
    -o "Dir::State::status=/var/lib/dpkg/status" -o Debug::NoLocking=1 -o APT::Sandbox::User=)
  mkdir -p "$cache/apt/lists/partial" "$cache/apt/cache/archives/partial" "$tree"
  { "${apt[@]}" update && "${apt[@]}" install -y --download-only --no-install-recommends "$@"; } \
    >"$cache/apt.log" 2>&1 || return 1
  local deb
  for deb in "$cache"/apt/cache/archives/*.deb; do
    dpkg-deb -x "$deb" "$tree" || return 1
  done
  rm -f "$cache"/apt/cache/archives/*.deb
}

# need NAME FINDER DEBIAN_PACKAGE WHAT_ELSE
need() {
  local found
  extend_path
  if ! found=$("$2"); then
    fetch "$3" || say "could not fetch $3; see $cache/apt.log"
    extend_path
    hash -r
    found=$("$2") || { missing+=("$1: $4"); return 0; }
  fi
  say "$1: ${found:-as configured}"
}

mkdir -p "$cache"
need Postgres find_postgres postgresql \
  'apt-get install postgresql, or set PATCHBAY_TEST_POSTGRES_URL or PATCHBAY_TEST_POSTGRES_BIN'
need pgbouncer find_pgbouncer pgbouncer 'apt-get install pgbouncer'
if [ -f clients/package-lock.json ]; then
  need Chromium find_chromium chromium 'apt-get install chromium, or set PATCHBAY_TEST_CHROMIUM to a Chrome or Chromium'
  if ! command -v npm >/dev/null; then
    missing+=('Node.js 20 or newer with npm: https://nodejs.org')
  elif [ ! -d clients/node_modules ] || [ clients/package-lock.json -nt clients/node_modules/.package-lock.json ]; then
    say 'npm ci in clients/'
    npm ci --prefix clients --no-fund --no-audit >"$cache/npm.log" 2>&1 ||
      missing+=("the npm packages of clients/: see $cache/npm.log")
  fi
fi

if [ ${#missing[@]} -gt 0 ]; then
  printf '\nThe tests cannot run here. Missing:\n' >&2
  printf '  - %s\n' "${missing[@]}" >&2
  exit 1
fi

{
  printf 'export PATH=%q\n' "$PATH"
  if [ -d "$tree/usr" ]; then
    # Only what was unpacked needs it, and the system's own libraries still come first for the rest.
    libraries=$(find "$tree" -path '*/lib/*' -name '*.so*' -printf '%h\n' 2>/dev/null | sort -u | paste -sd: -)
    printf 'export LD_LIBRARY_PATH=%q\n' "${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$libraries"
  fi
  if [ -f clients/package-lock.json ]; then
    printf 'export PATCHBAY_TEST_CHROMIUM=%q\n' "$(find_chromium)"
  fi
} >>"$env_file"
