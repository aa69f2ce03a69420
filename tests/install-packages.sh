#!/bin/bash
# Installs the Debian packages that building, testing and the demo need.
#
# Why: a fresh Debian 12 with git, make and a Rust toolchain should need no reading to get from a clone to `make test`.
# When nothing is missing it touches neither the network nor apt, so that `make` may call it every time.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: tests/install-packages.sh [--check]

Installs what is missing, as root or through sudo. Nothing is started: Debian's
docker-registry would listen on every interface, so its service is left disabled.

  --check   only print what is missing; exit status 1 when there is something
USAGE
}

# One list, by who needs it.
packages=(
    # building: libostree's bindings, OpenSSL through ocidir in tests, C code in crates
    ca-certificates gcc libc6-dev libostree-dev libssl-dev make pkg-config
    # registry and image tools that the tests and the demo start
    apache2-utils docker-registry openssl skopeo umoci
    # images and media
    debian-archive-keyring gzip mmdebstrap pigz python3 xorriso xz-utils zstd
    # hosts: sysroots, immutable flags, extended attributes, namespaces
    attr e2fsprogs libcap2-bin mount ostree util-linux
    # measuring, injecting faults and cleaning up
    procps strace time
)

say() { printf 'install-packages: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

check_only=no
case "${1-}" in
    '') ;;
    --check) check_only=yes ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac

command -v dpkg-query >/dev/null || die "this needs Debian (or a derivative): there is no dpkg-query"

# `missing` lists those that dpkg does not call installed. One call for all of them: it takes milliseconds.
find_missing() {
    local status name
    local -A installed=()
    # shellcheck disable=SC2016 # the format is dpkg-query's
    local format='${db:Status-Status} ${Package}\n'
    # dpkg-query fails when it does not know one of the names, and still prints the others.
    while read -r status name; do
        if [[ $status == installed ]]; then installed[$name]=yes; fi
    done < <(dpkg-query --show --showformat "$format" "${packages[@]}" 2>/dev/null || true)
    missing=()
    for name in "${packages[@]}"; do
        if [[ -z ${installed[$name]-} ]]; then missing+=("$name"); fi
    done
}

find_missing
if ((${#missing[@]} == 0)); then exit 0; fi
if [[ $check_only == yes ]]; then
    printf '%s\n' "${missing[@]}"
    exit 1
fi

as_root=()
if ((EUID != 0)); then
    command -v sudo >/dev/null ||
        die "not root and no sudo; as root run: apt-get install --no-install-recommends ${missing[*]}"
    as_root=(sudo)
fi
root() { "${as_root[@]}" "$@"; }

# policy-rc.d(8) decides whether a package's scripts may start a service. Ours says no while apt runs.
policy=/usr/sbin/policy-rc.d
saved=$policy.bundle-saved
policy_ours=no
restore() {
    if [[ $policy_ours == yes ]]; then
        policy_ours=no
        root rm -f "$policy"
        if [[ -e $saved || -L $saved ]]; then root mv "$saved" "$policy"; fi
    fi
}
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

deny_services() {
    [[ ! -e $saved && ! -L $saved ]] || die "$saved is left from a broken run: move it back to $policy, or remove it"
    policy_ours=yes
    if [[ -e $policy || -L $policy ]]; then root mv "$policy" "$saved"; fi
    printf '#!/bin/sh\n# Put here by tests/install-packages.sh, which removes it again.\nexit 101\n' |
        root tee "$policy" >/dev/null
    root chmod 755 "$policy"
}

apt() { root env DEBIAN_FRONTEND=noninteractive apt-get --quiet --option DPkg::Lock::Timeout=300 "$@"; }

say "installing ${missing[*]}"
deny_services
# A foreign source that is out of reach must not stop us: the installation says what it lacks.
apt update >&2 || say "warning: not every package list could be read"
apt install --yes --no-install-recommends "${missing[@]}" >&2

for name in "${missing[@]}"; do
    if [[ $name == docker-registry ]]; then
        # Not started by us, nor at the next boot. An installation that was there before is not ours to change.
        # update-rc.d knows systemd with and without systemctl, and the links of a System V init.
        root update-rc.d docker-registry disable || say "warning: docker-registry starts at the next boot"
    fi
done

find_missing
((${#missing[@]} == 0)) || die "still missing: ${missing[*]}"
