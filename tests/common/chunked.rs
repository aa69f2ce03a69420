//! Chunked ("ostree-native") images, built from a commit that the `ostree` command made.

#![allow(dead_code, reason = "each test file uses its own part of this module")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::io::Read as _;

use ostree::gio::prelude::*;
use ostree::{ObjectType, gio};

use super::image::Layer;
use super::support::TestRepo;

/// Commits a tree in a repository of its own.
pub(crate) fn commit_of(tar: &[u8]) -> (TestRepo, String) {
    let test = TestRepo::new();
    let path = test.directory.path().join("tree.tar");
    std::fs::write(&path, tar).unwrap();
    let tree = format!("--tree=tar={}", path.display());
    let commit = test.ostree(&[
        "commit",
        "-b",
        "os",
        "-s",
        "subject",
        "--tar-autocreate-parents",
        &tree,
    ]);
    (test, commit.trim().to_owned())
}

pub(crate) fn object_path(name: &str, kind: &str) -> String {
    format!(
        "sysroot/ostree/repo/objects/{}/{}.{kind}",
        &name[..2],
        &name[2..]
    )
}

/// Objects of a commit as entries of layers: metadata, and content by name.
pub(crate) struct Objects {
    pub(crate) metadata: Layer,
    pub(crate) content: BTreeMap<String, Box<dyn Fn(Layer) -> Layer>>,
}

/// Reads the objects of a commit in the order and form in which ostree-ext exports them.
pub(crate) fn objects(test: &TestRepo, commit: &str) -> Objects {
    let mut metadata = Layer::new()
        .dir("sysroot/")
        .dir("sysroot/ostree/repo/objects/00/")
        .file(
            "sysroot/ostree/repo/config",
            "[core]\nrepo_version=1\nmode=bare-split-xattrs\n",
        );
    let mut content: BTreeMap<String, Box<dyn Fn(Layer) -> Layer>> = BTreeMap::new();
    let bytes = |kind, name: &str| {
        test.repo
            .load_variant(kind, name)
            .unwrap()
            .data_as_bytes()
            .to_vec()
    };
    let raw = |layer: Layer, name: &str, kind: &str, bytes: &[u8]| {
        layer.entry(b'0', &object_path(name, kind), "", 0o644, bytes)
    };
    metadata = raw(
        metadata,
        commit,
        "commit",
        &bytes(ObjectType::Commit, commit),
    );
    let all = test
        .repo
        .traverse_commit(commit, 0, gio::Cancellable::NONE)
        .unwrap();
    for object in all {
        let name = object.checksum().to_string();
        match object.object_type() {
            ObjectType::DirTree => {
                metadata = raw(
                    metadata,
                    &name,
                    "dirtree",
                    &bytes(ObjectType::DirTree, &name),
                );
            }
            ObjectType::DirMeta => {
                metadata = raw(
                    metadata,
                    &name,
                    "dirmeta",
                    &bytes(ObjectType::DirMeta, &name),
                );
            }
            ObjectType::File => {
                let (stream, info, xattrs) =
                    test.repo.load_file(&name, gio::Cancellable::NONE).unwrap();
                let mut data = Vec::new();
                if let Some(stream) = stream {
                    stream.into_read().read_to_end(&mut data).unwrap();
                }
                let xattrs = xattrs.data_as_bytes().to_vec();
                let mode = info.attribute_uint32("unix::mode") & 0o7777;
                let target = info.symlink_target();
                let key = name.clone();
                content.insert(
                    key,
                    Box::new(move |layer| {
                        let link = object_path(&name, "file-xattrs-link");
                        let layer = layer.entry(b'0', &link, "", 0o644, &xattrs);
                        let path = object_path(&name, "file");
                        match &target {
                            Some(target) => layer.symlink(&path, target.to_str().unwrap()),
                            None => layer.entry(b'0', &path, "", mode, &data),
                        }
                    }),
                );
            }
            _ => {}
        }
    }
    Objects { metadata, content }
}

impl Objects {
    /// Splits the content over `count` layers, behind the one with the metadata.
    pub(crate) fn layers(&self, count: usize) -> Vec<Layer> {
        let mut layers = vec![Layer::new(); count];
        for (index, add) in self.content.values().enumerate() {
            let slot = &mut layers[index % count];
            *slot = add(std::mem::take(slot));
        }
        // Container runtimes see the files by links such as this one, which ostree-ext ignores.
        let first = self.content.keys().next().unwrap();
        let last = std::mem::take(&mut layers[0]);
        layers[0] = last.hardlink("usr/a", &object_path(first, "file"));
        [vec![self.metadata.clone()], layers].concat()
    }
}
