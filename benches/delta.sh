#!/bin/bash
# Measures layer deltas against their peers, in one run, on the pairs of benches/delta-pairs.sh.
#
# Usage: benches/delta.sh [--pairs DIR] [--no-peers] [a|b|c]...        default: .cache/delta-pairs, all pairs
#
# Peers run where they are installed: tar-diff (a Go program: go install in a clone of containers/tar-diff), ostree static
# deltas (needs root, to unpack), zstd --patch-from. Each takes some minutes on pair a. Sizes are of the whole delta; ours has
# the table of sources and everything else in it.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
pairs=.cache/delta-pairs
peers=yes
chosen=()
while (($#)); do
    case $1 in
        --pairs) pairs=$2; shift 2 ;;
        --no-peers) peers=no; shift ;;
        a | b | c) chosen+=("$1"); shift ;;
        *) echo "usage: benches/delta.sh [--pairs DIR] [--no-peers] [a|b|c]..." >&2; exit 2 ;;
    esac
done
if ((${#chosen[@]} == 0)); then chosen=(a b c); fi
benches/delta-pairs.sh "$pairs" "${chosen[@]}"
[[ -e .cache/encoders/bundle-zstd-1.5.4 ]] || recipes/encoders/build.sh .cache/encoders
cargo build --release --locked --example layer_delta
delta=$PWD/target/release/examples/layer_delta
encoders=$PWD/.cache/encoders

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
timed() { /usr/bin/time -f '%U+%S s of processor, %e s, %M KiB' -o "$out/time" "$@"; }
report() { printf '  %-26s %12d bytes   %s\n' "$1" "$2" "$3"; }
ratio() { printf '  %-26s %11d %%        at most %s %%\n' "ours / $1" $((100 * ours / $2)) "$3"; }

static_delta() { # OLD NEW: the size of all parts of a static delta between the trees
    local repo=$out/repo old new
    ostree init --repo="$repo" --mode=bare-user
    for name in old new; do
        mkdir "$out/tree"
        tar -xf "$1/$name.tar" -C "$out/tree"
        ostree commit --repo="$repo" --branch="$name" --tree=dir="$out/tree" >"$out/$name.commit"
        rm -rf "$out/tree"
    done
    old=$(<"$out/old.commit")
    new=$(<"$out/new.commit")
    timed ostree static-delta generate --repo="$repo" --from="$old" --to="$new" --inline --min-fallback-size=0 \
        --filename="$out/static" >/dev/null
    stat -c %s "$out/static"
    rm -rf "$repo"
}

for pair in "${chosen[@]}"; do
    old=$pairs/$pair/old.tar
    new=$pairs/$pair/new.tar
    printf 'pair %s: %d bytes\n' "$pair" "$(stat -c %s "$new")"
    timed "$delta" make "$old" "$new" "$out/ours" "$encoders" >/dev/null
    ours=$(stat -c %s "$out/ours")
    report ours "$ours" "made: $(<"$out/time")"
    timed "$delta" rebuild "$old" "$out/ours" "$encoders" >"$out/speed"
    report '' "$ours" "rebuilt, byte for byte: $(<"$out/time")"
    if [[ $pair == a ]]; then
        timed "$delta" make "$old" "$new" "$out/plain" >/dev/null
        timed "$delta" rebuild "$old" "$out/plain" >"$out/speed"
        report 'without recipes' "$(stat -c %s "$out/plain")" "rebuilt: $(<"$out/time"); $(<"$out/speed")"
    fi
    if [[ $peers == no ]]; then continue; fi
    case $pair in a) bounds=(30 33 25) ;; b) bounds=(20 - -) ;; c) bounds=(- - -) ;; esac
    if command -v tar-diff >/dev/null; then
        timed tar-diff "$old" "$new" "$out/tardiff"
        size=$(stat -c %s "$out/tardiff")
        report tar-diff "$size" "$(<"$out/time")"
        ratio tar-diff "$size" "${bounds[0]}"
    else
        echo '  tar-diff is not installed: not compared'
    fi
    if command -v ostree >/dev/null && ((EUID == 0)); then
        size=$(static_delta "$pairs/$pair")
        report 'ostree static delta' "$size" "$(<"$out/time")"
        ratio ostree "$size" "${bounds[1]}"
    else
        echo '  ostree is not installed, or this is not root: not compared'
    fi
    if command -v zstd >/dev/null; then
        timed zstd -q -19 --long=31 --patch-from="$old" "$new" -o "$out/patch"
        size=$(stat -c %s "$out/patch")
        report 'zstd -19 --patch-from' "$size" "$(<"$out/time")"
        ratio patch-from "$size" "${bounds[2]}"
    else
        echo '  zstd is not installed: not compared'
    fi
    rm -f "$out"/{ours,plain,tardiff,static,patch}
done
