//! Rows 11, 15 to 17 and 20: chains of trust roots in a bundle, channels and scopes.

use std::fs;

use bundle_format::{BlobEntry, Digest, trust_chain};
use bundle_keys::{Draft, PrivateKey, Range, Role, Scope, Terms};
use serde_json::json;

use crate::case::{Case, Site, accepts, run_all};
use crate::common::kit::{Image, Kit, root_of};
use crate::common::reseal::{add_chain, edit_json, edit_statement, parts, put};
use crate::common::run::{bundle, run};

const UNTRUSTED: &[&str] = &["untrusted"];

fn copy(key: &PrivateKey) -> PrivateKey {
    PrivateKey::from_pem(&key.to_pem().unwrap()).unwrap()
}

/// The terms of the kit's root in a later version.
fn later(kit: &Kit, version: u64) -> Terms {
    Terms {
        version,
        ..kit.root().terms().clone()
    }
}

fn signed(terms: Terms, keys: &[&PrivateKey]) -> Vec<u8> {
    let mut draft = Draft::new(terms).unwrap();
    for key in keys {
        draft.sign(key).unwrap();
    }
    draft.to_json()
}

fn first(kit: &Kit) -> Vec<u8> {
    fs::read(&kit.trust_root).unwrap()
}

/// Versions 2 and 3 for a kit: version 3 takes releases by `releaser` alone.
fn line(kit: &Kit, releaser: &PrivateKey) -> Vec<Vec<u8>> {
    let mut last = later(kit, 3);
    last.add(Role::Release, releaser.public().unwrap());
    assert!(last.remove(Role::Release, &kit.key().public().unwrap().keyid()));
    let key = kit.key();
    vec![
        first(kit),
        signed(later(kit, 2), &[&key]),
        signed(last, &[&key]),
    ]
}

#[test]
fn a_bundle_leads_from_the_hosts_root_to_its_signers() {
    let kit = Kit::new(Image::MINIMAL);
    accepts(&kit.bundle, &kit.trust_root);
    let releaser = PrivateKey::generate().unwrap();
    let roots = line(&kit, &releaser);
    add_chain(&kit.bundle, copy(&releaser), &roots);
    accepts(&kit.bundle, &kit.trust_root);
    let verify = |root: &std::path::Path| {
        run(bundle(["verify", "--json"])
            .arg(&kit.bundle)
            .arg("--trust-root")
            .arg(root))
        .json()
    };
    let report = verify(&kit.trust_root);
    assert_eq!(report["trust_root_version"], 1);
    let steps = report["trust_chain"].as_array().unwrap();
    assert_eq!(steps.len(), 2);
    assert_eq!(steps[1]["version"], 3);
    assert_eq!(steps[1]["digest"], Digest::of(&roots[2]).to_string());
    // A host that is there already walks no step.
    let newest = kit.path("newest.json");
    fs::write(&newest, &roots[2]).unwrap();
    accepts(&kit.bundle, &newest);
    assert_eq!(verify(&newest)["trust_chain"], json!([]));
    // The roots on the medium are for the walk alone: a host with another root gets nothing of them.
    let other = kit.path("other.json");
    fs::write(
        &other,
        root_of("appliance", &PrivateKey::generate().unwrap()),
    )
    .unwrap();
    assert_eq!(verify(&other)["problems"][0]["code"], "untrusted");
}

/// Puts roots behind the first into the bundle and signs as hosts would accept it without them.
fn chain(site: &Site<'_>, roots: &[Vec<u8>]) {
    add_chain(&site.dir, site.kit.key(), roots);
}

#[test]
fn chains_that_lead_elsewhere() {
    run_all(&[
        Case {
            row: 16,
            name: "a step that only the old root keys signed",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                let other = PrivateKey::generate().unwrap();
                let mut second = later(s.kit, 2);
                second.add(Role::Root, other.public().unwrap());
                second.roles.get_mut(&Role::Root).unwrap().threshold = 2;
                chain(s, &[first(s.kit), signed(second, &[&s.kit.key()])]);
            },
        },
        Case {
            row: 16,
            name: "a step that only the new root keys signed",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                let other = PrivateKey::generate().unwrap();
                let mut second = later(s.kit, 2);
                second.add(Role::Root, other.public().unwrap());
                chain(s, &[first(s.kit), signed(second, &[&other])]);
            },
        },
        Case {
            row: 16,
            name: "a version left out",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                let third = signed(later(s.kit, 3), &[&s.kit.key()]);
                chain(s, &[first(s.kit), third]);
            },
        },
        Case {
            row: 17,
            name: "a cycle",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                let second = signed(later(s.kit, 2), &[&s.kit.key()]);
                chain(s, &[first(s.kit), second, first(s.kit)]);
            },
        },
        Case {
            row: 17,
            name: "1,000 roots",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| chain(s, &vec![first(s.kit); 1000]),
        },
        Case {
            row: 20,
            name: "the line of a stranger who signed the release",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                let stranger = PrivateKey::generate().unwrap();
                let root = root_of("appliance", &stranger);
                add_chain(&s.dir, stranger, &[root]);
            },
        },
        Case {
            row: 20,
            name: "a release key signs the successor",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                // The host's root gives the kit's key both roles; here it has only one.
                let (boss, releaser) = (PrivateKey::generate().unwrap(), s.kit.key());
                let mut terms = Terms::new("appliance");
                terms.add(Role::Root, boss.public().unwrap());
                terms.add(Role::Release, releaser.public().unwrap());
                let held = signed(terms.clone(), &[&boss]);
                fs::write(&s.trust_root, &held).unwrap();
                terms.version = 2;
                terms.add(Role::Root, releaser.public().unwrap());
                chain(s, &[held, signed(terms, &[&releaser])]);
            },
        },
        Case {
            row: 11,
            name: "the chain of another product",
            codes: &["wrong-product"],
            status: 11,
            damage: |s| chain(s, &[root_of("toaster", &s.kit.key())]),
        },
        Case {
            row: 18,
            name: "signed by a key that the chain took the role from",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| chain(s, &line(s.kit, &PrivateKey::generate().unwrap())),
        },
    ]);
}

#[test]
fn chains_that_are_none() {
    run_all(&[
        Case {
            row: 20,
            name: "something else among the roots",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| chain(s, &[first(s.kit), b"{}".to_vec()]),
        },
        Case {
            row: 20,
            name: "an empty chain",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| chain(s, &[]),
        },
        Case {
            row: 34,
            name: "two chains",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                chain(s, &[first(s.kit)]);
                chain(s, &[first(s.kit), signed(later(s.kit, 2), &[&s.kit.key()])]);
            },
        },
        Case {
            row: 34,
            name: "roots of more than 16 MiB, all told",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| chain(s, &[vec![b' '; (16 << 20) + 1]]),
        },
        Case {
            row: 24,
            name: "a root changed at the same size",
            codes: &["corrupt"],
            status: 12,
            damage: |s| {
                let root = first(s.kit);
                chain(s, std::slice::from_ref(&root));
                let mut changed = root.clone();
                changed[100] ^= 1;
                fs::write(s.path(&Digest::of(&root).blob_path()), changed).unwrap();
            },
        },
        Case {
            row: 2,
            name: "a root that is not there",
            codes: &["missing-file"],
            status: 12,
            damage: |s| {
                let root = first(s.kit);
                chain(s, std::slice::from_ref(&root));
                fs::remove_file(s.path(&Digest::of(&root).blob_path())).unwrap();
            },
        },
        Case {
            row: 20,
            name: "a good chain that the statement does not list",
            codes: &["corrupt", "extra-file"],
            status: 12,
            damage: |s| {
                let root: BlobEntry = put(&s.dir, &first(s.kit));
                let image = parts(&s.dir).release.image().unwrap().clone();
                let (descriptor, manifest) = trust_chain::manifest(&image, &[root]);
                put(&s.dir, &manifest);
                edit_json(&s.path("index.json"), |index| {
                    let list = index["manifests"].as_array_mut().unwrap();
                    list.insert(1, serde_json::to_value(descriptor).unwrap());
                });
            },
        },
    ]);
}

/// Bounds the kit's release key in the host's root; a second key is for the roots.
fn bound(site: &Site<'_>, scope: Scope) {
    let (boss, key) = (PrivateKey::generate().unwrap(), site.kit.key());
    let mut terms = Terms::new("appliance");
    terms.add(Role::Root, boss.public().unwrap());
    terms.add(Role::Release, key.public().unwrap());
    let keyid = key.public().unwrap().keyid();
    terms.keys.get_mut(&keyid).unwrap().scope = Some(scope);
    fs::write(&site.trust_root, signed(terms, &[&boss])).unwrap();
}

fn sequences(from: u64, to: u64) -> Scope {
    Scope {
        channels: None,
        sequence: Some(Range { from, to }),
    }
}

fn set_sequence(site: &Site<'_>, sequence: u64) {
    edit_statement(&site.dir, site.kit.key(), |v| {
        v["predicate"]["sequence"] = json!(sequence);
    });
}

#[test]
fn scopes_and_channels() {
    let kit = Kit::new(Image::MINIMAL);
    let site = Site {
        kit: &kit,
        dir: kit.copy("twin"),
        trust_root: kit.path("bound.json"),
    };
    bound(&site, sequences(7, 100));
    accepts(&site.dir, &site.trust_root);
    set_sequence(&site, 100);
    accepts(&site.dir, &site.trust_root);
    edit_statement(&site.dir, kit.key(), |v| {
        v["predicate"]["security-floor"] = json!(100);
        v["predicate"]["expires"] = json!("2030-01-01T00:00:00Z");
        v["predicate"]["critical"] = json!(["expires"]);
    });
    accepts(&site.dir, &site.trust_root);
    run_all(&[
        Case {
            row: 15,
            name: "sequence u64::MAX by a key that is bound",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                bound(s, sequences(1, 100));
                set_sequence(s, u64::MAX);
            },
        },
        Case {
            row: 15,
            name: "a sequence below the scope",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| bound(s, sequences(8, 100)),
        },
        Case {
            row: 11,
            name: "a key that is for another channel",
            codes: UNTRUSTED,
            status: 11,
            damage: |s| {
                bound(
                    s,
                    Scope {
                        channels: Some(["beta".to_string()].into()),
                        sequence: None,
                    },
                );
            },
        },
        Case {
            row: 11,
            name: "a release of another channel",
            codes: &["wrong-channel"],
            status: 11,
            damage: |s| {
                edit_statement(&s.dir, s.kit.key(), |v| {
                    v["predicate"]["channel"] = json!("beta");
                    v["predicate"]["critical"] = json!(["channel"]);
                });
            },
        },
        Case {
            row: 10,
            name: "a channel that old readers would pass over",
            codes: &["inconsistent"],
            status: 12,
            damage: |s| {
                edit_statement(&s.dir, s.kit.key(), |v| {
                    v["predicate"]["channel"] = json!("beta");
                });
            },
        },
        Case {
            row: 13,
            name: "a release below its own floor",
            codes: &["inconsistent"],
            status: 12,
            damage: |s| {
                edit_statement(&s.dir, s.kit.key(), |v| {
                    v["predicate"]["security-floor"] = json!(8);
                });
            },
        },
    ]);
}
