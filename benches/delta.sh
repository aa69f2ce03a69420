#!/bin/bash
# Measures a layer delta against its peers, in one run, on two real Debian trees.
#
# Usage: benches/delta.sh [PAIR_DIRECTORY]        needs root the first time
#
# The pair is a Debian 12 server tree as the archive's main suite has it, and the same with updates and
# security: kernel, initramfs, about 1.1 GB each. It is made in PAIR_DIRECTORY (default .cache/delta-pair)
# unless it is there. Peers are run where they are installed: zstd --patch-from, and tar-diff, a Go
# program (go install github.com/containers/tar-diff/cmd/tar-diff@latest). Both take some minutes.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
pair=${1:-.cache/delta-pair}
packages=linux-image-amd64,initramfs-tools,zstd,systemd,systemd-sysv,systemd-resolved,dbus,openssh-server,curl,wget,python3,perl,podman,git,git-lfs,nginx-light,rsync,rsyslog,chrony,nftables,network-manager,sudo,vim,jq,unzip,zip,parted,cryptsetup,lvm2,tzdata,ca-certificates,bind9-dnsutils,postgresql-client-15,nodejs,libnss3,gnupg,less,iproute2,procps,kmod,polkitd,xz-utils,binutils

# make_tree NAME SOURCE...: the tree of an image, with kernel and initramfs where OSTree looks for them.
make_tree() {
    local name=$1 work kernel; shift
    work=$(mktemp -d "$pair/$name.XXXXXX")
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
    tar --sort=name --mtime=@0 --numeric-owner --format=gnu -C "$work/tree" -cf "$pair/$name.tar.new" .
    mv "$pair/$name.tar.new" "$pair/$name.tar"
    rm -rf "$work"
}

mkdir -p "$pair"
if [[ ! -e $pair/old.tar || ! -e $pair/new.tar ]]; then
    mirror=$(awk '/^URIs:/ { print $2; exit } $1 == "deb" { print $2; exit }' /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null)
    make_tree old "deb $mirror bookworm main"
    make_tree new "deb $mirror bookworm main" "deb $mirror bookworm-updates main" \
        "deb ${mirror%/debian}/debian-security bookworm-security main"
fi
[[ -e .cache/encoders/bundle-zstd-1.5.4 ]] || recipes/encoders/build.sh .cache/encoders
cargo build --release --locked --example layer_delta

report() { printf '%-22s %12d bytes  %s\n' "$1" "$2" "$3"; }
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
/usr/bin/time -f '%U s of processor, %M KiB at most' -o "$out/time" \
    target/release/examples/layer_delta "$pair/old.tar" "$pair/new.tar" "$out/ours" .cache/encoders
ours=$(stat -c %s "$out/ours")
report bundle "$ours" "made and rebuilt: $(cat "$out/time")"
if command -v zstd >/dev/null; then
    /usr/bin/time -f '%U s, %M KiB' -o "$out/time" \
        zstd -q -19 --long=31 --patch-from="$pair/old.tar" "$pair/new.tar" -o "$out/zstd"
    size=$(stat -c %s "$out/zstd")
    report 'zstd -19 --patch-from' "$size" "ours is $((100 * ours / size)) % of it; $(cat "$out/time")"
fi
if command -v tar-diff >/dev/null; then
    gzip -1 <"$pair/old.tar" >"$out/old.tar.gz"; gzip -1 <"$pair/new.tar" >"$out/new.tar.gz"
    /usr/bin/time -f '%U s, %M KiB' -o "$out/time" tar-diff "$out/old.tar.gz" "$out/new.tar.gz" "$out/tardiff"
    size=$(stat -c %s "$out/tardiff")
    report tar-diff "$size" "ours is $((100 * ours / size)) % of it; $(cat "$out/time")"
else
    echo 'tar-diff is not installed: not compared'
fi
