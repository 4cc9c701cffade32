#!/usr/bin/env bash
# The benchmarks of bench/: the whole server under load, beside nginx on the same machine.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! -x bench/run.sh ]; then
  echo 'There is no bench/run.sh yet.' >&2
  exit 1
fi
exec bench/run.sh "$@"
