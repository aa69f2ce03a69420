//! Rows 4, 7, 8, 10, 19: trust roots that are none.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bundle_format::{Digest, Limits, media_type};
use bundle_keys::TrustRoot;
use serde_json::{Value, json};

use crate::case::accepts;
use crate::common::kit::{Image, Kit};
use crate::common::run::{bundle, run};

const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// Adds a key to a root's release role.
fn add_key(root: &mut Value, spki: &[u8]) {
    let id = Digest::of(spki).to_hex();
    root["keys"][&id] = json!({"type": "ed25519", "spki": STANDARD.encode(spki)});
    root["roles"]["release"]["keyids"]
        .as_array_mut()
        .unwrap()
        .push(json!(id));
}

fn small_order(root: &mut Value) {
    let point = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a";
    add_key(
        root,
        &[SPKI_HEAD.to_vec(), hex::decode(point).unwrap()].concat(),
    );
}

fn identity(root: &mut Value) {
    let mut point = vec![0; 32];
    point[0] = 1;
    add_key(root, &[SPKI_HEAD.to_vec(), point].concat());
}

fn release(root: &mut Value) -> &mut Value {
    &mut root["roles"]["release"]
}

#[test]
fn signed_roots_that_break_a_rule() {
    type Edit = fn(&mut Value);
    let cases: &[(u8, &str, Edit)] = &[
        (4, "threshold 0", |r| release(r)["threshold"] = json!(0)),
        (4, "threshold negative", |r| {
            release(r)["threshold"] = json!(-1)
        }),
        (4, "threshold above the keys", |r| {
            release(r)["threshold"] = json!(2)
        }),
        (4, "threshold u64::MAX", |r| {
            release(r)["threshold"] = json!(u64::MAX)
        }),
        (4, "no keys", |r| release(r)["keyids"] = json!([])),
        (5, "a key twice", |r| {
            let id = release(r)["keyids"][0].clone();
            *release(r) = json!({"keyids": [id, id], "threshold": 2});
        }),
        (5, "a key under another name", |r| {
            let id = release(r)["keyids"][0].as_str().unwrap().to_string();
            let other = Digest::of(b"other").to_hex();
            r["keys"][&other] = r["keys"][&id].clone();
            release(r)["keyids"] = json!([other]);
        }),
        (6, "no role release", |r| {
            r["roles"].as_object_mut().unwrap().remove("release");
        }),
        (6, "an unknown role", |r| {
            r["roles"]["emperor"] = r["roles"]["root"].clone()
        }),
        (7, "a key of small order", small_order),
        (7, "the identity for a key", identity),
        (7, "a key of 31 bytes", |r| {
            add_key(r, &[SPKI_HEAD.to_vec(), vec![9; 31]].concat())
        }),
        (8, "a key of another algorithm", |r| {
            let id = release(r)["keyids"][0].as_str().unwrap().to_string();
            r["keys"][&id]["type"] = json!("rsa");
        }),
        (10, "a scope that is not critical", |r| {
            let id = release(r)["keyids"][0].as_str().unwrap().to_string();
            r["keys"][&id]["scope"] = json!({"sequence": {"from": 1, "to": 9}});
        }),
        (10, "an expiry that is not critical", |r| {
            r["expires"] = json!("2030-01-01T00:00:00Z");
        }),
        (10, "an unknown critical member", |r| {
            r["critical"] = json!(["moon"])
        }),
        (10, "version 0", |r| r["version"] = json!(0)),
        (10, "version negative", |r| r["version"] = json!(-1)),
        (41, "product with an escape", |r| {
            r["product"] = json!("a\u{1b}[2J")
        }),
    ];
    let kit = Kit::new(Image::MINIMAL);
    accepts(&kit.bundle, &kit.trust_root);
    let good: Value = serde_json::from_slice(&fs::read(&kit.trust_root).unwrap()).unwrap();
    let payload = STANDARD.decode(good["payload"].as_str().unwrap()).unwrap();
    for (row, name, edit) in cases {
        let mut root: Value = serde_json::from_slice(&payload).unwrap();
        edit(&mut root);
        let edited = serde_json::to_vec(&root).unwrap();
        let sealed = bundle_keys::sign(media_type::TRUST_ROOT, edited, &[kit.key()]).unwrap();
        refused(&kit, &format!("row {row}: {name}"), &sealed.to_json());
    }
}

#[test]
fn files_that_are_no_root() {
    let kit = Kit::new(Image::MINIMAL);
    let good = fs::read(&kit.trust_root).unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    let unsigned = {
        let mut value: Value = serde_json::from_slice(&good).unwrap();
        value["signatures"] = json!([]);
        serde_json::to_vec(&value).unwrap()
    };
    let cases: &[(&str, Vec<u8>)] = &[
        ("empty", Vec::new()),
        ("cut", good[..good.len() - 1].to_vec()),
        ("trailing data", [&good[..], b"x"].concat()),
        ("unsigned", unsigned),
        ("larger than the cap", vec![b' '; (1 << 20) + 1]),
        (
            "a release envelope",
            fs::read(crate::common::reseal::parts(&kit.bundle).envelope).unwrap(),
        ),
        ("a private key", fs::read(&kit.key_file).unwrap()),
        ("a byte-order mark", format!("\u{feff}{text}").into_bytes()),
    ];
    for (name, bytes) in cases {
        refused(&kit, name, bytes);
    }
    // A host file that is not there is no reason to go on without it.
    let done =
        run(bundle(["verify", "--json", "--trust-root", "/nonexistent/root"]).arg(&kit.bundle))
            .bad(1);
    assert_eq!(done.json()["code"], "file");
}

fn refused(kit: &Kit, name: &str, bytes: &[u8]) {
    assert!(
        TrustRoot::parse(bytes, &Limits::DEFAULT).is_err(),
        "{name}: accepted"
    );
    let path = kit.path("hostile-root.json");
    fs::write(&path, bytes).unwrap();
    let done = run(bundle(["verify", "--json"])
        .arg(&kit.bundle)
        .arg("--trust-root")
        .arg(&path));
    assert_eq!(done.status, Some(11), "{name}: {}", done.stderr);
    assert_eq!(done.json()["code"], "key", "{name}");
    assert!(
        done.stderr.starts_with("error: "),
        "{name}: {}",
        done.stderr
    );
    assert!(done.stderr.contains("\nhint: "), "{name}: {}", done.stderr);
    let shown = run(bundle(["trust", "show", "--json"]).arg(&path));
    assert_eq!(shown.status, Some(11), "{name}");
}
