//! The command line, as people and scripts meet it.

#![cfg(feature = "export")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

#[path = "cli/export.rs"]
mod export;
#[path = "cli/keys.rs"]
mod keys;
#[path = "cli/slow.rs"]
mod slow;
#[path = "cli/stock.rs"]
mod stock;
#[path = "cli/trust.rs"]
mod trust;
#[path = "cli/verify.rs"]
mod verify;

use std::path::Path;

use common::run::{bundle, run};
use snapbox::{assert_data_eq, file};

#[test]
fn help_of_every_verb() {
    let help = |words: &[&str]| run(bundle(words).arg("--help")).good();
    assert_data_eq!(help(&["key"]), file!["cli/help/key.txt"]);
    assert_data_eq!(
        help(&["key", "generate"]),
        file!["cli/help/key-generate.txt"]
    );
    assert_data_eq!(help(&["key", "show"]), file!["cli/help/key-show.txt"]);
    assert_data_eq!(help(&["trust"]), file!["cli/help/trust.txt"]);
    assert_data_eq!(help(&["trust", "init"]), file!["cli/help/trust-init.txt"]);
    for verb in ["show", "rotate", "sign", "verify", "revoke", "permit"] {
        let golden = format!("tests/cli/help/trust-{verb}.txt");
        let golden = snapbox::Data::read_from(Path::new(&golden), None);
        assert_data_eq!(help(&["trust", verb]), golden);
    }
    assert_data_eq!(help(&["export"]), file!["cli/help/export.txt"]);
    assert_data_eq!(
        help(&["delta", "create"]),
        file!["cli/help/delta-create.txt"]
    );
    assert_data_eq!(help(&["delta", "apply"]), file!["cli/help/delta-apply.txt"]);
    assert_data_eq!(help(&["delta", "show"]), file!["cli/help/delta-show.txt"]);
    #[cfg(feature = "ostree")]
    assert_data_eq!(help(&["plan"]), file!["cli/help/plan.txt"]);
    assert_data_eq!(help(&["inspect"]), file!["cli/help/inspect.txt"]);
    assert_data_eq!(help(&["verify"]), file!["cli/help/verify.txt"]);
    assert_data_eq!(help(&["completion"]), file!["cli/help/completion.txt"]);
}

#[test]
fn the_table_of_exit_statuses_is_in_the_help() {
    let help = run(&mut bundle(["--help"])).good();
    for line in [
        " 0  done",
        "10  not a readable bundle",
        "12  corrupt",
        "130  interrupted",
    ] {
        assert!(help.contains(line), "{line:?} is not in\n{help}");
    }
}

#[test]
fn wrong_usage_has_its_status() {
    for words in [
        &["frobnicate"][..],
        &[],
        &["verify"],
        &["verify", "x"],
        &["verify", "x", "--trust-root"],
        &[
            "export",
            "oci:x",
            "-o",
            "y",
            "--trust-root",
            "z",
            "--sign-key",
            "k",
            "--sequence",
            "0",
        ],
        &[
            "export",
            "oci:x",
            "-o",
            "y",
            "--trust-root",
            "z",
            "--sign-key",
            "k",
            "--sequence",
            "-1",
        ],
        &[
            "export",
            "oci:x",
            "-o",
            "y",
            "--trust-root",
            "z",
            "--sign-key",
            "k",
            "--sequence",
            "18446744073709551616",
        ],
        &["key", "generate"],
    ] {
        let done = run(&mut bundle(words));
        assert_eq!(done.status, Some(2), "{words:?}: {}", done.stderr);
        assert_eq!(done.stdout, "", "{words:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            run(&mut bundle(["completion", shell]))
                .good()
                .contains("bundle")
        );
    }
}

#[test]
fn man_pages_are_written() {
    let directory = tempfile::TempDir::new().unwrap();
    run(bundle(["man"]).arg(directory.path())).good();
    for page in [
        "bundle.1",
        "bundle-verify.1",
        "bundle-export.1",
        "bundle-key-generate.1",
    ] {
        assert!(directory.path().join(page).is_file(), "{page}");
    }
}
