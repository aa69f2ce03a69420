//! Rows 3, 5 to 11, 20, 23: envelope, signatures and statement.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bundle_format::dsse::{Envelope, Signature};
use bundle_format::{Digest, Limits, media_type};
use bundle_keys::PrivateKey;
use serde_json::{Value, json};

use crate::case::{Case, Site, accepts, run_all};
use crate::common::kit::{Image, Kit, copy_tree, root_of};
use crate::common::reseal::{
    edit_envelope, edit_envelope_text, edit_json, edit_manifest, edit_statement,
    edit_statement_text, parts, place_envelope, sign_payload,
};

const UNSIGNED: &[&str] = &["unsigned"];
const UNTRUSTED: &[&str] = &["untrusted"];
const INCONSISTENT: &[&str] = &["inconsistent"];
const NOT_A_BUNDLE: &[&str] = &["not-a-bundle"];

#[test]
fn unsigned_bundles() {
    run_all(&[
        Case {
            row: 3,
            name: "no statement listed",
            codes: UNSIGNED,
            status: 11,
            damage: |s| {
                edit_json(&s.path("index.json"), |index| {
                    index["manifests"].as_array_mut().unwrap().pop();
                });
            },
        },
        Case {
            row: 3,
            name: "the plain image layout",
            codes: UNSIGNED,
            status: 11,
            damage: |s| {
                fs::remove_dir_all(&s.dir).unwrap();
                copy_tree(&s.kit.image, &s.dir);
            },
        },
        Case {
            row: 3,
            name: "empty index",
            codes: UNSIGNED,
            status: 11,
            damage: |s| {
                let empty = format!(
                    r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
                    media_type::OCI_INDEX
                );
                fs::write(s.path("index.json"), empty).unwrap();
            },
        },
        Case {
            row: 3,
            name: "no signatures",
            codes: UNSIGNED,
            status: 11,
            damage: |s| edit_envelope(&s.dir, |e| e["signatures"] = json!([])),
        },
        Case {
            row: 3,
            name: "no member signatures",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                edit_envelope(&s.dir, |e| {
                    e.as_object_mut().unwrap().remove("signatures");
                });
            },
        },
        Case {
            row: 3,
            name: "two statements",
            codes: NOT_A_BUNDLE,
            status: 10,
            damage: |s| {
                edit_json(&s.path("index.json"), |index| {
                    let list = index["manifests"].as_array_mut().unwrap();
                    list.push(list.last().unwrap().clone());
                });
            },
        },
        Case {
            row: 3,
            name: "empty directory",
            codes: NOT_A_BUNDLE,
            status: 10,
            damage: |s| {
                fs::remove_dir_all(&s.dir).unwrap();
                fs::create_dir(&s.dir).unwrap();
            },
        },
    ]);
}

fn edit_signature(site: &Site<'_>, edit: impl FnOnce(&mut Vec<u8>)) {
    edit_envelope(&site.dir, |envelope| {
        let member = &mut envelope["signatures"][0]["sig"];
        let mut sig = STANDARD.decode(member.as_str().unwrap()).unwrap();
        edit(&mut sig);
        *member = json!(STANDARD.encode(sig));
    });
}

/// Signs the good payload with somebody else's key under the trusted key's name.
fn forge(site: &Site<'_>) {
    let old = parts(&site.dir).signed;
    let stranger = PrivateKey::generate().unwrap();
    let mut envelope = bundle_keys::sign(media_type::IN_TOTO, old.payload, &[stranger]).unwrap();
    envelope.signatures[0].keyid = old.signatures[0].keyid;
    place_envelope(&site.dir, &envelope.to_json());
}

#[test]
fn signatures() {
    run_all(&[
        Case {
            row: 7,
            name: "malleated S",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                edit_signature(s, |sig| {
                    // The order of the group, little-endian: S + L is the same scalar.
                    let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
                    let mut carry = 0_u16;
                    for (byte, add) in sig[32..].iter_mut().zip(hex::decode(order).unwrap()) {
                        carry += u16::from(*byte) + u16::from(add);
                        *byte = (carry & 0xff) as u8;
                        carry >>= 8;
                    }
                });
            },
        },
        Case {
            row: 7,
            name: "signature of 63 bytes",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| edit_signature(s, |sig| sig.truncate(63)),
        },
        Case {
            row: 7,
            name: "signature of 65 bytes",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| edit_signature(s, |sig| sig.push(0)),
        },
        Case {
            row: 7,
            name: "empty signature",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| edit_signature(s, Vec::clear),
        },
        Case {
            row: 7,
            name: "signature of zeros",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| edit_signature(s, |sig| sig.fill(0)),
        },
        Case {
            row: 7,
            name: "a stranger's signature under the trusted name",
            codes: UNTRUSTED,
            status: 11,
            damage: forge,
        },
        Case {
            row: 7,
            name: "a stranger's signature under its own name",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                let payload = parts(&s.dir).signed.payload;
                sign_payload(&s.dir, payload, &[PrivateKey::generate().unwrap()]);
            },
        },
        Case {
            row: 7,
            name: "a good signature behind a bad one of the same key",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                edit_envelope(&s.dir, |e| {
                    let mut bad = e["signatures"][0].clone();
                    bad["sig"] = json!(STANDARD.encode([0; 64]));
                    e["signatures"].as_array_mut().unwrap().insert(0, bad);
                });
            },
        },
        Case {
            row: 8,
            name: "the envelope names an algorithm",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| edit_envelope(&s.dir, |e| e["signatures"][0]["alg"] = json!("none")),
        },
        Case {
            row: 8,
            name: "the envelope has another member",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| edit_envelope(&s.dir, |e| e["sigstore"] = json!({})),
        },
        Case {
            row: 8,
            name: "key id with its algorithm",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                edit_envelope(&s.dir, |e| {
                    let id = &mut e["signatures"][0]["keyid"];
                    *id = json!(format!("sha256:{}", id.as_str().unwrap()));
                });
            },
        },
        Case {
            row: 9,
            name: "payload type swapped",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| edit_envelope(&s.dir, |e| e["payloadType"] = json!(media_type::TRUST_ROOT)),
        },
        Case {
            row: 9,
            name: "payload type swapped and signed",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                let payload = parts(&s.dir).signed.payload;
                let keys = [s.kit.key()];
                let envelope = bundle_keys::sign(media_type::TRUST_ROOT, payload, &keys).unwrap();
                place_envelope(&s.dir, &envelope.to_json());
            },
        },
        Case {
            row: 9,
            name: "payload type with a space, to shift the signed bytes",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                edit_envelope(&s.dir, |e| {
                    e["payloadType"] = json!(format!("{} ", media_type::IN_TOTO));
                });
            },
        },
        Case {
            row: 9,
            name: "the trust root in the statement's place",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| place_envelope(&s.dir, &fs::read(&s.trust_root).unwrap()),
        },
    ]);
}

fn bomb(levels: usize) -> String {
    ["[".repeat(levels), "]".repeat(levels)].concat()
}

#[test]
fn json_of_the_envelope() {
    fn case(name: &'static str, damage: fn(&Site<'_>)) -> Case {
        Case {
            row: 10,
            name,
            codes: UNTRUSTED,
            status: 11,
            damage,
        }
    }
    run_all(&[
        case("duplicate member", |s| {
            edit_envelope_text(&s.dir, |t| t.replacen('{', r#"{"payload":"","#, 1));
        }),
        case("duplicate member in another spelling", |s| {
            edit_envelope_text(&s.dir, |t| t.replacen('{', r#"{"p\u0061yload":"","#, 1));
        }),
        case("nesting bomb", |s| {
            edit_envelope_text(&s.dir, |t| {
                t.replacen('{', &format!(r#"{{"x":{},"#, bomb(1 << 20)), 1)
            });
        }),
        case("an array instead of the object", |s| {
            edit_envelope(&s.dir, |e| {
                let sig = &e["signatures"][0];
                *e = json!([e["payloadType"], e["payload"], [[sig["keyid"], sig["sig"]]]]);
            });
        }),
        case("white space", |s| edit_envelope_text(&s.dir, |t| t + "\n")),
        case("members in another order", |s| {
            edit_envelope_text(&s.dir, |t| {
                let value: Value = serde_json::from_str(&t).unwrap();
                serde_json::to_string(&value).unwrap()
            });
        }),
        case("an escape where none is needed", |s| {
            edit_envelope_text(&s.dir, |t| t.replacen("application/", r"application\/", 1));
        }),
        case("byte-order mark", |s| {
            edit_envelope_text(&s.dir, |t| format!("\u{feff}{t}"))
        }),
        case("trailing document", |s| {
            edit_envelope_text(&s.dir, |t| t + "{}")
        }),
        case("NUL behind the document", |s| {
            edit_envelope_text(&s.dir, |t| t + "\0")
        }),
        case("NaN", |s| {
            edit_envelope_text(&s.dir, |t| t.replacen('{', r#"{"x":NaN,"#, 1))
        }),
        case("base64 with a line break", |s| {
            edit_envelope_text(&s.dir, |t| {
                t.replacen(r#""payload":""#, r#""payload":"\n"#, 1)
            });
        }),
        case("base64url", |s| {
            edit_envelope(&s.dir, |e| {
                e["signatures"][0]["sig"] = json!("_-".repeat(44))
            });
        }),
        case("not UTF-8", |s| {
            let mut bytes = fs::read(parts(&s.dir).envelope).unwrap();
            bytes[20] = 0xff;
            place_envelope(&s.dir, &bytes);
        }),
        case("empty", |s| place_envelope(&s.dir, b"")),
    ]);
}

#[test]
fn json_of_the_statement() {
    fn case(name: &'static str, damage: fn(&Site<'_>)) -> Case {
        Case {
            row: 10,
            name,
            codes: INCONSISTENT,
            status: 12,
            damage,
        }
    }
    fn text(site: &Site<'_>, from: &str, to: &str) {
        edit_statement_text(&site.dir, site.kit.key(), from, to);
    }
    fn edit(site: &Site<'_>, edit: fn(&mut Value)) {
        edit_statement(&site.dir, site.kit.key(), edit);
    }
    run_all(&[
        case("duplicate member", |s| {
            text(s, r#""sequence":7"#, r#""sequence":7,"sequence":8"#)
        }),
        case("u64 overflow", |s| {
            text(s, r#""sequence":7"#, r#""sequence":18446744073709551616"#)
        }),
        case("negative", |s| {
            text(s, r#""sequence":7"#, r#""sequence":-7"#)
        }),
        case("sequence 0", |s| {
            text(s, r#""sequence":7"#, r#""sequence":0"#)
        }),
        case("fraction", |s| {
            text(s, r#""sequence":7"#, r#""sequence":7.0"#)
        }),
        case("exponent", |s| {
            text(s, r#""sequence":7"#, r#""sequence":7e0"#)
        }),
        case("NaN", |s| text(s, r#""sequence":7"#, r#""sequence":NaN"#)),
        case("string for a number", |s| {
            text(s, r#""sequence":7"#, r#""sequence":"7""#)
        }),
        case("byte-order mark", |s| text(s, "{", "\u{feff}{")),
        case("nesting bomb", |s| {
            text(s, "{", &format!(r#"{{"x":{},"#, bomb(1 << 20)))
        }),
        case("nested just too deeply", |s| {
            text(s, "{", &format!(r#"{{"x":{},"#, bomb(32)))
        }),
        case("unknown critical member", |s| {
            edit(s, |v| v["predicate"]["critical"] = json!(["moon"]))
        }),
        case("another predicate", |s| {
            edit(s, |v| v["predicateType"] = json!("urn:bundle:permit:v1"))
        }),
        case("another statement", |s| {
            edit(s, |v| {
                v["_type"] = json!("https://in-toto.io/Statement/v0.1")
            });
        }),
        case("another subject", |s| {
            edit(s, |v| {
                v["subject"][0]["digest"]["sha256"] = json!("0".repeat(64))
            });
        }),
        case("two subjects", |s| {
            edit(s, |v| {
                v["subject"] = json!([v["subject"][0], v["subject"][0]])
            });
        }),
        case("product with an escape", |s| {
            edit(s, |v| v["predicate"]["product"] = json!("a\u{1b}[2J"));
        }),
        case("version that is a path", |s| {
            edit(s, |v| v["predicate"]["version"] = json!("../../etc"));
        }),
        case("not JSON at all", |s| {
            sign_payload(&s.dir, b"release 7".to_vec(), &[s.kit.key()])
        }),
        case("empty payload", |s| {
            sign_payload(&s.dir, Vec::new(), &[s.kit.key()])
        }),
    ]);
}

#[test]
fn json_of_index_and_release_manifest() {
    fn index(name: &'static str, damage: fn(&Site<'_>)) -> Case {
        Case {
            row: 10,
            name,
            codes: NOT_A_BUNDLE,
            status: 10,
            damage,
        }
    }
    fn text(site: &Site<'_>, edit: fn(String) -> String) {
        let path = site.path("index.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, edit(text)).unwrap();
    }
    run_all(&[
        index("index: duplicate member", |s| {
            text(s, |t| t.replacen('{', r#"{"manifests":[],"#, 1));
        }),
        index("index: nesting bomb", |s| {
            text(s, |t| {
                t.replacen('{', &format!(r#"{{"x":{},"#, bomb(1 << 20)), 1)
            });
        }),
        index("index: byte-order mark", |s| {
            text(s, |t| format!("\u{feff}{t}"))
        }),
        index("index: NaN", |s| text(s, |t| t.replacen(":2,", ":NaN,", 1))),
        index("index: u64 overflow", |s| {
            text(s, |t| t.replacen(":2,", ":18446744073709551616,", 1))
        }),
        index("index: not JSON", |s| text(s, |_| "index".into())),
        index("index: above the cap", |s| {
            text(s, |t| t + &" ".repeat(4 << 20))
        }),
        Case {
            row: 10,
            name: "index: an unknown member",
            codes: &["corrupt"],
            status: 12,
            damage: |s| text(s, |t| t.replacen('{', r#"{"annotations":{},"#, 1)),
        },
        Case {
            row: 10,
            name: "index: white space",
            codes: &["corrupt"],
            status: 12,
            damage: |s| text(s, |t| t + "\n"),
        },
        Case {
            row: 10,
            name: "manifest: an unknown member",
            codes: &["corrupt"],
            status: 12,
            damage: |s| edit_manifest(&s.dir, |m| m["annotations"] = json!({"a": "b"})),
        },
        index("manifest: no layers", |s| {
            edit_manifest(&s.dir, |m| m["layers"] = json!([]))
        }),
        index("manifest: a third layer", |s| {
            edit_manifest(&s.dir, |m| {
                let layers = m["layers"].as_array_mut().unwrap();
                layers.push(layers[1].clone());
            });
        }),
        index("manifest: layers swapped", |s| {
            edit_manifest(&s.dir, |m| m["layers"].as_array_mut().unwrap().reverse());
        }),
    ]);
}

#[test]
fn other_signers_and_mixed_releases() {
    run_all(&[
        Case {
            row: 11,
            name: "a release of another product",
            codes: &["wrong-product"],
            status: 11,
            damage: |s| fs::write(&s.trust_root, root_of("kiosk", &s.kit.key())).unwrap(),
        },
        Case {
            row: 11,
            name: "the statement names another product",
            codes: &["wrong-product"],
            status: 11,
            damage: |s| {
                edit_statement(&s.dir, s.kit.key(), |v| {
                    v["predicate"]["product"] = json!("kiosk")
                });
            },
        },
        Case {
            row: 20,
            name: "a trust root on the medium is an extra file",
            codes: &["extra-file"],
            status: 12,
            damage: |s| {
                fs::copy(&s.trust_root, s.path("trust-root.json")).unwrap();
            },
        },
        Case {
            row: 20,
            name: "a trust root on the medium is not adopted",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                let stranger = PrivateKey::generate().unwrap();
                fs::write(s.path("trust-root.json"), root_of("appliance", &stranger)).unwrap();
                let payload = parts(&s.dir).signed.payload;
                sign_payload(&s.dir, payload, &[stranger]);
            },
        },
        Case {
            row: 23,
            name: "index of another release",
            // The other release's manifest is not here, so it ends at the first step.
            codes: &["missing-file"],
            status: 12,
            damage: |s| {
                fs::copy(s.other().join("index.json"), s.path("index.json")).unwrap();
            },
        },
        Case {
            row: 23,
            name: "statement of another release over these layers",
            codes: &["extra-file", "missing-file"],
            status: 12,
            damage: |s| {
                let other = s.other();
                let theirs = parts(&other);
                for path in [&theirs.manifest, &theirs.envelope, &theirs.chunks] {
                    fs::copy(path, s.path("blobs/sha256").join(path.file_name().unwrap())).unwrap();
                }
                fs::copy(other.join("index.json"), s.path("index.json")).unwrap();
            },
        },
        Case {
            row: 23,
            name: "a layer of another release under this one's name",
            codes: &["corrupt"],
            status: 12,
            damage: |s| {
                // Noise does not compress: the large layers of both have one size.
                let largest = |bundle: &std::path::Path| {
                    let blobs = parts(bundle).release.blobs;
                    blobs.into_iter().max_by_key(|blob| blob.size).unwrap()
                };
                let (theirs, ours) = (s.other(), largest(&s.dir));
                let other = largest(&theirs);
                assert_eq!(other.size, ours.size);
                fs::copy(
                    theirs.join(other.digest.blob_path()),
                    s.path(&ours.digest.blob_path()),
                )
                .unwrap();
            },
        },
        Case {
            row: 23,
            name: "chunk index of another release",
            codes: &["missing-file"],
            status: 12,
            damage: |s| {
                fs::copy(parts(&s.other()).chunks, parts(&s.dir).chunks).unwrap();
                fs::remove_file(parts(&s.dir).chunks).unwrap();
            },
        },
    ]);
}

#[test]
fn chunk_indexes_that_lie() {
    fn chunks(site: &Site<'_>, edit: fn(&mut Vec<u8>)) {
        let old = parts(&site.dir);
        let mut bytes = fs::read(&old.chunks).unwrap();
        edit(&mut bytes);
        fs::remove_file(&old.chunks).unwrap();
        let entry = crate::common::reseal::put(&site.dir, &bytes);
        edit_statement(&site.dir, site.kit.key(), |v| {
            v["predicate"]["chunks"]["index"] =
                json!({"digest": entry.digest.to_string(), "size": entry.size});
        });
    }
    run_all(&[
        Case {
            row: 27,
            name: "chunk index a hash too long",
            codes: INCONSISTENT,
            status: 12,
            damage: |s| chunks(s, |bytes| bytes.extend([0; 32])),
        },
        Case {
            row: 27,
            name: "chunk index with half a hash",
            codes: INCONSISTENT,
            status: 12,
            damage: |s| chunks(s, |bytes| bytes.truncate(bytes.len() - 16)),
        },
        Case {
            row: 27,
            name: "chunk index contradicts a small blob's digest",
            codes: INCONSISTENT,
            status: 12,
            damage: |s| chunks(s, |bytes| bytes[0] ^= 1),
        },
        Case {
            row: 27,
            name: "empty chunk index",
            codes: INCONSISTENT,
            status: 12,
            damage: |s| chunks(s, Vec::clear),
        },
        Case {
            row: 27,
            name: "other chunk size",
            codes: INCONSISTENT,
            status: 12,
            damage: |s| {
                edit_statement(&s.dir, s.kit.key(), |v| {
                    v["predicate"]["chunks"]["size"] = json!(1 << 19);
                });
            },
        },
    ]);
}

/// Rows 5 and 6: two signatures by one key count once, and a key counts in its own role only.
#[test]
fn thresholds_count_keys() {
    use std::collections::BTreeMap;

    use bundle_keys::{Role, TrustRoot};

    let kit = Kit::new(Image::MINIMAL);
    let (boss, second) = (
        PrivateKey::generate().unwrap(),
        PrivateKey::generate().unwrap(),
    );
    let public = |key: &PrivateKey| key.public().unwrap();
    let roles = BTreeMap::from([
        (Role::Root, (vec![public(&boss)], 1)),
        (
            Role::Release,
            (vec![public(&kit.key()), public(&second)], 2),
        ),
    ]);
    let boss_again = PrivateKey::from_pem(&boss.to_pem().unwrap()).unwrap();
    let root = kit.path("two-of-two.json");
    fs::write(
        &root,
        TrustRoot::create("appliance", &roles, &[boss]).unwrap(),
    )
    .unwrap();
    let good = parts(&kit.bundle).signed;
    let sign = |key: &PrivateKey| Signature {
        keyid: public(key).keyid(),
        sig: key.sign(&good.signed_bytes()).to_vec(),
    };
    let with = |signatures: Vec<Signature>| Envelope {
        signatures,
        ..good.clone()
    };
    let cases: &[(&str, Envelope, bool)] = &[
        (
            "both keys",
            with(vec![sign(&kit.key()), sign(&second)]),
            true,
        ),
        ("one key", with(vec![sign(&second)]), false),
        (
            "one key twice",
            with(vec![sign(&second), sign(&second)]),
            false,
        ),
        (
            "a root key for the second",
            with(vec![sign(&second), sign(&boss_again)]),
            false,
        ),
        (
            "a stranger for the second",
            with(vec![sign(&second), sign(&PrivateKey::generate().unwrap())]),
            false,
        ),
    ];
    for (number, (name, envelope, good)) in cases.iter().enumerate() {
        let dir = kit.copy(&format!("threshold-{number}"));
        place_envelope(&dir, &envelope.to_json());
        if *good {
            accepts(&dir, &root);
            continue;
        }
        let verdict = crate::case::command_line(name, &dir, &root);
        assert_eq!(
            (verdict.status, verdict.codes.contains("untrusted")),
            (11, true),
            "{name}"
        );
        assert!(crate::case::library(name, &dir, &root).is_err(), "{name}");
    }
}

/// Envelopes survive what the parser accepts: one spelling for one envelope.
#[test]
fn an_envelope_has_one_spelling() {
    let kit = Kit::new(Image::MINIMAL);
    let bytes = fs::read(parts(&kit.bundle).envelope).unwrap();
    let envelope = Envelope::parse(&bytes, &Limits::DEFAULT).unwrap();
    assert_eq!(Digest::of(&envelope.to_json()), Digest::of(&bytes));
}
