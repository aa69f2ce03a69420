#!/usr/bin/env python3
"""Assembles an OCI image layout from layer tars, the same bytes every time. Standard library only; zstd is the program.

usage: make-oci.py layer LAYOUT TAR gzip|zstd|none
           stores a layer, prints its description for `image`
       make-oci.py image LAYOUT TAG ARCHITECTURE CREATED [--label=KEY=VALUE]... [--annotation=KEY=VALUE]... LAYER.json...
           adds an image of the layers described in the files, and prints its digest
"""

import gzip
import hashlib
import json
import os
import pathlib
import subprocess
import sys

SUFFIX = {"gzip": "+gzip", "zstd": "+zstd", "none": ""}


class Layout:
    def __init__(self, path):
        self.root = pathlib.Path(path)
        self.blobs = self.root / "blobs" / "sha256"
        self.blobs.mkdir(parents=True, exist_ok=True)
        (self.root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def adopt(self, path, media_type):
        """Takes a file of the layout's file system in as a blob, and describes it."""
        size = path.stat().st_size
        with open(path, "rb") as blob:
            digest = hashlib.file_digest(blob, "sha256").hexdigest()
        os.replace(path, self.blobs / digest)
        return {"mediaType": media_type, "digest": "sha256:" + digest, "size": size}

    def put_json(self, value, media_type):
        path = self.root / f"new.{os.getpid()}"
        path.write_bytes(json.dumps(value, separators=(",", ":"), sort_keys=True).encode())
        return self.adopt(path, media_type)


def compress(tar, out, how):
    with open(tar, "rb") as source, open(out, "wb") as sink:
        if how == "zstd":
            # One thread and a set level: the bytes depend on nothing but the library's version.
            subprocess.run(["zstd", "-q", "-6", "-T1", "-c"], stdin=source, stdout=sink, check=True)
            return
        target = gzip.GzipFile("", "wb", 6, sink, mtime=0) if how == "gzip" else sink
        while block := source.read(1 << 20):
            target.write(block)
        if target is not sink:
            target.close()


def layer(layout, tar, how):
    if how not in SUFFIX:
        raise SystemExit(__doc__)
    layout = Layout(layout)
    with open(tar, "rb") as source:
        diff_id = "sha256:" + hashlib.file_digest(source, "sha256").hexdigest()
    out = layout.root / f"new.{os.getpid()}"
    compress(tar, out, how)
    descriptor = layout.adopt(out, "application/vnd.oci.image.layer.v1.tar" + SUFFIX[how])
    print(json.dumps({"descriptor": descriptor, "diff_id": diff_id, "name": pathlib.Path(tar).stem}))


def image(layout, tag, architecture, created, *rest):
    pairs = {"--label": {}, "--annotation": {}}
    layers = []
    for argument in rest:
        if argument.startswith("--"):
            option, key, value = argument.split("=", 2)
            pairs[option][key] = value
        else:
            layers.append(json.loads(pathlib.Path(argument).read_text()))
    layout = Layout(layout)
    config = layout.put_json(
        {
            "architecture": architecture,
            "os": "linux",
            "created": created,
            "config": {"Labels": pairs["--label"]},
            "rootfs": {"type": "layers", "diff_ids": [entry["diff_id"] for entry in layers]},
            "history": [{"created": created, "created_by": entry["name"]} for entry in layers],
        },
        "application/vnd.oci.image.config.v1+json",
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [entry["descriptor"] for entry in layers],
    }
    if pairs["--annotation"]:
        manifest["annotations"] = pairs["--annotation"]
    entry = layout.put_json(manifest, manifest["mediaType"])
    entry["annotations"] = {"org.opencontainers.image.ref.name": tag}

    path = layout.root / "index.json"
    index = json.loads(path.read_text()) if path.exists() else {"schemaVersion": 2, "manifests": []}
    others = [m for m in index["manifests"] if m["annotations"]["org.opencontainers.image.ref.name"] != tag]
    index["manifests"] = others + [entry]
    path.write_text(json.dumps(index, indent=2) + "\n")
    print(entry["digest"])


def main():
    commands = {"layer": layer, "image": image}
    if len(sys.argv) < 5 or sys.argv[1] not in commands:
        raise SystemExit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])


main()
