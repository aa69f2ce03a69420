//! `bundle key`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

use crate::common::run::{Done, bundle, run, tool};

fn generate(path: &Path) -> Done {
    run(bundle(["key", "generate", "--json", "--out"]).arg(path))
}

/// Two key pairs, `a` and `b`, with their ids.
fn pairs() -> (TempDir, String, String) {
    let temp = TempDir::new().unwrap();
    let id = |name: &str| {
        let done = generate(&temp.path().join(name));
        done.json()["keyid"].as_str().unwrap().to_string()
    };
    let (a, b) = (id("a.pem"), id("b.pem"));
    (temp, a, b)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn generate_writes_a_pair_that_openssl_reads() {
    let (temp, id, other) = pairs();
    assert_ne!(id, other);
    let (private, public) = (temp.path().join("a.pem"), temp.path().join("a.pub.pem"));
    assert_eq!(mode(&private), 0o600);
    assert_eq!(mode(&public), 0o644);
    let der = temp.path().join("a.der");
    run(
        tool("openssl", ["pkey", "-pubin", "-outform", "DER", "-in"])
            .args([&public])
            .arg("-out")
            .arg(&der),
    )
    .good();
    let hash = run(tool("openssl", ["dgst", "-sha256", "-r"]).arg(&der)).good();
    assert_eq!(hash.split_whitespace().next(), Some(id.as_str()));
    // The halves belong together.
    let half = run(tool("openssl", ["pkey", "-pubout", "-in"]).arg(&private)).good();
    assert_eq!(half, fs::read_to_string(&public).unwrap());
    for path in [&private, &public] {
        let shown = run(bundle(["key", "show"]).arg(path)).good();
        assert_eq!(shown.trim_end(), id);
    }
}

#[test]
fn generate_keeps_the_mode_whatever_the_umask() {
    let temp = TempDir::new().unwrap();
    for umask in ["000", "077", "777"] {
        let path = temp.path().join(format!("key-{umask}.pem"));
        let script = format!("umask {umask}; exec \"$@\"");
        run(tool("sh", ["-c", &script, "sh"])
            .arg(env!("CARGO_BIN_EXE_bundle"))
            .args(["key", "generate", "--out"])
            .arg(&path))
        .good();
        assert_eq!(mode(&path) & !0o600, 0, "umask {umask}");
    }
}

#[test]
fn generate_overwrites_nothing() {
    let temp = TempDir::new().unwrap();
    let (private, public) = (temp.path().join("k.pem"), temp.path().join("k.pub.pem"));
    for (existing, other) in [(&private, &public), (&public, &private)] {
        fs::write(existing, "precious").unwrap();
        let done = generate(&private).bad(1);
        assert_eq!(done.json()["code"], "exists");
        assert!(done.stderr.contains("\nhint: "), "{}", done.stderr);
        assert_eq!(fs::read_to_string(existing).unwrap(), "precious");
        assert!(!other.exists(), "a half of a pair was left");
        fs::remove_file(existing).unwrap();
    }
    // A dangling link is something that exists, and is not written through.
    let victim = temp.path().join("victim");
    for link in [&private, &public] {
        std::os::unix::fs::symlink(&victim, link).unwrap();
        generate(&private).bad(1);
        assert!(!victim.exists());
        fs::remove_file(link).unwrap();
        fs::remove_file(&private).ok();
    }
    let done = generate(&temp.path().join("absent/k.pem")).bad(1);
    assert_eq!(done.json()["code"], "file");
}

#[test]
fn keys_of_other_makers_and_kinds() {
    let temp = TempDir::new().unwrap();
    let at = |name: &str| temp.path().join(name);
    run(tool("openssl", ["genpkey", "-algorithm", "ed25519", "-out"]).arg(at("good.pem"))).good();
    assert_eq!(
        run(bundle(["key", "show"]).arg(at("good.pem")))
            .good()
            .trim_end()
            .len(),
        64
    );
    run(tool("openssl", ["genpkey", "-algorithm", "x25519", "-out"]).arg(at("x25519.pem"))).good();
    run(tool(
        "openssl",
        ["ecparam", "-genkey", "-name", "prime256v1", "-out"],
    )
    .arg(at("ec.pem")))
    .good();
    run(
        tool("openssl", ["pkey", "-aes256", "-passout", "pass:x", "-in"])
            .arg(at("good.pem"))
            .arg("-out")
            .arg(at("encrypted.pem")),
    )
    .good();
    fs::write(at("empty.pem"), "").unwrap();
    fs::write(at("binary.pem"), [0xff; 100]).unwrap();
    let twice = fs::read_to_string(at("good.pem")).unwrap().repeat(2);
    fs::write(at("twice.pem"), twice).unwrap();
    for name in ["x25519", "ec", "encrypted", "empty", "binary", "twice"] {
        let done = run(bundle(["key", "show", "--json"]).arg(at(&format!("{name}.pem")))).bad(11);
        assert_eq!(done.json()["code"], "key", "{name}");
        assert!(done.stderr.contains("\nhint: "), "{name}: {}", done.stderr);
    }
    run(bundle(["key", "show"]).arg(at("absent.pem"))).bad(1);
}
