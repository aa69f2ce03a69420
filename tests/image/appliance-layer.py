#!/usr/bin/env python3
"""Writes the appliance's own layer of one release: small, and with one of everything that an importer can get wrong.

Why: the base layer is shared by all releases, so what differs between two of them is here: a changed and an added file
in /etc, deletions of files and of a directory's content below, hard links (one of them in /etc, whose target
moves to /usr/etc with it), a file capability, a set-user-ID program, an empty directory, a large file of which a part
changes.

usage: appliance-layer.py VERSION BASE.tar OUT.tar SOURCE_DATE_EPOCH
"""

import random
import struct
import sys
import tarfile

from layertar import Layer

# Deleted from the base, and replaced in it: checked against it, since Debian may move them.
DELETED = ["etc/issue.net", "usr/share/debianutils"]
DELETED_LATER = ["usr/share/dict"]
OPAQUE_LATER = "usr/share/pam-configs"
REPLACED = ["etc/issue", "usr/lib/os-release"]

# cap_net_raw=ep as struct vfs_cap_data: revision 2 with the effective bit, then permitted and inheritable, low and high.
NET_RAW = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
BLOCK = 64 * 1024


def dataset(major):
    """2 MiB that compress by half and differ in one block of eight from the release before."""
    blocks = []
    for number in range(32):
        edition = major if number % 8 == 3 else 1
        words = random.Random(f"{number} {edition}")
        blocks.append(bytes(words.choices(b"0123456789abcdef", k=BLOCK)))
    return b"".join(blocks)


def main():
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    version, base, out, epoch = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    major = int(version.split(".")[0])
    with tarfile.open(base) as tar:
        below = set(tar.getnames())
    deleted = DELETED + (DELETED_LATER if major > 1 else [])
    for name in deleted + [OPAQUE_LATER] + REPLACED:
        if name not in below:
            raise SystemExit(f"error: the base has no {name}: choose another victim in {sys.argv[0]}")

    layer = Layer(epoch)
    for name in ("etc", "usr", "usr/bin", "usr/lib", "usr/libexec", "usr/share"):
        layer.directory(name)
    layer.file(
        "usr/lib/os-release",
        f'NAME="Demo Appliance"\nID=demo-appliance\nID_LIKE=debian\nVERSION_ID={version}\nVERSION="{version}"\n'
        f'PRETTY_NAME="Demo Appliance {version}"\n'.encode(),
    )
    layer.symlink("etc/os-release", "../usr/lib/os-release")
    layer.file("usr/lib/appliance-version", f"{version}\n".encode())

    layer.file("etc/hostname", b"appliance\n")
    layer.file("etc/issue", f"Demo Appliance {version} \\n \\l\n".encode())
    layer.file("etc/appliance.conf", f"release = {version}\ninterval = {10 * major}\n".encode())
    layer.hardlink("etc/appliance.conf.orig", "etc/appliance.conf")
    layer.file(f"etc/new-in-{major}.conf", f"added by {version}\n".encode())
    layer.file("etc/appliance.key", b"not a secret\n", 0o600)

    for name in deleted:
        layer.whiteout(name)
    if major > 1:
        layer.directory(OPAQUE_LATER)
        layer.opaque(OPAQUE_LATER)
        layer.file(f"{OPAQUE_LATER}/appliance", b"Name: appliance\n")

    layer.file("usr/bin/appliance-probe", b'#!/bin/sh\nexec cat /usr/lib/appliance-version\n', 0o755,
               {"security.capability": NET_RAW})
    layer.directory("usr/libexec/appliance")
    layer.file("usr/libexec/appliance/helper", f"#!/bin/sh\necho helper of {version}\n".encode(), 0o4755)
    layer.directory("usr/lib/appliance")
    layer.directory("usr/lib/appliance/plugins")
    layer.directory("usr/share/appliance")
    layer.file("usr/share/appliance/data-a", dataset(major))
    layer.hardlink("usr/share/appliance/data-b", "usr/share/appliance/data-a")
    layer.symlink("usr/share/appliance/current", "data-a")
    layer.file("usr/share/appliance/space and Ünïcode", b"names are bytes\n")
    deep = "usr/share/appliance"
    for part in ["a" * 60, "b" * 60, "c" * 60]:
        deep += "/" + part
        layer.directory(deep)
    layer.file(f"{deep}/longer-than-the-name-field-of-a-tar-header", b"deep\n")
    layer.write(out)


main()
