#!/bin/bash
# Builds releases 1.0.0 and 2.0.0 of a small bootable appliance as one OCI layout.
#
# Why: the tests and the demo need images that are real (Debian's kernel, a dracut initramfs, systemd, ostree), small, and
# the same bytes every time. Both releases share the base layer, as releases of an appliance do.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: tests/image/build.sh OUT_DIR

Makes OUT_DIR/oci, an OCI layout with the tags 1.0.0 and 2.0.0, for example for
    skopeo copy oci:OUT_DIR/oci:1.0.0 docker://REGISTRY/appliance:1.0.0
and does nothing when that is there already and these scripts have not changed.

Environment:
  MIRROR     Debian mirror (default: the one in apt's sources)
  TMPDIR     where to work (default: /dev/shm when it has room, else /var/tmp)
USAGE
}

case "${1-}" in -h | --help) usage; exit 0 ;; esac
if (($# != 1)); then usage >&2; exit 2; fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suite=trixie
arch=$(dpkg --print-architecture)
export SOURCE_DATE_EPOCH=1767225600 # 2026-01-01: of the releases and of all that is in them
releases=(1.0.0 2.0.0)
packages=(
    systemd systemd-sysv udev kmod                # a system
    "linux-image-cloud-$arch" dracut              # and how it starts
    ostree ostree-boot                            # as a deployment
    e2fsprogs fdisk zstd                          # and installs itself
    iproute2 procps                               # for whoever looks inside
)

say() { printf 'image: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# The stamp covers every script and file here, and the machine's architecture.
stamp=$(cd "$here" && find . -type f -not -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z |
    xargs -0 sha256sum | { cat; echo "$arch"; } | sha256sum | cut -d' ' -f1)
mkdir -p "$1"
out=$(cd "$1" && pwd)
fresh() { [[ -f $out/oci/index.json && -f $out/stamp && $(<"$out/stamp") == "$stamp" ]]; }
if fresh; then exit 0; fi

# Two builds at once would only be slow: the second waits, and finds the work done.
exec {lock}>"$out/lock"
flock "$lock"
if fresh; then exit 0; fi

case $arch in
    amd64) oci_arch=amd64 ;;
    arm64) oci_arch=arm64 ;;
    *) die "no image for the architecture $arch" ;;
esac
for tool in mmdebstrap python3 zstd apt-get; do
    command -v "$tool" >/dev/null || die "$tool is missing: run tests/install-packages.sh"
done
as_root=()
if ((EUID != 0)); then
    command -v sudo >/dev/null || die "mmdebstrap needs root, or sudo"
    as_root=(sudo)
fi

# The mirror that this machine's apt uses for its own release; the suite comes from the same place. Read from the
# sources themselves: apt answers only once it has lists, which container images leave out.
find_mirror() {
    python3 - <<'PYTHON' || die "apt's sources name no mirror of this release: set MIRROR"
import glob, re, sys

release = dict(line.rstrip().split("=", 1) for line in open("/etc/os-release") if "=" in line)
codename = release.get("VERSION_CODENAME", "").strip('"')

def sources():
    """The URI and suites of each source of packages, in both formats of sources.list(5)."""
    for path in ["/etc/apt/sources.list", *sorted(glob.glob("/etc/apt/sources.list.d/*"))]:
        try:
            text = open(path, encoding="utf-8").read()
        except FileNotFoundError:
            continue
        lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        if path.endswith(".list"):
            for line in lines:
                if found := re.match(r"deb\s+(?:\[[^]]*\]\s*)?(\S+)\s+(\S+)", line):
                    yield found[1], [found[2]]
        elif path.endswith(".sources"):
            for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
                fields = dict(re.findall(r"(?m)^([\w-]+):[ \t]*((?:.*)(?:\n[ \t].*)*)", stanza))
                if "deb" in fields.get("Types", "").split() and fields.get("Enabled", "yes") != "no":
                    for uri in fields.get("URIs", "").split():
                        yield uri, fields.get("Suites", "").split()

for uri, suites in sources():
    if codename in suites and not uri.startswith("cdrom:"):
        print(uri)
        sys.exit()
sys.exit(1)
PYTHON
}
mirror=${MIRROR:-$(find_mirror)}

# A memory file system is about four times as fast, where it may hold programs and devices.
choose_tmp() {
    local free options
    options=$(findmnt --noheadings --output OPTIONS --target /dev/shm 2>/dev/null || true)
    free=$(df --output=avail --block-size=1M /dev/shm 2>/dev/null | tail -n 1 || echo 0)
    if [[ -n $options && ! $options =~ noexec|nodev ]] && ((free > 3000)); then echo /dev/shm; else echo /var/tmp; fi
}
work=$(mktemp -d -p "${TMPDIR:-$(choose_tmp)}" bundle-image.XXXXXXXX)
cleanup() {
    "${as_root[@]}" rm -rf --one-file-system "$work"
    rm -rf "$out/oci.new"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Modes and owners in the image must not depend on who builds it.
umask 022
start=$SECONDS
say "installing Debian $suite into a tar"
# shellcheck disable=SC2016 # the hook expands its own variables
if ! "${as_root[@]}" env TMPDIR="$work" SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" \
    DRACUT_CONF="$here/files/dracut.conf" mmdebstrap \
    --verbose --variant=essential --format=tar --include="$(IFS=,; echo "${packages[*]}")" \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --setup-hook='install -D --mode=644 --owner=0 --group=0 "$DRACUT_CONF" "$1/etc/dracut.conf.d/appliance.conf"' \
    "$suite" - "deb $mirror $suite main" >"$work/rootfs.tar" 2>"$work/log"; then
    cat "$work/log" >&2
    die "mmdebstrap failed"
fi

say "making layers ($((SECONDS - start)) s)"
rm -rf "$out/oci.new"
export PYTHONDONTWRITEBYTECODE=1
python3 "$here/base-layer.py" "$work/rootfs.tar" "$work/base.tar" "$here/files" "$SOURCE_DATE_EPOCH"
rm "$work/rootfs.tar"
python3 "$here/make-oci.py" layer "$out/oci.new" "$work/base.tar" gzip >"$work/base.json"

for version in "${releases[@]}"; do
    # A month from one release to the next, and the second compressed the new way.
    months=$((${version%%.*} - 1))
    created=$(date --utc --date="@$((SOURCE_DATE_EPOCH + months * 30 * 86400))" +%Y-%m-%dT%H:%M:%SZ)
    how=gzip
    if ((months > 0)); then how=zstd; fi
    python3 "$here/appliance-layer.py" "$version" "$work/base.tar" "$work/appliance.tar" "$SOURCE_DATE_EPOCH"
    python3 "$here/make-oci.py" layer "$out/oci.new" "$work/appliance.tar" "$how" >"$work/appliance.json"
    digest=$(python3 "$here/make-oci.py" image "$out/oci.new" "$version" "$oci_arch" "$created" \
        --label=org.opencontainers.image.title=demo-appliance \
        --label=org.opencontainers.image.version="$version" \
        --label=org.opencontainers.image.created="$created" \
        --label=containers.bootc=1 --label=ostree.bootable=1 \
        --annotation=org.opencontainers.image.version="$version" \
        --annotation=org.opencontainers.image.created="$created" \
        "$work/base.json" "$work/appliance.json")
    say "$version is $digest"
done

rm -rf "$out/oci" "$out/stamp"
mv "$out/oci.new" "$out/oci"
printf '%s\n' "$stamp" >"$out/stamp"
say "done in $((SECONDS - start)) s"
