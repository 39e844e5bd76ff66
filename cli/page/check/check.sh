#!/bin/sh
# check.sh [BINARY]: the pages of a report, a comparison and a run under way in a real browser, made by BINARY, by default that of the dev build.
# .ci/setup clients installs what it needs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../../.."
binary=${1:-${CARGO_TARGET_DIR:-target}/debug/nearbench}
[ -x "$binary" ] || {
    echo "check.sh: $binary is not there: build it (cargo build --workspace --locked --bins), or name another binary" >&2
    exit 1
}
exec node "$here/check.mjs" "$binary"
