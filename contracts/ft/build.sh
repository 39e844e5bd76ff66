#!/bin/sh
# build.sh FILE: builds the token and writes its wasm to FILE.
#
# The bytes depend on the sources, Cargo.lock and the toolchain alone, not on where the clone, cargo's
# home or the sysroot lie: every path that reaches the wasm (in panic messages) is remapped. They are
# those of an x86_64-unknown-linux-gnu host; cargo mixes the host's name into its symbol hashes.
set -eu

file=${1:?usage: build.sh FILE}
case $file in /*) ;; *) file=$PWD/$file ;; esac
cd "$(dirname "$0")"
here=$(pwd -P)

# Unpacks the dependencies, so that the folders to remap exist.
cargo fetch --locked --quiet --target wasm32-unknown-unknown

sep=$(printf '\037')
# near: without it near-sdk compiles its stand-ins for the host functions and loses panic messages.
flags="--cfg${sep}near${sep}-Clink-arg=-s"
remap() { flags="$flags${sep}--remap-path-prefix=$1=$2"; }
# The last prefix that matches wins: from the general to the particular.
remap "$here" /ft
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    remap "$registry" /registry
done
# With the rust-src component rustc names std's sources by where they lie, without it by this path.
remap "$(rustc --print sysroot)/lib/rustlib/src/rust" \
    "/rustc/$(rustc --version --verbose | sed -n 's/^commit-hash: //p')"

target=${FT_TARGET_DIR:-$here/target}
CARGO_ENCODED_RUSTFLAGS=$flags CARGO_INCREMENTAL=0 RUSTC_WRAPPER='' \
    cargo build --locked --quiet --release --target wasm32-unknown-unknown --target-dir "$target"
# Not cp: cargo marks it executable.
cat "$target/wasm32-unknown-unknown/release/ft.wasm" >"$file"
