#!/bin/bash
# Measures the whole road against its peers, in one run: export/skopeo, verify/openssl, apply/ostree.
#
# Usage: benches/road.sh [RUNS]        needs root, about 8 GB below TMPDIR, and target/release/bundle
#
# The image is 1.24 GB of tar in four gzip layers, made from this machine's own /usr. Each pair runs in
# turn, ours then the peer's, RUNS times (default 5) after one warm-up that does not count. Printed
# are the ratios of wall time pair by pair (minimum, median, maximum), and our peak memory. A ratio
# says more than its parts: other work on the machine slows both.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${1:-5}
bundle=$PWD/target/release/bundle
[[ -x $bundle ]] || { echo "error: $bundle is missing; run: make build" >&2; exit 1; }
for tool in docker-registry skopeo openssl ostree umoci zcat /usr/bin/time; do
    command -v "$tool" >/dev/null || { echo "error: $tool is missing; run: tests/install-packages.sh" >&2; exit 1; }
done

work=$(mktemp -d)
registry=
cleanup() {
    [[ -z $registry ]] || kill "$registry" 2>/dev/null || true
    umount "$work/disk" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

say() { printf '%s\n' "$*" >&2; }

make_image() {
    say "making an image of 1.24 GB from /usr"
    # Dealt out evenly: every fourth file, until the sum is reached.
    find /usr -xdev \( -type f -o -type l \) -size -64M -printf '%s %P\n' 2>/dev/null | LC_ALL=C sort -k2 |
        awk -v work="$work" 'sum < 1.2e9 { sum += $1; print substr($0, index($0, " ") + 1) > (work "/list." (NR % 4)) }'
    umoci init --layout "$work/image" 2>/dev/null
    umoci new --image "$work/image:v1" 2>/dev/null
    for i in 0 1 2 3; do
        tar -C / --transform 's,^,usr/,S' -cf "$work/layer.tar" --no-recursion -C /usr -T "$work/list.$i" 2>/dev/null || true
        ((i > 0)) || kernel
        umoci raw add-layer --image "$work/image:v1" "$work/layer.tar" 2>/dev/null
    done
    rm "$work/layer.tar"
}

# Adds what libostree asks for to deploy an image: apply is measured whole, its peer only imports.
kernel() {
    mkdir -p "$work/kernel/usr/lib/modules/0.0" "$work/kernel/usr/etc"
    head -c 4M /dev/urandom >"$work/kernel/usr/lib/modules/0.0/vmlinuz"
    head -c 4M /dev/urandom >"$work/kernel/usr/lib/modules/0.0/initramfs.img"
    printf 'NAME=bench\nID=bench\nVERSION_ID=1\n' >"$work/kernel/usr/lib/os-release"
    tar -C "$work/kernel" -rf "$work/layer.tar" usr
}

start_registry() {
    local port=$((20000 + RANDOM % 20000))
    cat >"$work/registry.yml" <<EOF
version: 0.1
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: 127.0.0.1:$port}
log: {accesslog: {disabled: true}, level: error}
EOF
    docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
    registry=$!
    reference=docker://127.0.0.1:$port/bench/image:v1
    for _ in {1..50}; do
        if skopeo copy -q --dest-tls-verify=false "oci:$work/image:v1" "$reference" 2>/dev/null; then return; fi
        sleep 0.2
    done
    say "error: the registry does not answer"; exit 1
}

# now: seconds with nanoseconds
now() { date +%s.%N; }

# pair NAME BOUND MEMORY_MIB OURS PEER RESET: runs the two in turn and prints the ratios.
pair() {
    local name=$1 bound=$2 memory=$3 ours=$4 peer=$5 reset=$6 i begin middle end
    : >"$work/ratios"; : >"$work/memory"
    for ((i = 0; i <= runs; i++)); do
        "$reset"; sync
        begin=$(now); /usr/bin/time -f %M -a -o "$work/memory" "$ours" >"$work/out" 2>&1 || { cat "$work/out"; exit 1; }; middle=$(now)
        "$reset"; sync
        local start; start=$(now)
        "$peer" >"$work/out" 2>&1 || { cat "$work/out"; exit 1; }; end=$(now)
        if ((i > 0)); then echo "$begin $middle $start $end" >>"$work/ratios"; fi
    done
    awk -v name="$name" -v bound="$bound" -v memory="$memory" -v peak="$(sort -n "$work/memory" | tail -1)" '
        { ours[NR] = $2 - $1; peer[NR] = $4 - $3; ratio[NR] = ours[NR] / peer[NR] }
        END { asort_n(ratio, NR); asort_n(ours, NR); asort_n(peer, NR); m = int((NR + 1) / 2)
            printf "%-8s ratio %.2f (%.2f to %.2f), asked: at most %s; ours %.2f s, peer %.2f s; peak %d MiB, asked: under %d\n",
                name, ratio[m], ratio[1], ratio[NR], bound, ours[m], peer[m], peak / 1024, memory }
        function asort_n(a, n,   i, j, t) { for (i = 2; i <= n; i++) { t = a[i]; for (j = i - 1; j > 0 && a[j] > t; j--) a[j + 1] = a[j]; a[j + 1] = t } }' "$work/ratios"
}

# Each side of a pair is a program of its own, so that time measures it and nothing else.
program() { printf '#!/bin/bash\nset -euo pipefail\n%s\n' "$2" >"$work/$1"; chmod 755 "$work/$1"; }

make_image
start_registry
"$bundle" key generate --quiet --out "$work/key.pem" >"$work/out"
"$bundle" trust init --product bench --key "$work/key.pem" --out "$work/root.json" >"$work/out"
size=$(du -sm "$work/image" | cut -f1)
say "image: $size MiB compressed; $runs runs of each pair"

export_args="$reference --sign-key $work/key.pem --trust-root $work/root.json --version 1 --sequence 1 --tls-verify=false --quiet"
program export-ours "exec $bundle export -o $work/bundle $export_args"
program export-peer "exec skopeo copy -q --src-tls-verify=false $reference oci:$work/copy:v1"
program export-reset "rm -rf $work/bundle $work/copy"
pair export 1.0 256 "$work/export-ours" "$work/export-peer" "$work/export-reset"

[[ -d $work/bundle ]] || "$work/export-ours" >"$work/out"
program verify-ours "exec $bundle verify $work/bundle --trust-root $work/root.json --quiet"
program verify-peer "exec openssl dgst -sha256 $work/bundle/blobs/sha256/*"
program nothing ":"
pair verify 0.65 64 "$work/verify-ours" "$work/verify-peer" "$work/nothing"

layers=$(python3 - "$work/image" <<'EOF'
import json, sys
root = sys.argv[1]
blob = lambda d: root + "/blobs/sha256/" + d["digest"].split(":")[1]
index = json.load(open(root + "/index.json"))
manifest = json.load(open(blob(index["manifests"][0])))
print(" ".join(blob(layer) for layer in manifest["layers"]))
EOF
)
program apply-ours "exec $bundle apply $work/bundle --sysroot $work/disk/sysroot --trust-root $work/root.json --quiet"
program apply-peer "n=0; for layer in $layers; do n=\$((n + 1)); zcat \$layer | ostree commit --repo=$work/disk/peer --branch=layer/\$n --tree=tar=/dev/stdin --tar-autocreate-parents; done"
# A new file system for every run: ext4 looks long for an inode where many were deleted a moment ago.
program apply-reset "umount $work/disk 2>/dev/null || true; rm -f $work/disk.img; mkdir -p $work/disk; truncate -s 8G $work/disk.img
mkfs.ext4 -q -E lazy_itable_init=1 $work/disk.img; mount -o loop $work/disk.img $work/disk; mkdir $work/disk/sysroot
ostree admin init-fs --modern $work/disk/sysroot; ostree init --repo=$work/disk/peer --mode=bare"
pair apply 0.7 256 "$work/apply-ours" "$work/apply-peer" "$work/apply-reset"
