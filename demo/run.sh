#!/bin/bash
# Shows the whole journey of an update for a person to watch: registry, signed bundle, air gap, appliance, rollback.
#
# Why: every step is the real thing. Debian's registry serves two releases of a bootable image, the bundle is verified
# with networking off, and a fresh OSTree sysroot gets it deployed; the last word is that of stock `ostree`.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: demo/run.sh

Run `make demo`, which builds what this needs. Root or sudo: deployments have owners.
Everything happens in a scratch directory and on a free loopback port.

Environment:
  BUNDLE       the program to show (default: target/release/bundle)
  IMAGE        the OCI layout with the releases (default: .cache/image/oci)
  DEMO_KEEP    1 keeps the scratch directory, and says where it is
  TMPDIR       where that is; about 1 GB (default: /var/tmp)
USAGE
}

case "${1-}" in '') ;; -h | --help) usage; exit 0 ;; *) usage >&2; exit 2 ;; esac

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bundle=$(realpath -m "${BUNDLE:-$top/target/release/bundle}")
image=$(realpath -m "${IMAGE:-$top/.cache/image/oci}")
die() { printf 'demo: error: %s\n' "$*" >&2; exit 1; }

if ((EUID != 0)); then
    command -v sudo >/dev/null || die "needs root, or sudo"
    exec sudo env BUNDLE="$bundle" IMAGE="$image" DEMO_KEEP="${DEMO_KEEP-}" TMPDIR="${TMPDIR:-/var/tmp}" "$0"
fi
[[ -x $bundle ]] || die "there is no program $bundle: run make demo"
[[ -f $image/index.json ]] || die "there is no image $image: run make demo"
for tool in docker-registry ostree skopeo unshare; do
    command -v "$tool" >/dev/null || die "$tool is missing: run tests/install-packages.sh"
done

work=$(mktemp -d -p "${TMPDIR:-/var/tmp}" bundle-demo.XXXXXXXX)
registry_pid=
cleanup() {
    if [[ -n $registry_pid ]]; then
        kill "$registry_pid" 2>/dev/null || true
        wait "$registry_pid" 2>/dev/null || true
    fi
    if [[ ${DEMO_KEEP-} == 1 ]]; then
        printf '\nKept: %s\n' "$work"
        return
    fi
    # OSTree makes the root of every deployment immutable.
    local deployment
    for deployment in "$work"/sysroot/ostree/deploy/*/deploy/*/; do
        if [[ -d $deployment ]]; then chattr -i "$deployment" 2>/dev/null || true; fi
    done
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

bold='' dim='' plain=''
if [[ -t 1 ]]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; fi
number=0
step() {
    number=$((number + 1))
    printf '\n%s%d. %s%s\n' "$bold" "$number" "$*" "$plain"
}

# run STATUS COMMAND...: prints the command as it would be typed, runs it, and stops the demo on any exit status but
# those of the list "STATUS,STATUS".
run() {
    local allowed=$1 status=0 word line=''
    shift
    for word; do
        [[ $word =~ ^[A-Za-z0-9_./:=@,+-]+$ ]] || word=${word@Q}
        line+=" $word"
    done
    printf '%s$%s%s\n' "$dim" "$line" "$plain"
    "$@" || status=$?
    [[ ,$allowed, == *,$status,* ]] || die "exit status $status, expected $allowed"
    case $status in
        12) printf '(exit status 12: corrupt)\n' ;;
        100) printf '(exit status 100: done, takes effect at the next boot)\n' ;;
    esac
}

# Commands are shown as on a machine where bundle is installed, with files in the current directory.
mkdir "$work/bin"
ln -s "$bundle" "$work/bin/bundle"
export PATH=$work/bin:$PATH
cd "$work"
started=$SECONDS

step "Start a registry of our own, on a loopback port that the kernel chooses: Debian's default would serve every interface."
cat >registry.yml <<YML
version: 0.1
log: {level: info, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: "127.0.0.1:0"}
YML
printf '%s$ docker-registry serve registry.yml &%s\n' "$dim" "$plain"
# A clean environment: the registry lets variables override its configuration.
env -i PATH="$PATH" docker-registry serve registry.yml >registry.log 2>&1 &
registry_pid=$!
port=
for _ in {1..100}; do
    port=$(sed -n 's/.*listening on 127\.0\.0\.1:\([0-9]\{1,5\}\).*/\1/p' registry.log)
    if [[ -n $port ]]; then break; fi
    kill -0 "$registry_pid" 2>/dev/null || break
    sleep 0.05
done
if [[ -z $port ]]; then
    cat registry.log >&2
    die "the registry did not start"
fi
printf 'listening on 127.0.0.1:%s\n' "$port"
repository=docker://127.0.0.1:$port/appliance

step "Push two releases of a bootable image (Debian's kernel, systemd, ostree), as a vendor's build would."
for version in 1.0.0 2.0.0; do
    run 0 skopeo copy --quiet --preserve-digests --dest-tls-verify=false "oci:$image:$version" "$repository:$version"
done

step "Make the release key. It stays on the build box."
run 0 bundle key generate --out KEY.pem

step "Make the trust root, which appliances are given once: it says who may sign releases of this product."
run 0 bundle trust init --product demo-appliance --key KEY.pem --out trust-root.json
run 0 bundle trust show trust-root.json

step "Export both releases from the registry as signed bundles. This is the connected side, and its last step."
sequence=0
for version in 1.0.0 2.0.0; do
    sequence=$((sequence + 1))
    run 0 bundle export "$repository:$version" -o "bundle-$version" --sign-key KEY.pem \
        --trust-root trust-root.json --product demo-appliance --version "$version" --sequence "$sequence" \
        --tls-verify=false
done
kill "$registry_pid"
wait "$registry_pid" 2>/dev/null || true
registry_pid=
printf '(the registry is stopped: nothing from here on could reach it)\n'

step "Look into a bundle. It is a plain OCI layout, so stock tools read it too."
run 0 bundle inspect bundle-1.0.0

step "Verify it with networking off: the trust root and the medium are all it takes."
run 0 unshare -n bundle verify bundle-1.0.0 --trust-root trust-root.json

step "Change one byte on the medium, and verify again: the damage is found, and named."
cp -r --reflink=auto bundle-1.0.0 damaged
victim=$(find damaged/blobs -type f -printf '%s %p\n' | sort -rn | head -n 1 | cut -d' ' -f2-)
python3 - "$victim" <<'PYTHON'
import sys
with open(sys.argv[1], "r+b") as blob:
    blob.seek(5_000_000)
    byte = blob.read(1)[0]
    blob.seek(5_000_000)
    blob.write(bytes([byte ^ 1]))
PYTHON
printf '(one bit of byte 5000000 of %s)\n' "$victim"
run 12 bundle verify damaged --trust-root trust-root.json
rm -rf damaged

step "Make a fresh OSTree sysroot: the disk of an appliance."
mkdir sysroot
run 0 ostree admin init-fs --modern sysroot

step "Apply 1.0.0: verified, imported layer by layer, and deployed."
run 0,100 bundle apply bundle-1.0.0 --sysroot sysroot --stateroot demo --trust-root trust-root.json
run 0 bundle status --sysroot sysroot

step "Apply 2.0.0 on top: only what differs is stored again, and 1.0.0 stays for a rollback."
run 0,100 bundle apply bundle-2.0.0 --sysroot sysroot --stateroot demo --trust-root trust-root.json
run 0 bundle status --sysroot sysroot

step "Roll back, as when the new release did not come up healthy."
run 0,100 bundle rollback --sysroot sysroot
run 0 bundle status --sysroot sysroot

step "Ask stock ostree: what bundle wrote is an ordinary deployment."
run 0 ostree admin status --sysroot=sysroot

printf '\n%sDone in %d s.%s\n' "$bold" "$((SECONDS - started))" "$plain"
