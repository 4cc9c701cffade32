#!/usr/bin/env bash
# Fails if a log line holds a secret that a test planted. Every planted secret begins with the marker.
set -euo pipefail
logs=${1:?usage: no-secrets.sh DIRECTORY}
marker=planted-
if grep -rnF -- "$marker" "$logs" >"$logs/../leaks.txt"; then
  printf 'Secrets in captured logs (%s lines), the first:\n' "$(wc -l <"$logs/../leaks.txt")" >&2
  head -5 "$logs/../leaks.txt" >&2
  exit 1
fi
printf 'No planted secret in %s captured log files (%s lines)\n' \
  "$(find "$logs" -type f | wc -l)" "$(find "$logs" -type f -exec cat {} + | wc -l)"
