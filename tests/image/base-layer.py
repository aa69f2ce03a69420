#!/usr/bin/env python3
"""Turns the tar of a plain Debian root into the base layer of a bootable container.

Why: OSTree wants the kernel and its initramfs in /usr/lib/modules/VERSION, nothing in /var, and the writable places as
symbolic links into it. Working from tar to tar needs neither root nor room for a tree.

usage: base-layer.py ROOTFS.tar OUT.tar FILES_DIR SOURCE_DATE_EPOCH
"""

import pathlib
import sys
import tarfile

from layertar import Layer

# Emptied: the host fills them, or a link below takes their place.
EMPTIED = ["boot", "dev", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp", "usr/local", "var"]
DROPPED = [
    # only of use to the build, or made again on the host
    "etc/.pwd.lock", "etc/apt", "etc/fstab", "etc/group-", "etc/gshadow-", "etc/hostname", "etc/machine-id",
    "etc/passwd-", "etc/resolv.conf", "etc/shadow-", "initrd.img", "initrd.img.old", "vmlinuz", "vmlinuz.old",
    # size
    "usr/lib/udev/hwdb.bin", "usr/lib/udev/hwdb.d", "usr/share/doc", "usr/share/info", "usr/share/locale",
    "usr/share/man", "usr/share/zoneinfo",
]
# Units that would fail or cost time on an image without what was dropped.
MASKED = [
    "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer", "ldconfig.service",
    "systemd-hwdb-update.service", "systemd-journal-catalog-update.service",
]


def within(name, places):
    return any(name == place or name.startswith(place + "/") for place in places)


def new_name(name):
    """Where an entry of the root goes in the layer; None for nowhere."""
    if name.startswith("boot/vmlinuz-"):
        return f"usr/lib/modules/{name.removeprefix('boot/vmlinuz-')}/vmlinuz"
    if name.startswith("boot/initrd.img-"):
        return f"usr/lib/modules/{name.removeprefix('boot/initrd.img-')}/initramfs.img"
    if within(name, ["var/lib/dpkg"]):
        return "usr/lib/sysimage/dpkg" + name.removeprefix("var/lib/dpkg")
    if name in ("", ".") or within(name, EMPTIED) or within(name, DROPPED):
        return None
    return name


def main():
    if len(sys.argv) != 5:
        raise SystemExit(__doc__)
    source, out, files, epoch = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), int(sys.argv[4])
    layer = Layer(epoch)
    with tarfile.open(source) as root:
        for info in root:
            name = new_name(info.name.removeprefix("./"))
            if name is None:
                continue
            info.name = name
            if info.islnk():
                info.linkname = new_name(info.linkname.removeprefix("./"))
                if info.linkname is None:
                    raise SystemExit(f"error: {name} is a hard link to what the layer leaves out")
            layer.put(info, (lambda i=info: root.extractfile(i)) if info.isreg() else None)

        for name in ("boot", "dev", "media", "proc", "run", "sys", "sysroot", "usr/lib/sysimage", "var"):
            layer.directory(name)
        layer.directory("tmp", 0o1777)
        for name in ("home", "mnt", "opt", "srv"):
            layer.symlink(name, "var/" + name)
        layer.symlink("root", "var/roothome")
        layer.symlink("usr/local", "../var/usrlocal")
        layer.symlink("ostree", "sysroot/ostree")
        for unit in MASKED:
            layer.symlink("etc/systemd/system/" + unit, "/dev/null")
        layer.file("etc/machine-id", b"", 0o444)
        layer.file("etc/fstab", b"")
        layer.file("usr/lib/tmpfiles.d/appliance.conf", (files / "tmpfiles.conf").read_bytes())
        layer.file("usr/sbin/grub-mkconfig", (files / "grub-mkconfig").read_bytes(), 0o755)

        kernels = {n.split("/")[3] for n in layer.entries if n.startswith("usr/lib/modules/") and n.count("/") > 3}
        for kernel in kernels:
            for part in ("vmlinuz", "initramfs.img"):
                if f"usr/lib/modules/{kernel}/{part}" not in layer.entries:
                    raise SystemExit(f"error: kernel {kernel} came without {part}")
        if len(kernels) != 1:
            raise SystemExit(f"error: expected one kernel, found {sorted(kernels)}")
        layer.write(out)


main()
