//! `bundle trust`: making, signing and comparing documents of trust.

use std::fs;
use std::path::Path;

use serde_json::Value;
use snapbox::{assert_data_eq, file};
use tempfile::TempDir;

use crate::common::run::{Done, bundle, run, tool};

/// Runs `bundle trust` in a directory with the words behind it.
fn trust(temp: &TempDir, words: &str) -> Done {
    run(bundle(["trust"])
        .args(words.split_whitespace())
        .current_dir(temp.path()))
}

/// Makes key pairs with these names, and returns their ids.
fn pairs<const N: usize>(names: [&str; N]) -> (TempDir, [String; N]) {
    let temp = TempDir::new().unwrap();
    let ids = names.map(|name| {
        let path = temp.path().join(format!("{name}.pem"));
        let done = run(bundle(["key", "generate", "--json", "--out"]).arg(path));
        done.json()["keyid"].as_str().unwrap().to_string()
    });
    (temp, ids)
}

/// Runs `trust init` in a directory with the words behind it.
fn init(temp: &TempDir, words: &str) -> Done {
    trust(temp, &format!("init {words}"))
}

#[test]
fn init_makes_a_root_that_show_explains() {
    let (temp, [a, b]) = pairs(["a", "b"]);
    let words = "--product appliance --key a.pem --release-key b.pub.pem --created 2026-01-02T03:04:05Z -o root.json";
    let made = init(&temp, words).good();
    let shown = run(bundle(["trust", "show", "root.json"]).current_dir(temp.path())).good();
    assert_eq!(made, shown);
    let fingerprint = shown
        .lines()
        .find_map(|l| l.strip_prefix("Fingerprint:"))
        .unwrap()
        .trim();
    let sum = run(&mut tool("sha256sum", [temp.path().join("root.json")])).good();
    assert_eq!(
        fingerprint.strip_prefix("sha256:"),
        sum.split_whitespace().next()
    );
    let text = shown
        .replace(fingerprint, "[FINGERPRINT]")
        .replace(&a, "[KEY-A]")
        .replace(&b, "[KEY-B]");
    assert_data_eq!(text, file!["trust-show.txt"]);
    let json = run(bundle(["trust", "show", "--json", "root.json"]).current_dir(temp.path()));
    assert_eq!(json.json()["schema"], "bundle.trust-root.v1");
    assert_eq!(json.json()["roles"]["release"]["keyids"][0], b.as_str());
}

#[test]
fn init_refuses_what_could_not_work() {
    let (temp, _) = pairs(["a", "b"]);
    let good = "--product appliance --key a.pem -o root.json";
    for (extra, status) in [
        ("--threshold root=0", 2),
        ("--threshold root=2", 2),
        ("--threshold root=-1", 2),
        ("--threshold root=18446744073709551616", 2),
        ("--threshold release=0", 2),
        ("--threshold release=2", 2),
        (
            "--release-key a.pub.pem --release-key a.pub.pem --threshold release=2",
            2,
        ),
        ("--key a.pem --threshold root=2", 2),
        ("--threshold revocation=1", 2),
        ("--threshold emperor=1", 2),
        ("--threshold 1", 2),
        ("--scope a.pub.pem,sequence=1..9", 2),
        ("--release-key b.pub.pem --scope b.pub.pem", 2),
        ("--release-key b.pub.pem --scope b.pub.pem,sequence=9..1", 2),
        ("--release-key b.pub.pem --scope b.pub.pem,channel=Beta", 2),
        ("--release-key b.pub.pem --scope b.pub.pem,country=de", 2),
        ("--scope b.pub.pem,sequence=1..9", 2),
        ("--expires tomorrow", 2),
        ("--release-key absent.pem", 1),
        ("--key a.pub.pem", 11),
    ] {
        let done = init(&temp, &format!("{good} {extra}"));
        assert_eq!(done.status, Some(status), "{extra}: {}", done.stderr);
        assert!(done.stderr.contains("error: "), "{extra}: {}", done.stderr);
        assert!(!temp.path().join("root.json").exists(), "{extra}");
    }
    for product in [
        "",
        "Upper",
        "a/b",
        "../x",
        ".x",
        "a b",
        "\u{e9}",
        &"x".repeat(65),
    ] {
        let mut command = bundle([
            "trust",
            "init",
            "--key",
            "a.pem",
            "-o",
            "root.json",
            "--product",
        ]);
        let done = run(command.arg(product).current_dir(temp.path()));
        assert_eq!(done.status, Some(2), "{product:?}: {}", done.stderr);
    }
    init(&temp, good).good();
    let before = fs::read(temp.path().join("root.json")).unwrap();
    init(&temp, good).bad(1);
    assert_eq!(fs::read(temp.path().join("root.json")).unwrap(), before);
}

/// A product with two root keys that agree, one for releases and one that revokes.
fn product() -> TempDir {
    let (temp, _) = pairs(["anna", "bo", "release", "revoke", "stranger"]);
    let words = "--product appliance --key anna.pem --root-key bo.pub.pem --threshold root=2 \
                 --release-key release.pub.pem --revocation-key revoke.pub.pem \
                 --scope release.pub.pem,sequence=1..100 --out 1.json";
    let made = init(&temp, words);
    assert!(
        made.stderr
            .contains("note: not complete: signed by 1 of the 2")
    );
    made.good();
    trust(&temp, "sign 1.json --key bo.pem").good();
    temp
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

#[test]
fn several_people_sign_a_root() {
    let (temp, [a, b, stranger]) = pairs(["a", "b", "stranger"]);
    let words = "--product appliance --key a.pem --root-key b.pub.pem --threshold root=2";
    init(
        &temp,
        &format!("{words} -o root.json --release-key b.pub.pem"),
    )
    .good();
    let file = temp.path().join("root.json");
    // It is no trust root yet, and nothing takes it for one.
    let shown = trust(&temp, "show root.json --json");
    assert_eq!(shown.status, Some(11));
    assert_eq!(shown.json()["signers"], serde_json::json!([a]));
    assert!(shown.json()["missing"].is_string());
    trust(&temp, "verify root.json --trust-root root.json").bad(11);
    // Whoever has no role cannot sign, and leaves no trace.
    let before = read(&file);
    trust(&temp, "sign root.json --key stranger.pem").bad(2);
    assert_eq!(read(&file), before);
    let signed = trust(&temp, "sign root.json --key b.pem --json");
    assert_eq!(signed.json()["missing"], Value::Null);
    assert_eq!(signed.json()["signers"].as_array().unwrap().len(), 2);
    trust(&temp, "show root.json").good();
    // A second signature by one key is the first.
    let whole = read(&file);
    trust(&temp, "sign root.json --key a.pem").good();
    assert_eq!(read(&file), whole);
    assert!(![a, b].contains(&stranger));
}

#[test]
fn rotation_leads_hosts_on_and_nobody_else() {
    let temp = product();
    let rotate = "rotate 1.json -o 2.json --remove-key root=bo.pub.pem --threshold root=1";
    trust(&temp, &format!("{rotate} --key stranger.pem")).bad(2);
    trust(
        &temp,
        &format!("{rotate} --key anna.pem --remove-key release=bo.pem"),
    )
    .bad(2);
    assert!(!temp.path().join("2.json").exists());
    let made = trust(&temp, &format!("{rotate} --key anna.pem --json"));
    assert_eq!(made.json()["version"], 2);
    assert!(
        made.json()["missing"]
            .as_str()
            .unwrap()
            .contains("version 1")
    );
    let verify = "verify 2.json --trust-root 1.json --json";
    let refused = trust(&temp, verify).bad(11);
    assert_eq!(refused.json()["code"], "key");
    assert!(
        refused
            .stderr
            .contains("2.json: trust root version 2 is not signed by")
    );
    // Bo lost the role in version 2, and has to agree to that as a root key of version 1.
    trust(&temp, "sign 2.json --key bo.pem").bad(2);
    trust(&temp, "sign 2.json --key bo.pem --trust-root 1.json").good();
    assert_eq!(trust(&temp, verify).json()["steps"][0]["version"], 2);

    let rotate = "rotate 2.json -o 3.json --key anna.pem --add-key root=stranger.pub.pem";
    trust(&temp, rotate).good();
    let all = trust(
        &temp,
        "verify 3.json 1.json 2.json --trust-root 1.json --json",
    );
    let versions: Vec<_> = all.json()["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["version"].as_u64())
        .collect();
    assert_eq!(versions, [Some(2), Some(3)]);
    let gap = trust(&temp, "verify 3.json --trust-root 1.json").bad(11);
    assert!(
        gap.stderr
            .contains("3.json: trust root version 3 does not follow version 1")
    );
    assert!(gap.stderr.contains("hint: bring every version"));
    // Another family with the same name.
    init(
        &temp,
        "--product appliance --key stranger.pem -o other.json",
    )
    .good();
    trust(&temp, "verify other.json --trust-root 1.json").bad(11);
    trust(&temp, "verify 2.json --trust-root other.json").bad(11);
    trust(&temp, "verify absent.json --trust-root 1.json").bad(1);
    // Time goes on with the version.
    let words = "rotate 3.json -o 4.json --key anna.pem --expires 2030-01-01T00:00:00Z";
    trust(&temp, words).good();
    trust(&temp, "rotate 4.json -o 5.json --key anna.pem").bad(2);
    let last = trust(
        &temp,
        "rotate 4.json -o 5.json --key anna.pem --no-expires --json",
    );
    assert_eq!(last.json()["expires"], Value::Null);
}

#[test]
fn lists_revoke_and_only_move_forward() {
    let temp = product();
    let revoke = "revoke --trust-root 1.json --key revoke.pem";
    let image = format!("sha256:{}", "7".repeat(64));
    let words = format!("{revoke} --revoke-key stranger.pem --revoke-digest {image} -o a.json");
    let made = trust(&temp, &format!("{words} --json"));
    assert_eq!(made.json()["sequence"], 1);
    assert_eq!(made.json()["verified"], true);
    let words = format!("{revoke} --extend a.json --floor 5 --floor beta=7 -o b.json --json");
    let second = trust(&temp, &words).json();
    assert_eq!(second["sequence"], 2);
    assert_eq!(second["digests"][0], image.as_str());
    assert_eq!(second["keys"].as_array().unwrap().len(), 1);
    assert_eq!(
        second["floors"],
        serde_json::json!({"beta": 7, "default": 5})
    );
    // A floor never falls.
    let third = trust(
        &temp,
        &format!("{revoke} --extend b.json --floor 4 -o c.json --json"),
    );
    assert_eq!(third.json()["floors"]["default"], 5);
    for (words, status) in [
        ("verify b.json --trust-root 1.json", 0),
        ("verify b.json --trust-root 1.json --revoked a.json", 0),
        ("verify b.json --trust-root 1.json --revoked b.json", 0),
        ("verify a.json --trust-root 1.json --revoked b.json", 11),
        ("verify a.json b.json --trust-root 1.json", 2),
        ("verify a.json", 2),
        (
            "revoke --trust-root 1.json --key release.pem --floor 2 -o x.json",
            2,
        ),
        (
            "revoke --trust-root 1.json --key revoke.pem --floor 0 -o x.json",
            2,
        ),
        (
            "revoke --trust-root 1.json --key revoke.pem --revoke-digest md5:1 -o x.json",
            2,
        ),
        (
            "revoke --trust-root 1.json --key revoke.pem --extend b.json --sequence 2 -o x.json",
            2,
        ),
        (
            "revoke --trust-root 1.json --key revoke.pem --floor 2 -o a.json",
            1,
        ),
        ("sign a.json --key revoke.pem", 2),
        ("sign a.json --key release.pem --trust-root 1.json", 2),
        ("sign a.json --key revoke.pem --trust-root 1.json", 0),
    ] {
        let done = trust(&temp, words);
        assert_eq!(done.status, Some(status), "{words}: {}", done.stderr);
    }
    assert!(!temp.path().join("x.json").exists());
    let shown = trust(&temp, "show b.json").good();
    assert!(shown.contains("Verified:    no"), "{shown}");
}

#[test]
fn permits_are_for_hosts_and_sequences() {
    let temp = product();
    let permit = "permit --trust-root 1.json --key release.pem --host host-1 --host host-2";
    let made = trust(&temp, &format!("{permit} --sequence 3..5 -o a.json --json")).json();
    assert_eq!(made["hosts"], serde_json::json!(["host-1", "host-2"]));
    assert_eq!(made["sequence"], serde_json::json!({"from": 3, "to": 5}));
    assert_eq!(made["verified"], true);
    trust(&temp, "verify a.json --trust-root 1.json").good();
    let other = trust(&temp, &format!("{permit} --sequence 3..5 -o b.json --json")).json();
    assert_ne!(made["nonce"], other["nonce"]);
    for (words, status) in [
        (format!("{permit} --sequence 5..3 -o x.json"), 2),
        (format!("{permit} --sequence 3..101 -o x.json"), 11),
        (format!("{permit} --sequence 3 --host * -o x.json"), 2),
        (format!("{permit} --sequence 3 --channel Beta -o x.json"), 2),
        (format!("{permit} --sequence 3 -o a.json"), 1),
        (format!("{permit} --sequence 3 --key anna.pem -o x.json"), 2),
        (
            "permit --trust-root 1.json --key release.pem --sequence 3 -o x.json".into(),
            2,
        ),
    ] {
        let done = trust(&temp, &words);
        assert_eq!(done.status, Some(status), "{words}: {}", done.stderr);
    }
    assert!(!temp.path().join("x.json").exists());
    // A permit by a key that was revoked since is none.
    trust(
        &temp,
        "revoke --trust-root 1.json --key revoke.pem --revoke-key release.pem -o l.json",
    )
    .good();
    let done = trust(&temp, "verify a.json --trust-root 1.json --revoked l.json").bad(11);
    assert!(done.stderr.contains("was revoked"), "{}", done.stderr);
}

#[test]
fn openssl_verifies_what_root_keys_signed() {
    let temp = product();
    let at = |name: &str| temp.path().join(name);
    let document: Value = serde_json::from_slice(&read(&at("1.json"))).unwrap();
    let decode = |text: &Value| {
        use base64::Engine as _;
        let text = text.as_str().unwrap();
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap()
    };
    let (kind, payload) = (
        document["payloadType"].as_str().unwrap(),
        decode(&document["payload"]),
    );
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    fs::write(at("signed"), [head.as_bytes(), &payload].concat()).unwrap();
    for name in ["anna", "bo"] {
        let public = at(&format!("{name}.pub.pem"));
        let id = run(bundle(["key", "show"]).arg(&public)).good();
        let signatures = document["signatures"].as_array().unwrap();
        let signature = signatures
            .iter()
            .find(|s| s["keyid"] == id.trim_end())
            .unwrap();
        fs::write(at("sig"), decode(&signature["sig"])).unwrap();
        let words = ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"];
        run(tool("openssl", words)
            .arg(&public)
            .args(["-in", "signed", "-sigfile", "sig"])
            .current_dir(temp.path()))
        .good();
    }
}
