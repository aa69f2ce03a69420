#!/bin/bash
# Builds the zstd encoders of other libzstd releases, one program each: bundle-zstd-1.5.4 and so on.
#
# Why programs: one build links one libzstd, and the files in an image were written by several. The sources of libzstd
# come out of the pinned zstd-sys releases; none is kept in this repository.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: recipes/encoders/build.sh OUT_DIR [VERSION…]

Builds every encoder, or those named, with cargo (a C compiler is needed) and puts them into OUT_DIR.

Environment:
  CARGO             cargo to use (default: cargo)
  CARGO_TARGET_DIR  where to build (default: OUT_DIR/build)
USAGE
}

case "${1-}" in -h | --help) usage; exit 0 ;; esac
if (($# < 1)); then usage >&2; exit 2; fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
versions=("$@")
if ((${#versions[@]} == 0)); then
    for manifest in "$here"/*/Cargo.toml; do versions+=("$(basename "$(dirname "$manifest")")"); done
fi

target=${CARGO_TARGET_DIR:-$out/build}/encoders
for version in "${versions[@]}"; do
    manifest=$here/$version/Cargo.toml
    if [[ ! -f $manifest ]]; then echo "encoders: error: no encoder for libzstd $version" >&2; exit 1; fi
    # A directory each: the packages share their name, and pin different releases of one library.
    "${CARGO:-cargo}" build --quiet --release --locked --manifest-path "$manifest" --target-dir "$target/$version"
    install -m 0755 "$target/$version/release/bundle-zstd" "$out/bundle-zstd-$version"
    answer=$("$out/bundle-zstd-$version" --version)
    if [[ $answer != "bundle-zstd $version" ]]; then
        echo "encoders: error: bundle-zstd-$version answers '$answer'" >&2
        exit 1
    fi
done
