#!/bin/sh
# check.sh: rebuilds the token and compares it with the committed bytes; changes nothing.
set -eu

cd "$(dirname "$0")"
rebuilt=$(mktemp -d)
trap 'rm -rf "$rebuilt"' EXIT

(cd res && sha256sum --check --quiet ft.wasm.sha256) || {
    echo "contracts/ft/res/ft.wasm is not the file that ft.wasm.sha256 names: restore both from git, or run 'make contract' and commit both." >&2
    exit 1
}
./build.sh "$rebuilt/ft.wasm"
cmp res/ft.wasm "$rebuilt/ft.wasm" >&2 || {
    host=$(rustc --version --verbose | sed -n 's/^host: //p')
    echo "contracts/ft/res/ft.wasm is not what its sources build." >&2
    if [ "$host" = x86_64-unknown-linux-gnu ]; then
        echo "If you changed contracts/ft, its Cargo.lock or rust-toolchain.toml: run 'make contract' and commit contracts/ft/res. If you did not, something of this machine leaks into the build: compare the strings of both files." >&2
    else
        echo "The committed bytes are those of an x86_64-unknown-linux-gnu host, this one is $host: rebuild and compare there." >&2
    fi
    exit 1
}
echo "contracts/ft/res/ft.wasm is what its sources build."
