//! Row 41: text from the medium that would steer a terminal, a log or a report.

use std::fs;

use bundle_format::media_type;
use serde_json::json;

use crate::common::kit::{Image, Kit};
use crate::common::reseal::{edit_release, edit_statement, parts, sign_payload};
use crate::common::run::{bundle, run};

/// Clears the screen, sets the title, goes back over the line, turns the direction, hides.
const EVIL: &str = "a\u{1b}[2J\u{1b}]0;t\u{7}\r\n\u{8}\u{9b}31m\u{7f}\u{85}\u{202e}\u{2066}\u{200b}\
                    \u{feff}\u{2028}\u{2029}\u{61c}\u{ad}\u{2060}\u{180e}\u{fff9}\u{e0041}z";

/// Asserts that nothing in `text` steers; line feeds only where `lines` allows them.
fn harmless(name: &str, text: &str) {
    for c in text.chars() {
        let steers = (c.is_control() && c != '\n')
            || matches!(c,
                '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}');
        assert!(!steers, "{name}: U+{:04X} in {text:?}", c as u32);
    }
}

/// Runs every output over a bundle and returns how often the escaped text shows up.
fn outputs(name: &str, kit: &Kit, path: &std::path::Path) -> usize {
    let root = kit.trust_root.to_str().unwrap();
    let path = path.to_str().unwrap();
    let mut seen = 0;
    for args in [
        vec!["inspect", path],
        vec!["inspect", "--json", path],
        vec!["verify", path, "--trust-root", root],
        vec!["verify", "--json", path, "--trust-root", root],
        vec!["verify", "--quiet", path, "--trust-root", root],
    ] {
        let done = run(&mut bundle(&args));
        harmless(&format!("{name}: {args:?}: stdout"), &done.stdout);
        harmless(&format!("{name}: {args:?}: stderr"), &done.stderr);
        for output in [&done.stdout, &done.stderr] {
            // Each line is one of ours: the text cannot begin a line of its own.
            assert!(
                !output.lines().any(|line| line.starts_with('\u{1b}')),
                "{name}"
            );
            seen += usize::from(output.contains("[2J"));
        }
        if args.contains(&"--json") {
            done.json();
        }
    }
    seen
}

#[test]
fn escapes_in_signed_text_do_not_reach_the_terminal() {
    let kit = Kit::new(Image::USUAL);
    let dir = kit.copy("tag");
    edit_release(&dir, kit.key(), |release| {
        let image = &mut release.index[0];
        image
            .annotations
            .insert(media_type::REF_NAME.into(), EVIL.into());
        image.annotations.insert(EVIL.into(), EVIL.into());
        release.index[1].artifact_type = Some(EVIL.into());
    });
    assert!(outputs("tag and artifact type", &kit, &dir) >= 2);

    let dir = kit.copy("media-type");
    edit_statement(&dir, kit.key(), |v| {
        v["predicate"]["index"][1]["mediaType"] = json!(EVIL)
    });
    outputs("media type", &kit, &dir);

    for member in ["product", "version", "source", "created"] {
        let dir = kit.copy(member);
        edit_statement(&dir, kit.key(), |v| v["predicate"][member] = json!(EVIL));
        outputs(member, &kit, &dir);
    }

    let dir = kit.copy("type");
    edit_statement(&dir, kit.key(), |v| {
        v["predicate"]["critical"] = json!([EVIL])
    });
    assert!(outputs("critical", &kit, &dir) >= 2);

    let dir = kit.copy("garbage");
    sign_payload(&dir, EVIL.as_bytes().to_vec(), &[kit.key()]);
    outputs("garbage", &kit, &dir);
}

#[test]
fn escapes_in_names_and_unsigned_text_do_not_reach_the_terminal() {
    let kit = Kit::new(Image::USUAL);
    let dir = kit.copy("name");
    fs::write(dir.join(EVIL.replace('/', "")), "x").unwrap();
    assert!(outputs("file name", &kit, &dir) >= 2);

    let dir = kit.copy("payload-type");
    crate::common::reseal::edit_envelope(&dir, |e| e["payloadType"] = json!(EVIL));
    assert!(outputs("payload type", &kit, &dir) >= 2);

    let dir = kit.copy("keyid");
    crate::common::reseal::edit_envelope(&dir, |e| e["signatures"][0]["keyid"] = json!(EVIL));
    outputs("key id", &kit, &dir);

    let dir = kit.copy("member");
    crate::common::reseal::edit_envelope(&dir, |e| e[EVIL] = json!(1));
    outputs("unknown member", &kit, &dir);

    let dir = kit.copy("index");
    crate::common::reseal::edit_json(&dir.join("index.json"), |index| {
        index["manifests"]
            .as_array_mut()
            .unwrap()
            .last_mut()
            .unwrap()["digest"] = json!(EVIL);
    });
    outputs("index", &kit, &dir);

    let tar = kit.path("name.tar");
    let mut members = crate::common::tarball::members(&kit.bundle);
    members.push(crate::common::tarball::member(EVIL, b'0', b"x"));
    fs::write(&tar, crate::common::tarball::finish(&members)).unwrap();
    assert!(outputs("tar member", &kit, &tar) >= 2);
}

#[test]
fn escapes_in_a_source_layout_do_not_reach_the_terminal() {
    let kit = Kit::new(Image::MINIMAL);
    let image = kit.path("evil-image");
    crate::common::kit::copy_tree(&kit.image, &image);
    crate::common::reseal::edit_json(&image.join("index.json"), |index| {
        index["manifests"][0]["annotations"][media_type::REF_NAME] = json!(EVIL);
    });
    let source = format!("oci:{}:absent", image.display());
    let done = run(bundle([
        "export",
        &source,
        "--sequence",
        "1",
        "--reference",
        "r.example/a:1",
    ])
    .arg("--output")
    .arg(kit.path("evil-bundle"))
    .arg("--sign-key")
    .arg(&kit.key_file)
    .arg("--trust-root")
    .arg(&kit.trust_root))
    .bad(1);
    harmless("export", &done.stderr);
    assert!(done.stderr.contains("[2J"), "{}", done.stderr);
    // The good bundle says nothing that needs escaping.
    assert!(!outputs_of_good(&kit).contains("\\u"));
}

fn outputs_of_good(kit: &Kit) -> String {
    assert!(parts(&kit.bundle).release.index.len() == 1);
    run(bundle(["inspect", "--json"]).arg(&kit.bundle)).good()
}
