#!/bin/sh
# check.sh [BINARY]: near-api-js against a devnet of BINARY, by default of the dev build. .ci/setup clients installs
# what it needs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../../.."
binary=${1:-${CARGO_TARGET_DIR:-target}/debug/nearbench}
[ -x "$binary" ] || {
    echo "check.sh: $binary is not there: build it (cargo build --workspace --locked --bins), or name another binary" >&2
    exit 1
}
# near-api-js says in its engines that it needs Node.js 22; the machine's may be older.
for node in "$here"/node_modules/node-linux-*/bin/node node; do
    if major=$("$node" --print 'process.versions.node.split(".")[0]' 2>/dev/null) && [ "$major" -ge 22 ]; then
        exec "$node" "$here/check.mjs" "$binary"
    fi
done
echo "check.sh: no Node.js of version 22 or later: run .ci/setup clients, which installs it on Linux, or put one into PATH" >&2
exit 1
