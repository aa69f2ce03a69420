#!/bin/bash
# Makes the pairs of layers that benches/delta.sh measures: OLD and NEW as uncompressed tar files.
#
#   PAIRS/a  a Debian 12 server as the archive's main suite has it, and the same with updates and security: kernel, initramfs
#   PAIRS/b  the same with every kernel module compressed as the kernel's own build does it (.ko.xz)
#   PAIRS/c  the small point release of the test image
#
# Usage: benches/delta-pairs.sh PAIRS [a|b|c]...        needs root for a; ten minutes for a, ten for b
#
# What is there is left alone. Pair a follows the archive, so later runs see later updates: compare figures of one run only.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
pairs=${1:?usage: benches/delta-pairs.sh PAIRS [a|b|c]...}
shift
if (($# == 0)); then set -- a b c; fi
mkdir -p "$pairs"
packages=linux-image-amd64,initramfs-tools,zstd,systemd,systemd-sysv,systemd-resolved,dbus,openssh-server,curl,wget,python3,perl,podman,git,git-lfs,nginx-light,rsync,rsyslog,chrony,nftables,network-manager,sudo,vim,jq,unzip,zip,parted,cryptsetup,lvm2,tzdata,ca-certificates,bind9-dnsutils,postgresql-client-15,nodejs,libnss3,gnupg,less,iproute2,procps,kmod,polkitd,xz-utils,binutils

# server NAME SOURCE...: the tree of a server image, with kernel and initramfs where OSTree looks for them.
server() {
    local name=$1 work kernel
    shift
    if [[ -e $pairs/a/$name.tar ]]; then return; fi
    mkdir -p "$pairs/a"
    work=$(mktemp -d "$pairs/$name.XXXXXX")
    SOURCE_DATE_EPOCH=1700000000 mmdebstrap --mode=root --variant=minbase --include="$packages" \
        --aptopt='APT::Install-Recommends "false"' --skip=check/empty --dpkgopt='path-exclude=/usr/share/doc/*' \
        bookworm "$work/root" "$@"
    mkdir -p "$work/tree/var/lib"
    cp -a "$work/root/usr" "$work/root/etc" "$work/tree/"
    cp -a "$work/root/var/lib/dpkg" "$work/tree/var/lib/dpkg"
    kernel=$(ls "$work/tree/usr/lib/modules")
    cp "$work/root/boot/vmlinuz-$kernel" "$work/tree/usr/lib/modules/$kernel/vmlinuz"
    cp "$work/root/boot/initrd.img-$kernel" "$work/tree/usr/lib/modules/$kernel/initramfs.img"
    rm -f "$work/tree/etc/machine-id"
    tar --sort=name --mtime=@0 --numeric-owner --format=gnu -C "$work/tree" -cf "$pairs/a/$name.tar.new" .
    mv "$pairs/a/$name.tar.new" "$pairs/a/$name.tar"
    rm -rf "$work"
}

pair_a() {
    local mirror
    mirror=$(awk '/^URIs:/ { print $2; exit } $1 == "deb" { print $2; exit }' \
        /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null)
    server old "deb $mirror bookworm main"
    server new "deb $mirror bookworm main" "deb $mirror bookworm-updates main" \
        "deb ${mirror%/debian}/debian-security bookworm-security main"
}

# compressed NAME: a layer whose modules are compressed one by one, each entry else as it was.
compressed() {
    local name=$1
    if [[ -e $pairs/b/$name.tar ]]; then return; fi
    mkdir -p "$pairs/b"
    python3 - "$pairs/a/$name.tar" "$pairs/b/$name.tar.new" <<'PYTHON'
import concurrent.futures, io, lzma, sys, tarfile

def pack(content):
    # scripts/Makefile.modinst: xz --check=crc32 --lzma2=dict=1MiB
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 1 << 20}]
    return lzma.compress(content, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters)

with tarfile.open(sys.argv[1]) as old, tarfile.open(sys.argv[2], "w", format=tarfile.GNU_FORMAT) as new:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        waiting = []
        def drain(most):
            while len(waiting) > most:
                member, future = waiting.pop(0)
                content = future.result()
                member.size = len(content)
                new.addfile(member, io.BytesIO(content))
        for member in old:
            if member.isreg() and member.name.endswith(".ko"):
                content = old.extractfile(member).read()
                member.name += ".xz"
                waiting.append((member, pool.submit(pack, content)))
                drain(64)
            else:
                drain(0)
                new.addfile(member, old.extractfile(member) if member.isreg() else None)
        drain(0)
PYTHON
    mv "$pairs/b/$name.tar.new" "$pairs/b/$name.tar"
}

pair_b() {
    pair_a
    compressed old
    compressed new
}

# The layers that the releases of the test image do not share.
pair_c() {
    local name version
    if [[ -e $pairs/c/new.tar ]]; then return; fi
    make --silent image
    mkdir -p "$pairs/c"
    for name in old:1.0.0 new:2.0.0; do
        version=${name#*:}
        python3 - .cache/image/oci "$version" "$pairs/c/${name%:*}.tar" <<'PYTHON'
import gzip, json, shutil, subprocess, sys

layout, tag, out = sys.argv[1:]
def blob(digest):
    return f"{layout}/blobs/{digest.replace(':', '/')}"
index = json.load(open(f"{layout}/index.json"))
manifest = next(m for m in index["manifests"] if m["annotations"]["org.opencontainers.image.ref.name"] == tag)
layers = json.load(open(blob(manifest["digest"])))["layers"]
last = layers[-1]
with open(out, "wb") as target:
    if last["mediaType"].endswith("gzip"):
        shutil.copyfileobj(gzip.open(blob(last["digest"])), target)
    elif last["mediaType"].endswith("zstd"):
        subprocess.run(["zstd", "-dc", blob(last["digest"])], stdout=target, check=True)
    else:
        shutil.copyfileobj(open(blob(last["digest"]), "rb"), target)
PYTHON
    done
}

for pair in "$@"; do "pair_$pair"; done
