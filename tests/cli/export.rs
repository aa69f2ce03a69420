//! `bundle export`: sources, determinism, refusals, resuming.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use bundle_keys::PrivateKey;

use crate::common::kit::{Image, Kit, TAG, copy_tree, files, root_of};
use crate::common::reseal::parts;
use crate::common::run::{Done, PATIENCE, bundle, run, tool};
use crate::slow::Registry;

fn export(kit: &Kit, source: &str, output: &Path) -> Command {
    let mut command = bundle(["export", "--json", source, "--sequence", "7"]);
    command
        .arg("--output")
        .arg(output)
        .arg("--sign-key")
        .arg(&kit.key_file);
    command.arg("--trust-root").arg(&kit.trust_root);
    command.args(["--reference", "registry.example/os/appliance:1.2.3"]);
    command
}

fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    files(dir)
        .into_iter()
        .map(|path| (path.clone(), fs::read(dir.join(path)).unwrap()))
        .collect()
}

fn verify(kit: &Kit, path: &Path) -> Done {
    run(bundle(["verify", "--json"])
        .arg(path)
        .arg("--trust-root")
        .arg(&kit.trust_root))
}

#[test]
fn every_source_gives_the_same_bundle() {
    let kit = Kit::new(Image::USUAL);
    let archive = kit.path("image.oci.tar");
    let (from, to) = (
        format!("oci:{}:{TAG}", kit.image.display()),
        format!("oci-archive:{}:{TAG}", archive.display()),
    );
    let mut copy = tool(
        "skopeo",
        ["--insecure-policy", "copy", "--quiet", "--preserve-digests"],
    );
    run(copy.args([&from, &to])).good();
    let (one, two, three) = (kit.path("one"), kit.path("two"), kit.path("three"));
    let report = run(&mut export(&kit, &from, &one)).json();
    assert_eq!(report["schema"], "bundle.export.v1");
    assert_eq!(
        (report["referrers"].as_u64(), report["reused"].as_u64()),
        (Some(1), Some(0))
    );
    run(&mut export(&kit, &from, &two)).good();
    assert_eq!(tree(&one), tree(&two), "two exports differ");
    // skopeo leaves the referrer behind; the image is the same.
    run(&mut export(&kit, &to, &three)).good();
    let image = |path: &Path| parts(path).release.image().unwrap().clone();
    assert_eq!(image(&one), image(&three));
    for path in [&one, &two, &three] {
        verify(&kit, path).good();
    }
    // A bundle is an image layout like any other: exporting it again changes nothing.
    let again = kit.path("again");
    run(&mut export(
        &kit,
        &format!("oci:{}:{TAG}", one.display()),
        &again,
    ))
    .good();
    assert_eq!(tree(&one), tree(&again));
}

#[test]
fn what_exists_is_left_alone() {
    let kit = Kit::new(Image::MINIMAL);
    let source = format!("oci:{}:{TAG}", kit.image.display());
    let (dir, file, link) = (kit.path("dir"), kit.path("file"), kit.path("link"));
    fs::create_dir(&dir).unwrap();
    fs::write(&file, "precious").unwrap();
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    for output in [&dir, &file, &link, &kit.bundle] {
        let done = run(&mut export(&kit, &source, output)).bad(1);
        assert_eq!(done.json()["code"], "exists", "{}", output.display());
        assert!(!output.with_file_name("x.partial").exists());
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert!(fs::read_dir(&dir).unwrap().next().is_none());
    verify(&kit, &kit.bundle).good();
}

#[test]
fn refusals_come_before_the_work() {
    let kit = Kit::new(Image::MINIMAL);
    let source = format!("oci:{}:{TAG}", kit.image.display());
    let output = kit.path("refused");
    let stranger = PrivateKey::generate().unwrap();
    fs::write(
        kit.path("stranger.pem"),
        stranger.to_pem().unwrap().as_bytes(),
    )
    .unwrap();
    fs::write(kit.path("other.json"), root_of("kiosk", &stranger)).unwrap();
    let path = |name: &str| kit.path(name).display().to_string();
    let cases: &[(&str, Vec<String>, i32)] = &[
        (
            "another's key",
            vec!["--sign-key".into(), path("stranger.pem")],
            2,
        ),
        (
            "another product",
            vec!["--product".into(), "kiosk".into()],
            2,
        ),
        (
            "a version with a space",
            vec!["--version".into(), "1 2".into()],
            2,
        ),
        (
            "a platform that is none",
            vec!["--platform".into(), "linux".into()],
            2,
        ),
        ("an unknown transport", vec![], 2),
        ("a tag that is not there", vec![], 1),
        ("a layout that is not there", vec![], 1),
    ];
    for (name, words, status) in cases {
        let source = match *name {
            "an unknown transport" => "ftp://x".to_string(),
            "a tag that is not there" => format!("oci:{}:absent", kit.image.display()),
            "a layout that is not there" => "oci:/nonexistent:1".to_string(),
            _ => source.clone(),
        };
        let done = run(export(&kit, &source, &output).args(words));
        assert_eq!(done.status, Some(*status), "{name}: {}", done.stderr);
        assert!(done.stderr.contains("error: "), "{name}: {}", done.stderr);
        assert!(!output.exists(), "{name}");
    }
}

#[test]
fn a_second_export_to_the_same_place_is_locked_out() {
    let kit = Kit::new(Image::USUAL);
    let registry = Registry::serve(kit.image.clone());
    let source = format!("docker://{}/os/appliance:{TAG}", registry.address);
    let output = kit.path("busy");
    let mut first = export(&kit, &source, &output);
    let mut child = first
        .arg("--tls-verify=false")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while received(&kit.path("busy.partial")) == 0 {
        assert!(begin.elapsed() < PATIENCE, "the export does not begin");
        thread::sleep(Duration::from_millis(5));
    }
    let done = run(export(&kit, &source, &output).arg("--tls-verify=false")).bad(15);
    assert_eq!(done.json()["code"], "busy");
    registry.slow.store(false, Ordering::Relaxed);
    assert!(child.wait().unwrap().success());
    verify(&kit, &output).good();
}

/// Returns how much there is of the largest blob that is not whole.
fn received(partial: &Path) -> u64 {
    let blobs = fs::read_dir(partial.join("blobs/sha256"))
        .into_iter()
        .flatten();
    let sizes = blobs
        .map(|item| item.unwrap().path())
        .filter(|path| path.extension().is_some())
        .filter_map(|path| Some(fs::metadata(path).ok()?.len()));
    sizes.max().unwrap_or(0)
}

#[test]
fn a_killed_export_goes_on_where_it_was() {
    let kit = Kit::new(Image::USUAL);
    let registry = Registry::serve(kit.image.clone());
    let source = format!("docker://{}/os/appliance:{TAG}", registry.address);
    let whole = kit.path("whole");
    registry.slow.store(false, Ordering::Relaxed);
    run(export(&kit, &source, &whole).arg("--tls-verify=false")).good();

    let (output, partial) = (kit.path("killed"), kit.path("killed.partial"));
    for signal in ["-KILL", "-TERM"] {
        registry.slow.store(true, Ordering::Relaxed);
        let mut command = export(&kit, &source, &output);
        command
            .arg("--tls-verify=false")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let before = received(&partial);
        let mut child = command.spawn().unwrap();
        let begin = Instant::now();
        while received(&partial) < before + 300_000 {
            assert!(begin.elapsed() < PATIENCE, "the export does not go on");
            thread::sleep(Duration::from_millis(5));
        }
        run(tool("kill", [signal, &child.id().to_string()]).env("LC_ALL", "C")).good();
        let status = child.wait().unwrap();
        assert_eq!(
            status.code(),
            if signal == "-TERM" { Some(130) } else { None }
        );
        assert!(
            !output.exists(),
            "a bundle that is not whole has its final name"
        );
    }
    let spoiled = kit.path("spoiled.partial");
    copy_tree(&partial, &spoiled);
    registry.slow.store(false, Ordering::Relaxed);
    registry.ranges.lock().unwrap().clear();
    let report = run(export(&kit, &source, &output).arg("--tls-verify=false")).json();
    let reused = report["reused"].as_u64().unwrap();
    assert!(reused >= 600_000, "{report}");
    // Only the rest was asked for.
    let asked = registry.ranges.lock().unwrap().clone();
    assert!(asked.iter().any(|start| *start >= 600_000), "{asked:?}");
    assert_eq!(tree(&output), tree(&whole));
    assert!(!partial.exists());

    // The same with leftovers that a failing disk spoiled: they are found out and fetched again.
    for item in fs::read_dir(spoiled.join("blobs/sha256")).unwrap() {
        let path = item.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        bytes[0] ^= 1;
        fs::write(&path, bytes).unwrap();
    }
    let output = kit.path("spoiled");
    run(export(&kit, &source, &output).arg("--tls-verify=false")).good();
    assert_eq!(tree(&output), tree(&whole));
}

#[test]
fn progress_of_an_export_is_written_as_json_lines() {
    let kit = Kit::new(Image::USUAL);
    let lines = kit.path("lines");
    let output = kit.path("followed");
    let mut command = tool("sh", ["-c", "exec \"$@\" 5>\"$0\""]);
    command
        .arg(&lines)
        .arg(env!("CARGO_BIN_EXE_bundle"))
        .args(["export", "--progress-fd", "5"]);
    command
        .arg(format!("oci:{}:{TAG}", kit.image.display()))
        .arg("--output")
        .arg(&output);
    command.args(["--sequence", "7", "--reference", "registry.example/a:1"]);
    command
        .arg("--sign-key")
        .arg(&kit.key_file)
        .arg("--trust-root")
        .arg(&kit.trust_root);
    run(&mut command).good();
    let text = fs::read_to_string(&lines).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (first, last) = (lines.first().unwrap(), lines.last().unwrap());
    assert_eq!(
        (first["stage"].as_str(), first["done"].as_u64()),
        (Some("exporting"), Some(0))
    );
    assert_eq!(last["done"], last["total"]);
    assert!(last["total"].as_u64() > Some(2 << 20));
}
