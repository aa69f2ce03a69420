"""Writing layer tars that are the same bytes every time; shared by base-layer.py and appliance-layer.py.

Why: the tests compare digests, so names are sorted, owners are numbers, times are one time and no header says when or
where it was made.
"""

import io
import tarfile


class Layer:
    """Collects entries by name, and writes them sorted."""

    def __init__(self, mtime):
        self.mtime = mtime
        self.entries = {}

    def put(self, info, data=None):
        """Adds an entry, replacing an earlier one of that name. `data` is bytes, or a function that opens a reader."""
        info.mtime = self.mtime
        info.uname = info.gname = ""
        # What is kept of the extended headers is extended attributes; sizes and names tarfile writes again itself.
        info.pax_headers = {k: v for k, v in info.pax_headers.items() if k.startswith("SCHILY.xattr.")}
        self.entries[info.name] = (info, data)

    def directory(self, name, mode=0o755):
        info = tarfile.TarInfo(name)
        info.type, info.mode = tarfile.DIRTYPE, mode
        self.put(info)

    def file(self, name, data, mode=0o644, xattrs=None):
        info = tarfile.TarInfo(name)
        info.mode, info.size = mode, len(data)
        for key, value in (xattrs or {}).items():
            info.pax_headers["SCHILY.xattr." + key] = value.decode("utf-8")
        self.put(info, data)

    def symlink(self, name, target):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, target
        self.put(info)

    def hardlink(self, name, target, mode=0o644):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.linkname = tarfile.LNKTYPE, mode, target
        self.put(info)

    def whiteout(self, name):
        """Deletes `name` of the layers below."""
        head, slash, tail = name.rpartition("/")
        self.file(f"{head}{slash}.wh.{tail}", b"")

    def opaque(self, directory):
        """Deletes all that the layers below have in `directory`."""
        self.file(f"{directory}/.wh..wh..opq", b"")

    def write(self, path):
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as out:
            written = set()
            for name in sorted(self.entries, key=lambda n: n.encode("utf-8", "surrogateescape")):
                info, data = self.entries[name]
                if info.islnk() and info.linkname not in written:
                    raise SystemExit(f"error: {name} is a hard link to {info.linkname}, which does not come before it")
                out.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else data and data())
                written.add(name)
