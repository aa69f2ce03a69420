//! Rows 24 to 30: content, descriptors and what lies on the medium.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bundle_format::{Digest, media_type};
use serde_json::{Value, json};

use crate::case::{Case, Site, accepts, command_line, library, run_all};
use crate::common::kit::{Image, Kit};
use crate::common::reseal::{
    edit_image, edit_json, edit_manifest, edit_release, edit_statement, parts,
};
use crate::common::run::{run, tool};

const CORRUPT: &[&str] = &["corrupt"];
const INCONSISTENT: &[&str] = &["inconsistent"];
const NOT_A_BUNDLE: &[&str] = &["not-a-bundle"];
const EXTRA: &[&str] = &["extra-file"];
const MISPLACED: &[&str] = &["misplaced-file"];

/// Path of the image's manifest.
fn image(site: &Site<'_>) -> PathBuf {
    site.path(&parts(&site.dir).release.image().unwrap().digest.blob_path())
}

/// Path of the largest layer.
fn layer(site: &Site<'_>) -> PathBuf {
    let blobs = parts(&site.dir).release.blobs;
    site.path(
        &blobs
            .iter()
            .max_by_key(|blob| blob.size)
            .unwrap()
            .digest
            .blob_path(),
    )
}

fn index(site: &Site<'_>, edit: fn(&mut Value)) {
    edit_json(&site.path("index.json"), edit);
}

#[test]
fn content_that_is_not_what_was_signed() {
    run_all(&[
        Case {
            row: 24,
            name: "image manifest tampered at the same size",
            codes: CORRUPT,
            status: 12,
            damage: |s| {
                let path = image(s);
                let text = fs::read_to_string(&path)
                    .unwrap()
                    .replace("tar+gzip", "tar+zstd");
                fs::write(path, text).unwrap();
            },
        },
        Case {
            row: 25,
            name: "order of the index",
            codes: CORRUPT,
            status: 12,
            damage: |s| index(s, |i| i["manifests"].as_array_mut().unwrap().swap(0, 1)),
        },
        Case {
            row: 25,
            name: "tag moved to the referrer",
            codes: CORRUPT,
            status: 12,
            damage: |s| {
                index(s, |i| {
                    let tag = i["manifests"][0]["annotations"].take();
                    i["manifests"][0]
                        .as_object_mut()
                        .unwrap()
                        .remove("annotations");
                    i["manifests"][1]["annotations"] = tag;
                });
            },
        },
        Case {
            row: 25,
            name: "another tag",
            codes: CORRUPT,
            status: 12,
            damage: |s| {
                index(s, |i| {
                    i["manifests"][0]["annotations"][media_type::REF_NAME] = json!("9.9.9");
                });
            },
        },
        Case {
            row: 25,
            name: "another platform",
            codes: CORRUPT,
            status: 12,
            damage: |s| {
                index(s, |i| {
                    i["manifests"][0]["platform"] = json!({"os": "linux", "architecture": "s390x"});
                });
            },
        },
        Case {
            row: 25,
            name: "urls and inline data",
            codes: CORRUPT,
            status: 12,
            damage: |s| {
                index(s, |i| {
                    i["manifests"][0]["urls"] = json!(["http://registry.example/evil"]);
                    i["manifests"][0]["data"] = json!("e30=");
                });
            },
        },
        Case {
            row: 24,
            name: "layout marker of another version",
            codes: CORRUPT,
            status: 12,
            damage: |s| {
                fs::write(s.path("oci-layout"), r#"{"imageLayoutVersion":"1.0.1"}"#).unwrap();
            },
        },
        Case {
            row: 24,
            name: "two layers swapped",
            codes: &["corrupt", "wrong-size"],
            status: 12,
            damage: |s| {
                let small = parts(&s.dir).release.blobs;
                let small = small.iter().find(|b| b.size > 2 && b.size < 300).unwrap();
                let small = s.path(&small.digest.blob_path());
                let (a, b) = (fs::read(&small).unwrap(), fs::read(layer(s)).unwrap());
                fs::write(layer(s), [&a[..], &b[a.len()..]].concat()).unwrap();
                fs::write(small, b).unwrap();
            },
        },
    ]);
}

/// Row 26: spellings that are no digest, or would be a path.
const DIGESTS: &[&str] = &[
    "sha256:../../x",
    "sha256:../../../../../../../../etc/passwd",
    "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
    "md5:d41d8cd98f00b204e9800998ecf8427e",
    "sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce",
    "sha256:e3b0c442",
    "sha256:",
    "",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\0",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85/",
];

#[test]
fn digests() {
    let kit = Kit::new(Image::USUAL);
    accepts(&kit.bundle, &kit.trust_root);
    type Place = (
        &'static str,
        &'static [&'static str],
        i32,
        fn(&Path, &Kit, Value),
    );
    let places: &[Place] = &[
        ("index.json", NOT_A_BUNDLE, 10, |dir, _, digest| {
            edit_json(&dir.join("index.json"), |index| {
                index["manifests"]
                    .as_array_mut()
                    .unwrap()
                    .last_mut()
                    .unwrap()["digest"] = digest;
            });
        }),
        ("release manifest", NOT_A_BUNDLE, 10, |dir, _, digest| {
            edit_manifest(dir, |manifest| manifest["layers"][0]["digest"] = digest);
        }),
        ("statement", INCONSISTENT, 12, |dir, kit, digest| {
            edit_statement(dir, kit.key(), |v| {
                v["predicate"]["blobs"][0]["digest"] = digest
            });
        }),
        (
            "statement's chunks",
            INCONSISTENT,
            12,
            |dir, kit, digest| {
                edit_statement(dir, kit.key(), |v| {
                    v["predicate"]["chunks"]["index"]["digest"] = digest
                });
            },
        ),
        ("image manifest", INCONSISTENT, 12, |dir, kit, digest| {
            edit_image(dir, kit.key(), |manifest| {
                manifest["layers"][0]["digest"] = digest
            });
        }),
    ];
    sweep(&kit, places, DIGESTS.iter().map(|digest| json!(digest)));
}

/// Row 27: sizes at which integers, buffers and file systems have their edges.
#[test]
fn sizes() {
    let kit = Kit::new(Image::USUAL);
    accepts(&kit.bundle, &kit.trust_root);
    type Place = (
        &'static str,
        &'static [&'static str],
        i32,
        fn(&Path, &Kit, Value),
    );
    let places: &[Place] = &[
        // Unsigned: whoever lies here must not be followed.
        ("index.json", &["wrong-size"], 12, |dir, _, size| {
            edit_json(&dir.join("index.json"), |index| {
                index["manifests"]
                    .as_array_mut()
                    .unwrap()
                    .last_mut()
                    .unwrap()["size"] = size;
            });
        }),
        ("release manifest", &["wrong-size"], 12, |dir, _, size| {
            edit_manifest(dir, |manifest| manifest["layers"][0]["size"] = size);
        }),
        // Signed: the documents contradict each other or the chunk index.
        ("statement's blobs", INCONSISTENT, 12, |dir, kit, size| {
            edit_statement(dir, kit.key(), |v| {
                v["predicate"]["blobs"][0]["size"] = size
            });
        }),
        ("statement's index", INCONSISTENT, 12, |dir, kit, size| {
            edit_statement(dir, kit.key(), |v| {
                v["predicate"]["index"][0]["size"] = size
            });
        }),
        ("statement's chunks", INCONSISTENT, 12, |dir, kit, size| {
            edit_statement(dir, kit.key(), |v| {
                v["predicate"]["chunks"]["index"]["size"] = size
            });
        }),
        ("image manifest", INCONSISTENT, 12, |dir, kit, size| {
            edit_image(dir, kit.key(), |manifest| {
                manifest["layers"][0]["size"] = size
            });
        }),
    ];
    let sizes = [
        0,
        1,
        i32::MAX as u64,
        1 << 31,
        u64::from(u32::MAX),
        1 << 32,
        i64::MAX as u64,
        1 << 63,
        u64::MAX,
    ];
    sweep(&kit, places, sizes.iter().map(|size| json!(size)));
}

type Places<'a> = &'a [(
    &'static str,
    &'static [&'static str],
    i32,
    fn(&Path, &Kit, Value),
)];

/// Puts each value in each place; the library sees all, the command line the first few of a place.
fn sweep(kit: &Kit, places: Places<'_>, values: impl Iterator<Item = Value> + Clone) {
    for (place, codes, status, put) in places {
        for (number, value) in values.clone().enumerate() {
            let name = format!("{place}: {value}");
            let dir = kit.copy("sweep");
            put(&dir, kit, value);
            let found = library(&name, &dir, &kit.trust_root).unwrap_err();
            assert_eq!(
                found.codes.iter().map(String::as_str).collect::<Vec<_>>(),
                *codes,
                "{name}"
            );
            assert_eq!(found.status, *status, "{name}");
            if number < 2 {
                assert_eq!(command_line(&name, &dir, &kit.trust_root), found, "{name}");
            }
            fs::remove_dir_all(dir).unwrap();
        }
    }
}

/// A statement that claims more bytes for a layer than there are, with a chunk index to match.
#[test]
fn claimed_sizes_with_a_chunk_index_to_match() {
    let kit = Kit::new(Image::MINIMAL);
    for size in [0_u64, i32::MAX as u64 + 1, u64::from(u32::MAX) + 1] {
        let dir = kit.copy("claimed");
        let old = parts(&dir);
        let mut release = old.release.clone();
        let layer = release
            .blobs
            .iter()
            .position(|b| b.size > 100 && b.size < 300)
            .unwrap();
        release.blobs[layer].size = size;
        let hashes: Vec<u8> = release
            .blobs
            .iter()
            .flat_map(|b| vec![b.digest; b.size.div_ceil(1 << 20) as usize])
            .flat_map(|digest| *digest.as_bytes())
            .collect();
        fs::remove_file(&old.chunks).unwrap();
        release.chunks.index = crate::common::reseal::put(&dir, &hashes);
        let payload = release.to_json(&bundle_format::Limits::DEFAULT).unwrap();
        crate::common::reseal::sign_payload(&dir, payload, &[kit.key()]);
        let found = library(&format!("{size}"), &dir, &kit.trust_root).unwrap_err();
        assert_eq!(found.status, 12, "{size}: {found:?}");
        assert_eq!(
            command_line(&format!("{size}"), &dir, &kit.trust_root),
            found
        );
        fs::remove_dir_all(dir).unwrap();
    }
}

#[test]
fn signed_documents_that_do_not_fit() {
    run_all(&[
        Case {
            row: 26,
            name: "the image needs a blob that nobody lists",
            codes: INCONSISTENT,
            status: 12,
            damage: |s| {
                let absent = json!(Digest::of(b"absent").to_string());
                edit_image(&s.dir, s.kit.key(), |m| m["layers"][0]["digest"] = absent);
            },
        },
        Case {
            row: 26,
            name: "the image has no configuration",
            codes: INCONSISTENT,
            status: 12,
            damage: |s| {
                edit_image(&s.dir, s.kit.key(), |m| {
                    m.as_object_mut().unwrap().remove("config");
                });
            },
        },
        Case {
            row: 26,
            name: "the image calls itself an index",
            codes: INCONSISTENT,
            status: 12,
            damage: |s| {
                edit_image(&s.dir, s.kit.key(), |m| {
                    m["mediaType"] = json!(media_type::OCI_INDEX)
                });
            },
        },
        Case {
            row: 26,
            name: "the image is no document",
            codes: INCONSISTENT,
            status: 12,
            damage: |s| {
                edit_statement(&s.dir, s.kit.key(), |v| {
                    v["predicate"]["index"][0]["mediaType"] = json!("text/plain");
                });
            },
        },
        Case {
            row: 26,
            name: "a referrer whose layer is gone",
            codes: INCONSISTENT,
            status: 12,
            damage: |s| {
                let referrer = parts(&s.dir).release.index[1].digest;
                let bytes = fs::read(s.path(&referrer.blob_path())).unwrap();
                let value: Value = serde_json::from_slice(&bytes).unwrap();
                let gone: Digest = value["layers"][0]["digest"]
                    .as_str()
                    .unwrap()
                    .parse()
                    .unwrap();
                fs::remove_file(s.path(&gone.blob_path())).unwrap();
                edit_release(&s.dir, s.kit.key(), |r| {
                    r.blobs.retain(|b| b.digest != gone)
                });
            },
        },
    ]);
}

#[test]
fn files_that_have_no_place() {
    fn extra(name: &'static str, damage: fn(&Site<'_>)) -> Case {
        Case {
            row: 28,
            name,
            codes: EXTRA,
            status: 12,
            damage,
        }
    }
    fn colliding(name: &'static str, damage: fn(&Site<'_>)) -> Case {
        Case {
            row: 30,
            name,
            codes: EXTRA,
            status: 12,
            damage,
        }
    }
    fn touch(site: &Site<'_>, path: &str) {
        let path = site.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    run_all(&[
        extra("a file at the root", |s| touch(s, "README")),
        extra("a hidden file", |s| touch(s, ".hidden")),
        extra("a blob", |s| {
            crate::common::reseal::put(&s.dir, b"not listed");
        }),
        extra("an empty blob", |s| {
            crate::common::reseal::put(&s.dir, b"");
        }),
        extra("a file beside the blobs", |s| touch(s, "blobs/x")),
        extra("blobs of another algorithm", |s| touch(s, "blobs/sha512/x")),
        extra("an empty directory", |s| {
            fs::create_dir(s.path("empty")).unwrap()
        }),
        extra("an empty directory among the blobs", |s| {
            fs::create_dir(s.path("blobs/sha256/empty")).unwrap();
        }),
        extra("a deep tree", |s| {
            fs::create_dir_all(s.path(&["d"; 500].join("/"))).unwrap();
        }),
        extra("lost+found", |s| {
            fs::create_dir(s.path("lost+found")).unwrap()
        }),
        colliding("Index.json", |s| touch(s, "Index.json")),
        colliding("INDEX.JSON", |s| touch(s, "INDEX.JSON")),
        colliding("BLOBS", |s| touch(s, "BLOBS/sha256/x")),
        colliding("index.json and a space", |s| touch(s, "index.json ")),
        colliding("index.json and a dot", |s| touch(s, "index.json.")),
        colliding("a ligature", |s| touch(s, "oci\u{2010}layout")),
        colliding("composed", |s| touch(s, "\u{e9}")),
        colliding("decomposed", |s| touch(s, "e\u{301}")),
        colliding("invisible", |s| touch(s, "index.json\u{200b}")),
        colliding("no UTF-8", |s| {
            use std::os::unix::ffi::OsStrExt as _;
            let name = std::ffi::OsStr::from_bytes(b"index.json\xff");
            fs::write(s.dir.join(name), "x").unwrap();
        }),
        colliding("a digest in upper case", |s| {
            let path = image(s);
            let name = path.file_name().unwrap().to_str().unwrap().to_uppercase();
            fs::copy(&path, path.with_file_name(name)).unwrap();
        }),
        Case {
            row: 30,
            name: "a digest in upper case instead of its own",
            codes: &["extra-file", "missing-file"],
            status: 12,
            damage: |s| {
                let path = image(s);
                let name = path.file_name().unwrap().to_str().unwrap().to_uppercase();
                fs::rename(&path, path.with_file_name(name)).unwrap();
            },
        },
    ]);
}

fn make_node(path: &Path, kind: &str) {
    // A major number that no driver has: to open it is an error, to look at it is none.
    let mut args = vec![path.to_str().unwrap(), kind];
    if kind != "p" {
        args.extend(["240", "99"]);
    }
    run(&mut tool("mknod", args)).good();
}

#[test]
fn what_is_no_plain_file() {
    fn layers(name: &'static str, damage: fn(&Site<'_>)) -> Case {
        Case {
            row: 29,
            name,
            codes: MISPLACED,
            status: 12,
            damage,
        }
    }
    /// Moves a file away and leaves a link to it.
    fn link(path: &Path) {
        let aside = path.parent().unwrap().parent().unwrap().parent().unwrap();
        let aside = aside.with_extension("aside");
        fs::rename(path, &aside).unwrap();
        symlink(&aside, path).unwrap();
    }
    fn node(path: &Path, kind: &str) {
        fs::remove_file(path).unwrap();
        make_node(path, kind);
    }
    run_all(&[
        layers("a layer is a symbolic link to its content", |s| {
            link(&layer(s))
        }),
        layers("a layer is a dangling link", |s| {
            fs::remove_file(layer(s)).unwrap();
            symlink("nowhere", layer(s)).unwrap();
        }),
        layers("the image's manifest is a symbolic link", |s| {
            link(&image(s))
        }),
        layers("the release manifest is a symbolic link", |s| {
            link(&parts(&s.dir).manifest)
        }),
        layers("the envelope is a symbolic link", |s| {
            link(&parts(&s.dir).envelope)
        }),
        layers("the chunk index is a symbolic link", |s| {
            link(&parts(&s.dir).chunks)
        }),
        layers("oci-layout is a symbolic link", |s| {
            fs::remove_file(s.path("oci-layout")).unwrap();
            symlink(s.kit.image.join("oci-layout"), s.path("oci-layout")).unwrap();
        }),
        layers("a layer has a second name", |s| {
            fs::hard_link(layer(s), s.dir.with_extension("second")).unwrap();
        }),
        layers("the envelope has a second name", |s| {
            fs::hard_link(parts(&s.dir).envelope, s.dir.with_extension("second")).unwrap();
        }),
        layers("a layer is a FIFO", |s| node(&layer(s), "p")),
        layers("the envelope is a FIFO", |s| {
            node(&parts(&s.dir).envelope, "p")
        }),
        layers("a layer is a character device", |s| node(&layer(s), "c")),
        layers("the envelope is a character device", |s| {
            node(&parts(&s.dir).envelope, "c")
        }),
        layers("the envelope is a block device", |s| {
            node(&parts(&s.dir).envelope, "b")
        }),
        layers("the envelope is a directory", |s| {
            let path = parts(&s.dir).envelope;
            fs::remove_file(&path).unwrap();
            fs::create_dir(path).unwrap();
        }),
        layers("a layer is a socket", |s| {
            let path = layer(s);
            fs::remove_file(&path).unwrap();
            // The path of a socket has 108 bytes at most.
            let short = s.kit.path("socket");
            drop(std::os::unix::net::UnixListener::bind(&short).unwrap());
            fs::rename(short, path).unwrap();
        }),
        Case {
            row: 29,
            name: "index.json is a symbolic link",
            codes: &["misplaced-file"],
            status: 12,
            damage: |s| {
                fs::rename(s.path("index.json"), s.dir.with_extension("aside")).unwrap();
                symlink(s.dir.with_extension("aside"), s.path("index.json")).unwrap();
            },
        },
        Case {
            row: 29,
            name: "index.json is a FIFO",
            codes: &["misplaced-file"],
            status: 12,
            damage: |s| node(&s.path("index.json"), "p"),
        },
        Case {
            row: 29,
            name: "index.json is a device",
            codes: &["misplaced-file"],
            status: 12,
            damage: |s| node(&s.path("index.json"), "c"),
        },
        layers("the directory of blobs is a symbolic link", |s| {
            fs::rename(s.path("blobs"), s.dir.with_extension("aside")).unwrap();
            symlink(s.dir.with_extension("aside"), s.path("blobs")).unwrap();
        }),
        Case {
            row: 29,
            name: "an extra FIFO",
            codes: EXTRA,
            status: 12,
            damage: |s| make_node(&s.path("fifo"), "p"),
        },
        Case {
            row: 29,
            name: "an extra device",
            codes: EXTRA,
            status: 12,
            damage: |s| make_node(&s.path("device"), "c"),
        },
        Case {
            row: 29,
            name: "an extra link to the root of the system",
            codes: EXTRA,
            status: 12,
            damage: |s| symlink("/", s.path("root")).unwrap(),
        },
        Case {
            row: 29,
            name: "an extra link upwards",
            codes: EXTRA,
            status: 12,
            damage: |s| symlink("..", s.path("blobs/up")).unwrap(),
        },
    ]);
    // The path itself: neither may hang or act.
    let kit = Kit::new(Image::MINIMAL);
    let fifo = kit.path("fifo");
    make_node(&fifo, "p");
    let found = library("a FIFO for the bundle", &fifo, &kit.trust_root).unwrap_err();
    assert_eq!(
        (found.status, found.codes.contains("not-a-bundle")),
        (10, true)
    );
    assert_eq!(
        command_line("a FIFO for the bundle", &fifo, &kit.trust_root),
        found
    );
}

/// Row 29: another file system mounted over a part. Needs root.
#[test]
fn privileged_mounts_inside() {
    let kit = Kit::new(Image::USUAL);
    let inside = kit.copy("mounted");
    let release = parts(&inside).release;
    let blob = release
        .blobs
        .iter()
        .max_by_key(|blob| blob.size)
        .unwrap()
        .digest
        .blob_path();
    // The very same content, mounted: what counts is that it is another file system's.
    for (path, codes) in [
        ("oci-layout", "misplaced-file"),
        ("index.json", "misplaced-file"),
        (blob.as_str(), "misplaced-file"),
        ("blobs/sha256", "misplaced-file"),
        ("blobs", "misplaced-file"),
    ] {
        let (from, to) = (kit.bundle.join(path), inside.join(path));
        run(tool("mount", ["--bind"]).args([&from, &to])).good();
        let found = library(path, &inside, &kit.trust_root);
        let shown = command_line(path, &inside, &kit.trust_root);
        run(tool("umount", [&to]).arg("--lazy")).good();
        let found = found.unwrap_err();
        assert_eq!(
            found.codes.iter().map(String::as_str).collect::<Vec<_>>(),
            [codes],
            "{path}"
        );
        assert_eq!(found, shown, "{path}");
    }
    accepts(&inside, &kit.trust_root);
}
