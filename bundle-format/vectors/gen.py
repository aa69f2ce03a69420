#!/usr/bin/env python3
"""Makes the vectors beside this file, as a second implementation of SPEC.md would.

It shares no code with the Rust programs: a bundle that both make alike shows that the specification says enough. It
needs Python 3.8 and `openssl` 3 for the signatures, and always writes the same bytes.

usage: gen.py DIRECTORY     DIRECTORY must not hold vectors yet

The keys are for tests: their seeds are 32 equal bytes, written below for everybody to read.
"""

import base64
import copy
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile

CHUNK = 1 << 20
EMPTY = b"{}"
LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
RELEASE = "application/vnd.bundle.release.v1"
ENVELOPE = "application/vnd.bundle.release.v1.dsse+json"
CHUNKS = "application/vnd.bundle.chunks.v1"
TRUST_ROOT = "application/vnd.bundle.trust-root.v1+json"
TRUST_CHAIN = "application/vnd.bundle.trust-chain.v1"
REVOCATION_LIST = "application/vnd.bundle.revocation-list.v1+json"
PERMIT = "application/vnd.bundle.permit.v1+json"
IN_TOTO = "application/vnd.in-toto+json"
TAG = "org.opencontainers.image.ref.name"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def compact(value):
    """SPEC 3.2: no white space, members in the order given, nothing escaped that need not be."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def entry(data):
    return {"digest": "sha256:" + sha256(data), "size": len(data)}


def descriptor(media_type, data, **more):
    return {"mediaType": media_type, **entry(data), **more}


class Key:
    """An Ed25519 key pair made from a seed (SPEC 8.1)."""

    def __init__(self, seed):
        self.der = bytes.fromhex("302e020100300506032b657004220420") + bytes([seed]) * 32
        self.spki = self.openssl("pkey", "-inform", "DER", "-in", self.file(self.der), "-pubout", "-outform", "DER")
        self.keyid = sha256(self.spki)

    def file(self, data):
        with tempfile.NamedTemporaryFile(dir=scratch, delete=False) as out:
            out.write(data)
        return out.name

    @staticmethod
    def openssl(*arguments):
        return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout

    def pem(self, label, der):
        return f"-----BEGIN {label}-----\n{base64.b64encode(der).decode()}\n-----END {label}-----\n".encode()

    def private_pem(self):
        return self.pem("PRIVATE KEY", self.der)

    def public_pem(self):
        return self.pem("PUBLIC KEY", self.spki)

    def sign(self, message):
        key, data = self.file(self.private_pem()), self.file(message)
        return self.openssl("pkeyutl", "-sign", "-inkey", key, "-rawin", "-in", data)


def envelope(payload_type, payload, keys):
    """SPEC 4.1."""
    signed = b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type.encode(), len(payload), payload)
    signatures = [
        {"keyid": key.keyid, "sig": base64.b64encode(key.sign(signed)).decode()}
        for key in sorted(keys, key=lambda key: key.keyid)
    ]
    return {"payloadType": payload_type, "payload": base64.b64encode(payload).decode(), "signatures": signatures}


class Example:
    """The bundle of SPEC appendix A; every vector changes one thing before or after it is signed."""

    def __init__(self, signers, payload_type=IN_TOTO):
        self.signers, self.payload_type = signers, payload_type
        layer = io.BytesIO()
        with tarfile.open(fileobj=layer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            member = tarfile.TarInfo("usr/lib/release")
            text = b"VERSION=1.2.3\n"
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
        self.layer = layer.getvalue()[:2048]
        self.config = compact(
            {
                "created": "2026-01-02T03:04:05Z",
                "architecture": "amd64",
                "os": "linux",
                "config": {"Labels": {"org.opencontainers.image.version": "1.2.3"}},
                "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha256(self.layer)]},
            }
        )
        self.image = compact(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": descriptor(CONFIG, self.config),
                "layers": [descriptor(LAYER, self.layer)],
            }
        )
        self.blobs = [self.image, self.config, self.layer, EMPTY]
        self.chunks = None  # the bytes of the chunk index, where they are not to be the right ones
        self.statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "registry.example/os/appliance:1.2.3", "digest": {"sha256": sha256(self.image)}}],
            "predicateType": "urn:bundle:release:v1",
            "predicate": {
                "product": "appliance",
                "version": "1.2.3",
                "sequence": 7,
                "created": "2026-01-02T03:04:05Z",
                "source": "registry.example/os/appliance:1.2.3",
                "index": [descriptor(MANIFEST, self.image, annotations={TAG: "1.2.3"})],
                "blobs": None,
                "chunks": None,
            },
        }

    def files(self, edit_statement=None, edit_payload=None, edit_envelope=None):
        """Returns path and content of every file of the bundle."""
        predicate = self.statement["predicate"]
        if self.chunks is None:
            # SPEC 5.2
            self.chunks = b"".join(
                hashlib.sha256(blob[at : at + CHUNK]).digest()
                for blob in self.blobs
                for at in range(0, len(blob), CHUNK)
            )
        predicate["blobs"] = [entry(blob) for blob in self.blobs]
        predicate["chunks"] = {"size": CHUNK, "index": entry(self.chunks)}
        if edit_statement:
            edit_statement(self.statement)
        payload = compact(self.statement)
        if edit_payload:
            payload = edit_payload(payload)
        signed = envelope(self.payload_type, payload, self.signers)
        if edit_envelope:
            signed = edit_envelope(signed) or signed
        signed = compact(signed)
        # SPEC 3.4
        release = compact(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "artifactType": RELEASE,
                "config": descriptor(EMPTY_TYPE, EMPTY),
                "layers": [descriptor(ENVELOPE, signed), descriptor(CHUNKS, self.chunks)],
                "subject": descriptor(predicate["index"][0]["mediaType"], self.image),
            }
        )
        # SPEC 3.3
        index = compact(
            {
                "schemaVersion": 2,
                "mediaType": INDEX,
                "manifests": predicate["index"] + [descriptor(MANIFEST, release, artifactType=RELEASE)],
            }
        )
        files = {"oci-layout": LAYOUT, "index.json": index}
        for blob in [*self.blobs, self.chunks, signed, release]:
            files[path(blob)] = blob
        return files


class Root:
    """What a trust root says (SPEC 8.2), to be changed and signed."""

    def __init__(self, version, scope=None, times=None, **roles):
        names = {"site_approver": "site-approver"}
        keys = {}
        for role in roles.values():
            for key in role:
                keys[key.keyid] = {"type": "ed25519", "spki": base64.b64encode(key.spki).decode()}
        for key, value in (scope or {}).items():
            keys[key.keyid]["scope"] = value
        critical = ["expires"] * bool(times) + ["scope"] * bool(scope)
        self.says = {"critical": critical} if critical else {}
        self.says.update(
            product="appliance",
            version=version,
            **(times or {}),
            keys=dict(sorted(keys.items())),
            roles={
                names.get(role, role): {"keyids": sorted(key.keyid for key in keys), "threshold": 1}
                for role, keys in roles.items()
            },
        )

    def but(self, edit):
        other = copy.deepcopy(self)
        edit(other.says)
        return other

    def by(self, *keys):
        return compact(envelope(TRUST_ROOT, compact(self.says), keys))


def chain(example, roots):
    """Puts trust roots into a bundle (SPEC 8.5.1)."""
    manifest = compact(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": TRUST_CHAIN,
            "config": descriptor(EMPTY_TYPE, EMPTY),
            "layers": [descriptor(TRUST_ROOT, root) for root in roots],
            "subject": descriptor(MANIFEST, example.image),
        }
    )
    example.blobs += [manifest, *roots]
    example.statement["predicate"]["index"].append(descriptor(MANIFEST, manifest, artifactType=TRUST_CHAIN))
    return example.files()


def path(blob):
    return "blobs/sha256/" + sha256(blob)


def write(directory, files):
    for name, data in sorted(files.items()):
        target = os.path.join(directory, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if isinstance(data, str):
            os.symlink(data, target)
        else:
            with open(target, "wb") as out:
                out.write(data)


def flip(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def main():
    root, release, stranger = Key(1), Key(2), Key(3)
    keys = {key.keyid: {"type": "ed25519", "spki": base64.b64encode(key.spki).decode()} for key in (root, release)}
    trust_root = {
        "product": "appliance",
        "version": 1,
        "keys": dict(sorted(keys.items())),
        "roles": {
            "root": {"keyids": [root.keyid], "threshold": 1},
            "release": {"keyids": [release.keyid], "threshold": 1},
        },
    }
    write(
        target,
        {
            "trust-root.json": compact(envelope(TRUST_ROOT, compact(trust_root), [root])),
            "root.pem": root.private_pem(),
            "release.pem": release.private_pem(),
            "release.pub.pem": release.public_pem(),
        },
    )
    lines = []

    def vector(name, expect, section, defect, files, whole=None):
        header = f"expect: {expect}\nspec: {section}\ntrust-root: trust-root.json\nbundle: {name}\ndefect: {defect}\n"
        write(target, {name + ".vector": header.encode(), **(whole or {})})
        write(os.path.join(target, name), files or {})
        lines.append(f"{name:<22} expect: {expect:<15} {section:<6} {defect}\n")

    good = Example([release]).files()
    vector("accepted", "accepted", "A", "none; the bundle of SPEC appendix A", good)

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted(good.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    vector("accepted.tar", "accepted", "3.7", "none; the same bundle as a tar file", None, {"accepted.tar": archive.getvalue()})

    def changed(**edits):
        return Example([release]).files(**edits)

    def without(files, name):
        return {key: data for key, data in files.items() if key != name}

    def member(name, value):
        return lambda statement: statement["predicate"].update({name: value})

    duplicate = good["index.json"].replace(b'{"schemaVersion":2,', b'{"schemaVersion":2,"schemaVersion":2,', 1)
    vector("index-json-duplicate", "not-a-bundle", "6.1", "index.json has a member twice", {**good, "index.json": duplicate})

    index = json.loads(good["index.json"])
    index["manifests"].pop()
    vector("no-release", "unsigned", "6.1", "index.json lists no release", {**good, "index.json": compact(index)})

    unsigned = changed(edit_envelope=lambda e: e["signatures"].clear())
    vector("no-signature", "unsigned", "6.4.2", "the envelope has no signature", unsigned)

    names_algorithm = changed(edit_envelope=lambda e: e["signatures"][0].update({"alg": "none"}))
    vector("names-algorithm", "untrusted", "6.3", "a signature has a member for an algorithm", names_algorithm)

    def as_array(e):
        return [e["payloadType"], e["payload"], [[s["keyid"], s["sig"]] for s in e["signatures"]]]

    array = changed(edit_envelope=as_array)
    vector("array-envelope", "untrusted", "6.3", "the envelope is an array of its values", array)

    vector("payload-type", "untrusted", "6.4.1", "the payload is signed as a trust root", Example([release], TRUST_ROOT).files())
    vector("foreign-key", "untrusted", "6.4.3", "signed by a key that the trust root does not know", Example([stranger]).files())
    vector("role-root", "untrusted", "6.4.3", "signed by the key of the role root", Example([root]).files())

    def spoil(e):
        signature = e["signatures"][0]
        signature["sig"] = base64.b64encode(flip(base64.b64decode(signature["sig"]), 0)).decode()

    vector("bad-signature", "untrusted", "6.4.3", "one bit of the signature is flipped", changed(edit_envelope=spoil))
    critical = member("critical", ["moon"])
    vector("critical", "inconsistent", "6.4.4", "an unknown member is critical", changed(edit_statement=critical))

    def twice(payload):
        return payload.replace(b'"sequence":7', b'"sequence":7,"sequence":8', 1)

    vector("statement-duplicate", "inconsistent", "6.4.4", "the signed statement has a member twice", changed(edit_payload=twice))

    def statement_as_array(payload):
        s = json.loads(payload)
        subjects = [[subject["name"], subject["digest"]] for subject in s["subject"]]
        return compact([s["_type"], subjects, s["predicateType"], s["predicate"]])

    array = changed(edit_payload=statement_as_array)
    vector("array-statement", "inconsistent", "6.4.4", "the signed statement is an array of its values", array)

    def image_type(statement):
        statement["predicate"]["index"][0]["mediaType"] = "text/plain"

    image = changed(edit_statement=image_type)
    vector("image-media-type", "inconsistent", "6.4.4", "the image has a media type that is no document", image)
    product = member("product", "toaster")
    vector("wrong-product", "wrong-product", "6.4.5", "signed for another product", changed(edit_statement=product))

    example = Example([release])
    chunks = b"".join(bytes.fromhex(sha256(blob)) for blob in example.blobs)
    example.chunks = flip(chunks, 2 * 32)
    vector("chunk-index", "inconsistent", "6.5", "the signed chunk index contradicts a digest", example.files())

    retagged = good["index.json"].replace(b'"1.2.3"', b'"1.2.4"', 1)
    vector("index-json-tag", "corrupt", "6.6", "index.json has another tag", {**good, "index.json": retagged})

    layer = path(Example([release]).layer)
    vector("missing-file", "missing-file", "6.7", "the layer is not there", without(good, layer))
    vector("extra-file", "extra-file", "6.7", "a file that nobody signed", {**good, "README.txt": b"hello\n"})
    vector("wrong-size", "wrong-size", "6.7", "the layer lacks its last byte", {**good, layer: good[layer][:-1]})
    vector("symbolic-link", "misplaced-file", "6.7", "the layer is a symbolic link", {**good, layer: "../../layer"})

    hidden = io.BytesIO()
    with tarfile.open(fileobj=hidden, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        folder = tarfile.TarInfo("blobs")
        folder.type, folder.size = tarfile.DIRTYPE, 512
        hidden.write(folder.tobuf(tarfile.USTAR_FORMAT) + b"nobody signed this".ljust(512, b"."))
    whole = {"tar-directory-data": hidden.getvalue()[:1024] + archive.getvalue()}
    defect = "a directory member of the tar file has data"
    vector("tar-directory-data", "extra-file", "6.7", defect, None, whole)

    example = Example([release])
    example.blobs.remove(example.layer)
    vector("incomplete-image", "inconsistent", "6.8", "the signed blobs lack the image's layer", example.files())

    vector("corrupt", "corrupt", "6.9", "one bit of the layer is flipped", {**good, layer: flip(good[layer], 600)})

    # SPEC 8: a second version of the trust root, whose release key is another.
    second = Root(2, root=[root], release=[stranger])
    lead = [compact(envelope(TRUST_ROOT, compact(trust_root), [root])), second.by(root)]
    vector("trust-chain", "accepted", "8.5", "none; signed by a key of version 2, to which the chain leads", chain(Example([stranger]), lead))
    # Root keys of nobody the host knows.
    astray = Root(2, root=[stranger], release=[stranger]).by(stranger)
    vector("trust-chain-astray", "untrusted", "6.3.1", "version 2 is not signed by root keys of version 1", chain(Example([stranger]), [lead[0], astray]))
    third = Root(3, root=[root], release=[stranger]).by(root)
    vector("trust-chain-gap", "untrusted", "6.3.1", "the chain leaves version 2 out", chain(Example([stranger]), [lead[0], third]))
    vector("trust-chain-removed", "untrusted", "6.4.3", "signed by a key that version 2 does not list", chain(Example([release]), lead))

    def channel(statement):
        statement["predicate"].update(critical=["channel"], channel="beta")

    vector("channel", "wrong-channel", "6.4.6", "a release of the channel beta", changed(edit_statement=channel))
    vector("channel-ignored", "inconsistent", "6.4.4", "a channel that is not critical", changed(edit_statement=member("channel", "beta")))
    vector("security-floor", "inconsistent", "6.4.4", "a release below its own security floor", changed(edit_statement=member("security-floor", 8)))

    write(target, {"INDEX": ("# " + TITLE + "\n" + "".join(lines)).encode()})


def documents():
    """Writes vectors of the documents of trust (SPEC 8): `NAME.json` and what a host that has `held.json` says of it."""
    root, release, revoker, stranger = Key(1), Key(2), Key(4), Key(3)
    folder = os.path.join(target, "trust")
    scope = {release: {"channels": ["default"], "sequence": {"from": 1, "to": 100}}, revoker: {"sequence": {"from": 1, "to": 50}}}
    held = Root(1, scope, root=[root], release=[release], revocation=[revoker])
    write(folder, {"held.json": held.by(root)})
    lines = []

    def vector(name, kind, expect, section, defect, data):
        write(folder, {name + ".json": data})
        lines.append(f"{name:<20} {kind:<10} expect: {expect:<9} {section:<7} {defect}\n")

    def edited(*path, value):
        def edit(says):
            for step in path[:-1]:
                says = says[step]
            says[path[-1]] = value

        return edit

    # Trust roots: read by themselves.
    times = {"created": "2026-01-02T03:04:05Z", "expires": "2030-01-01T00:00:00Z"}
    full = Root(7, scope, times, root=[root], release=[release], revocation=[revoker], site_approver=[stranger], evidence=[stranger])
    vector("root", "root", "accepted", "8.2", "none; all roles, scopes and times", full.by(root))
    ids = [key.keyid for key in (root, release, revoker)]
    for name, section, defect, edit in [
        ("threshold-0", "8.2.3", "threshold 0", edited("roles", "release", "threshold", value=0)),
        ("threshold-2", "8.2.3", "threshold 2 of 1 key", edited("roles", "release", "threshold", value=2)),
        ("key-twice", "8.2.3", "a key id twice", edited("roles", "release", value={"keyids": [ids[1]] * 2, "threshold": 2})),
        ("key-unknown", "8.2.3", "a key id that is not among the keys", edited("roles", "release", "keyids", value=["0" * 64])),
        ("key-renamed", "8.2.1", "a key under another id", lambda says: says["keys"].update({"0" * 64: says["keys"][ids[0]]})),
        ("role-unknown", "8.2.2", "a role that does not exist", lambda says: says["roles"].update(emperor=says["roles"]["root"])),
        ("role-missing", "8.2.2", "no role release", lambda says: says["roles"].pop("release")),
        ("scope-empty", "8.2.4", "a scope without a limit", edited("keys", ids[1], "scope", value={})),
        ("scope-unknown", "8.2.4", "a limit that does not exist", edited("keys", ids[1], "scope", value={"countries": ["de"]})),
        ("scope-backwards", "8.2.4", "a range that ends before it begins", edited("keys", ids[1], "scope", "sequence", value={"from": 9, "to": 1})),
        ("scope-of-root", "8.2.4", "a scope for a root key", edited("keys", ids[0], "scope", value={"sequence": {"from": 1, "to": 9}})),
        ("scope-ignored", "2.1.6", "scopes that are not critical", edited("critical", value=["expires"])),
        ("expires-ignored", "2.1.6", "an expiry that is not critical", edited("critical", value=["scope"])),
        ("critical-unknown", "2.1.6", "an unknown member is critical", edited("critical", value=["expires", "moon", "scope"])),
        ("expires-spelling", "2.5", "a time in another spelling", edited("expires", value="2030-01-01T00:00:00+00:00")),
        ("version-0", "8.2.1", "version 0", edited("version", value=0)),
    ]:
        vector(name, "root", "refused", section, defect, full.but(edit).by(root))
    vector("root-unsigned", "root", "refused", "8.2.5", "nobody signed", compact({**json.loads(full.by(root)), "signatures": []}))
    vector("root-by-release", "root", "refused", "8.2.5", "signed by a release key", full.by(release))
    vector("root-spelling", "root", "refused", "4.1.1", "a line end behind the envelope", full.by(root) + b"\n")

    # Successors of held.json.
    def grow(says):
        says["version"] = 2
        says["keys"][stranger.keyid] = {"type": "ed25519", "spki": base64.b64encode(stranger.spki).decode()}
        says["keys"] = dict(sorted(says["keys"].items()))
        says["roles"]["root"]["keyids"] = [stranger.keyid]
        del says["keys"][root.keyid]

    successor = held.but(grow)
    vector("next", "successor", "accepted", "8.4", "none; version 2, with another root key", successor.by(root, stranger))
    vector("next-old-only", "successor", "refused", "8.4.1", "signed by the root keys of version 1 alone", successor.by(root))
    vector("next-new-only", "successor", "refused", "8.4.1", "signed by the root keys of version 2 alone", successor.by(stranger))
    vector("next-product", "successor", "refused", "8.4.1", "of another product", successor.but(edited("product", value="toaster")).by(root, stranger))
    vector("next-gap", "successor", "refused", "8.4.1", "version 3", successor.but(edited("version", value=3)).by(root, stranger))
    vector("next-fork", "successor", "refused", "8.4.3", "another version 1", successor.but(edited("version", value=1)).by(root, stranger))

    def issue(kind, says, key, **changes):
        return compact(envelope(kind, compact({**says, **changes}), [key]))

    # Revocation lists.
    listed = {
        "product": "appliance",
        "sequence": 3,
        "created": "2026-01-02T03:04:05Z",
        "keys": sorted(ids[1:]),
        "digests": sorted("sha256:" + sha256(data) for data in (b"a", b"b")),
        "floors": {"beta": 9, "default": 5},
    }
    vector("list", "list", "accepted", "8.6", "none", issue(REVOCATION_LIST, listed, revoker))
    for name, section, defect, changes in [
        ("list-sequence", "8.6.1", "sequence 0", {"sequence": 0}),
        ("list-scope", "8.2.4", "a sequence that its signer may not sign", {"sequence": 51}),
        ("list-product", "8.6.1", "for another product", {"product": "toaster"}),
        ("list-order", "8.6.1", "keys that are not sorted", {"keys": sorted(ids[1:], reverse=True)}),
        ("list-twice", "8.6.1", "a digest twice", {"digests": listed["digests"][:1] * 2}),
        ("list-floor", "8.6.1", "a floor of 0", {"floors": {"default": 0}}),
        ("list-critical", "2.1.6", "an unknown member is critical", {"critical": ["moon"]}),
    ]:
        vector(name, "list", "refused", section, defect, issue(REVOCATION_LIST, listed, revoker, **changes))
    vector("list-by-release", "list", "refused", "8.6.1", "signed by a release key", issue(REVOCATION_LIST, listed, release))
    vector("list-as-permit", "list", "refused", "8.6.1", "signed as a permit", issue(PERMIT, listed, revoker))

    # Permits.
    permit = {
        "product": "appliance",
        "hosts": ["host-1", "host-2"],
        "sequence": {"from": 3, "to": 5},
        "statement": "sha256:" + sha256(b"statement"),
        "nonce": "00112233445566778899aabbccddeeff",
        "created": "2026-01-02T03:04:05Z",
        "expires": "2026-02-02T03:04:05Z",
    }
    vector("permit", "permit", "accepted", "8.7", "none", issue(PERMIT, permit, release))
    for name, section, defect, changes in [
        ("permit-scope", "8.7.1", "a sequence that its signer may not sign", {"sequence": {"from": 3, "to": 101}}),
        ("permit-channel", "8.7.1", "a channel that its signer may not sign for", {"channel": "beta"}),
        ("permit-range", "8.7.1", "a range that ends before it begins", {"sequence": {"from": 5, "to": 3}}),
        ("permit-nobody", "8.7.1", "no host", {"hosts": []}),
        ("permit-twice", "8.7.1", "a host twice", {"hosts": ["host-1", "host-1"]}),
        ("permit-host", "8.7.1", "a host that is a pattern", {"hosts": ["*"]}),
        ("permit-nonce", "8.7.1", "a nonce of 15 bytes", {"nonce": "00" * 15}),
        ("permit-product", "8.7.1", "for another product", {"product": "toaster"}),
    ]:
        vector(name, "permit", "refused", section, defect, issue(PERMIT, permit, release, **changes))
    vector("permit-by-root", "permit", "refused", "8.7.1", "signed by a root key", issue(PERMIT, permit, root))

    title = "One line a vector: name | kind | verdict of a host that has held.json | section of SPEC.md | its one defect."
    write(folder, {"INDEX": ("# " + title + " Made by ../gen.py.\n" + "".join(lines)).encode()})


TITLE = "One line a vector: name | verdict | step of SPEC.md | its one defect. Made by gen.py; `accepted` is never made again."

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    target = sys.argv[1]
    with tempfile.TemporaryDirectory() as scratch:
        main()
        documents()
