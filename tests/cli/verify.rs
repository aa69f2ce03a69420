//! `bundle verify` and `bundle inspect`: what they print, and that they need no network.

use std::fs;

use snapbox::{assert_data_eq, file};

use crate::common::kit::{Image, Kit, PRODUCT, TAG};
use crate::common::reseal::parts;
use crate::common::run::{bundle, run, tool};

/// Replaces what differs from run to run.
fn stable(kit: &Kit, text: &str) -> String {
    let release = parts(&kit.bundle).release;
    let id = parts(&kit.bundle).signed.signatures[0].keyid.to_hex();
    text.replace(&id, "[KEY]")
        .replace(&release.image().unwrap().digest.to_string(), "[IMAGE]")
        .replace(&kit.root().digest().to_string(), "[TRUST-ROOT]")
        .replace(kit.path("").to_str().unwrap(), "[DIR]/")
}

#[test]
fn a_good_bundle() {
    let kit = Kit::new(Image::MINIMAL);
    let text = run(bundle(["verify"])
        .arg(&kit.bundle)
        .arg("--trust-root")
        .arg(&kit.trust_root));
    assert_eq!(text.stderr, "");
    assert_data_eq!(stable(&kit, &text.good()), file!["verify-good.txt"]);
    let json = run(bundle(["verify", "--json"])
        .arg(&kit.bundle)
        .arg("--trust-root")
        .arg(&kit.trust_root));
    assert_data_eq!(stable(&kit, &json.good()), file!["verify-good.json"]);
    let text = run(bundle(["inspect"]).arg(&kit.bundle)).good();
    assert_data_eq!(stable(&kit, &text), file!["inspect-good.txt"]);
    let json = run(bundle(["inspect", "--json"]).arg(&kit.bundle));
    assert_eq!(json.json()["verified"], false);
    assert_eq!(
        (
            json.json()["product"].as_str(),
            json.json()["version"].as_str()
        ),
        (Some(PRODUCT), Some(TAG))
    );
}

#[test]
fn a_damaged_bundle() {
    let kit = Kit::new(Image::MINIMAL);
    let dir = kit.copy("damaged");
    let image = parts(&dir).release.image().unwrap().digest.blob_path();
    let mut bytes = fs::read(dir.join(&image)).unwrap();
    bytes[0] ^= 1;
    fs::write(dir.join(&image), bytes).unwrap();
    fs::write(dir.join("README"), "x").unwrap();
    let hide = |text: &str| stable(&kit, text).replace(&image, "[IMAGE-BLOB]");
    for quiet in [&[][..], &["--quiet"]] {
        let mut command = bundle(["verify"]);
        command
            .args(quiet)
            .arg(&dir)
            .arg("--trust-root")
            .arg(&kit.trust_root);
        let done = run(&mut command).bad(12);
        assert_data_eq!(hide(&done.stdout), file!["verify-damaged.txt"]);
        // Quiet is for talk; that something is wrong is no talk.
        assert_data_eq!(hide(&done.stderr), file!["verify-damaged.stderr.txt"]);
    }
}

#[test]
fn paths_that_are_no_bundle() {
    let kit = Kit::new(Image::MINIMAL);
    let cases = [
        ("absent", 1, "file"),
        ("key.pem", 10, "not-a-bundle"),
        ("image", 11, "unsigned"),
    ];
    for (path, status, code) in cases {
        let verify = run(bundle(["verify", "--json"])
            .arg(kit.path(path))
            .arg("--trust-root")
            .arg(&kit.trust_root))
        .bad(status);
        let report = verify.json();
        let found = report["problems"][0]["code"]
            .as_str()
            .or(report["code"].as_str());
        assert_eq!(found, Some(code), "{path}");
        let inspect = run(bundle(["inspect", "--json"]).arg(kit.path(path))).bad(status);
        assert_eq!(inspect.json()["code"], code, "{path}");
        assert!(
            inspect.stderr.contains("\nhint: "),
            "{path}: {}",
            inspect.stderr
        );
    }
}

/// Row 46: no interface at all, and no address family for one.
#[test]
fn privileged_verify_needs_no_network() {
    let kit = Kit::new(Image::MINIMAL);
    let mut command = tool("unshare", ["--net"]);
    command
        .arg(env!("CARGO_BIN_EXE_bundle"))
        .arg("verify")
        .arg(&kit.bundle);
    run(command.arg("--trust-root").arg(&kit.trust_root)).good();
    // And none is asked for.
    let log = kit.path("sockets");
    let mut command = tool("strace", ["-f", "-qq", "-e", "trace=%network", "-o"]);
    command
        .arg(&log)
        .arg(env!("CARGO_BIN_EXE_bundle"))
        .arg("verify")
        .arg(&kit.bundle);
    run(command.arg("--trust-root").arg(&kit.trust_root)).good();
    let calls = fs::read_to_string(log).unwrap();
    assert!(!calls.contains("socket("), "{calls}");
}

#[test]
fn progress_is_written_as_json_lines() {
    let kit = Kit::new(Image::USUAL);
    let lines = kit.path("lines");
    let mut command = tool("sh", ["-c", "exec \"$@\" 5>\"$0\""]);
    command.arg(&lines).arg(env!("CARGO_BIN_EXE_bundle"));
    command
        .args(["verify", "--progress-fd", "5"])
        .arg(&kit.bundle);
    run(command.arg("--trust-root").arg(&kit.trust_root)).good();
    let text = fs::read_to_string(&lines).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let total = parts(&kit.bundle).release.total_size();
    for line in &lines {
        assert_eq!(line["schema"], "bundle.progress.v1");
        assert_eq!(line["total"], total);
    }
    assert_eq!(lines.first().unwrap()["done"], 0);
    assert_eq!(lines.last().unwrap()["done"], total);
    let mut command = bundle(["verify", "--progress-fd", "77"]);
    run(command
        .arg(&kit.bundle)
        .arg("--trust-root")
        .arg(&kit.trust_root))
    // A descriptor that is not open.
    .bad(2);
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    let kit = Kit::new(Image::MINIMAL);
    let mut command = tool("sh", ["-c", "\"$0\" \"$@\" | true; exit 0"]);
    command
        .arg(env!("CARGO_BIN_EXE_bundle"))
        .arg("inspect")
        .arg(&kit.bundle);
    assert_eq!(run(&mut command).stderr, "");
}
