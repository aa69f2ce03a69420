//! Rows 26, 27, 34, 44 on the build box: hostile layouts, and what lies in wait in PATH.partial.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use bundle_format::media_type;
use serde_json::{Value, json};

use crate::case::accepts;
use crate::common::kit::{Image, Kit, Layout, TAG, copy_tree, files};
use crate::common::reseal::{edit_json, parts};
use crate::common::run::{Done, bundle, run};

fn export(kit: &Kit, image: &Path, output: &Path) -> Done {
    let source = format!("oci:{}:{TAG}", image.display());
    run(bundle([
        "export",
        "--json",
        &source,
        "--sequence",
        "3",
        "--all-platforms",
    ])
    .args(["--reference", "registry.example/os/appliance:1.2.3"])
    .arg("--output")
    .arg(output)
    .arg("--sign-key")
    .arg(&kit.key_file)
    .arg("--trust-root")
    .arg(&kit.trust_root))
}

/// Makes a layout by hand, exports it and returns how that ended; a bundle has to verify.
fn try_layout(kit: &Kit, name: &str, fill: impl FnOnce(&mut Layout)) -> Done {
    let (image, output) = (kit.path(&format!("{name}-image")), kit.path(name));
    let mut layout = Layout::create(&image);
    fill(&mut layout);
    layout.finish();
    let done = export(kit, &image, &output);
    assert!(
        done.status.is_some(),
        "{name}: killed by a signal: {}",
        done.stderr
    );
    if done.status == Some(0) {
        accepts(&output, &kit.trust_root);
    } else {
        assert!(!output.exists(), "{name}: a failed export left a bundle");
        assert!(
            done.stderr.starts_with("error: "),
            "{name}: {}",
            done.stderr
        );
    }
    done
}

fn image(layout: &Layout, layers: &[Value]) -> Value {
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": []},
        "config": {"Labels": {"org.opencontainers.image.version": "1"}}});
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": layout.document(media_type::OCI_CONFIG, &config),
        "layers": layers,
    });
    layout.document(media_type::OCI_MANIFEST, &manifest)
}

#[test]
fn layouts_that_lie() {
    let kit = Kit::new(Image::MINIMAL);
    let good = try_layout(&kit, "good", |layout| {
        let layer = layout.blob(media_type::LAYER_TAR, b"layer");
        let image = image(layout, &[layer]);
        layout.list(image, Some(TAG));
    });
    assert_eq!(good.status, Some(0), "{}", good.stderr);
    for (name, size) in [("zero", 0), ("short", 4), ("long", 6), ("huge", u64::MAX)] {
        let done = try_layout(&kit, &format!("size-{name}"), |layout| {
            let mut layer = layout.blob(media_type::LAYER_TAR, b"layer");
            layer["size"] = json!(size);
            let image = image(layout, &[layer]);
            layout.list(image, Some(TAG));
        });
        assert_eq!(done.status, Some(1), "{name}");
    }
    let done = try_layout(&kit, "manifest-size", |layout| {
        let layer = layout.blob(media_type::LAYER_TAR, b"layer");
        let mut image = image(layout, &[layer]);
        image["size"] = json!(image["size"].as_u64().unwrap() + 1);
        layout.list(image, Some(TAG));
    });
    assert_eq!(done.status, Some(1));
    // Two documents that give one blob two sizes: no bundle could satisfy both.
    let done = try_layout(&kit, "two-sizes", |layout| {
        let layer = layout.blob(media_type::LAYER_TAR, b"layer");
        let mut liar = layer.clone();
        liar["size"] = json!(6);
        let image = image(layout, &[layer, liar]);
        layout.list(image, Some(TAG));
    });
    assert_eq!(done.status, Some(1), "{}", done.stdout);
    let done = try_layout(&kit, "empty-size", |layout| {
        let mut empty = layout.blob(media_type::OCI_EMPTY, b"{}");
        empty["size"] = json!(3);
        let image = image(layout, &[empty]);
        layout.list(image, Some(TAG));
    });
    assert_eq!(done.status, Some(1), "{}", done.stdout);
    let done = try_layout(&kit, "missing-layer", |layout| {
        let mut layer = layout.blob(media_type::LAYER_TAR, b"layer");
        layer["digest"] = json!(bundle_format::Digest::of(b"other").to_string());
        let image = image(layout, &[layer]);
        layout.list(image, Some(TAG));
    });
    assert_eq!(done.status, Some(1));
    let done = try_layout(&kit, "path-digest", |layout| {
        let mut layer = layout.blob(media_type::LAYER_TAR, b"layer");
        layer["digest"] = json!("sha256:../../../../etc/passwd");
        let image = image(layout, &[layer]);
        layout.list(image, Some(TAG));
    });
    assert_eq!(done.status, Some(1));
    // A manifest that is some manifest's layer first: its parts must come along.
    let done = try_layout(&kit, "manifest-as-layer", |layout| {
        let layer = layout.blob(media_type::LAYER_TAR, b"layer");
        let inner = image(layout, &[layer]);
        let outer = image(layout, std::slice::from_ref(&inner));
        let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
            "manifests": [outer, inner]});
        let index = layout.document(media_type::OCI_INDEX, &index);
        layout.list(index, Some(TAG));
    });
    assert!(matches!(done.status, Some(0 | 1)));
}

#[test]
fn indexes_without_end() {
    let kit = Kit::new(Image::MINIMAL);
    for depth in [3, 12_000] {
        let done = try_layout(&kit, &format!("depth-{depth}"), |layout| {
            let layer = layout.blob(media_type::LAYER_TAR, b"layer");
            let mut inner = image(layout, &[layer]);
            for _ in 0..depth {
                let index = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX,
                    "manifests": [inner]});
                inner = layout.document(media_type::OCI_INDEX, &index);
            }
            layout.list(inner, Some(TAG));
        });
        assert_eq!(
            done.status,
            Some(i32::from(depth > 100)),
            "{depth}: {}",
            done.stderr
        );
    }
}

#[test]
fn referrers_in_bulk() {
    use bundle::export::{Contents, Source};
    use bundle::platform::Choice;

    let kit = Kit::new(Image::MINIMAL);
    let fill = |layout: &mut Layout, count: u32| {
        let layer = layout.blob(media_type::LAYER_TAR, b"layer");
        let image = image(layout, &[layer]);
        layout.list(image.clone(), Some(TAG));
        for number in 0..count {
            let artifact = layout.artifact(&image, &number.to_le_bytes());
            layout.list(artifact, None);
        }
    };
    let done = try_layout(&kit, "referrers", |layout| fill(layout, 40));
    assert_eq!(done.status, Some(0), "{}", done.stderr);
    assert_eq!(done.json()["referrers"], 40);
    // Each document is read once, not once for each of the others.
    let many = kit.path("many");
    let mut layout = Layout::create(&many);
    fill(&mut layout, 5_000);
    layout.finish();
    let source = format!("oci:{}:{TAG}", many.display());
    let begin = std::time::Instant::now();
    let found = crate::common::run::within("5,000 referrers", move || {
        let source = Source::open(&source, Default::default()).unwrap();
        let image = source.image().unwrap();
        Contents::of(&source, &image, &Choice::All)
            .unwrap()
            .index
            .len()
    });
    assert_eq!(found, 5_001);
    assert!(
        begin.elapsed() < std::time::Duration::from_secs(15),
        "{:?}",
        begin.elapsed()
    );
}

/// Row 44: links planted in a staging directory that others can write to.
#[test]
fn links_planted_in_the_staging_directory_are_not_followed() {
    type Plant = fn(&Path, &Path, &Path);
    let cases: &[(&str, Plant)] = &[
        ("index.json", |partial, victim, _| {
            symlink(victim, partial.join("index.json")).unwrap()
        }),
        ("oci-layout", |partial, victim, _| {
            symlink(victim, partial.join("oci-layout")).unwrap()
        }),
        ("a blob in the making", |partial, victim, blob| {
            symlink(victim, partial.join(blob).with_extension("partial")).unwrap();
        }),
        ("a whole blob", |partial, victim, blob| {
            symlink(victim, partial.join(blob)).unwrap()
        }),
        ("a hard link", |partial, victim, blob| {
            fs::hard_link(victim, partial.join(blob).with_extension("partial")).unwrap();
        }),
        ("an alien", |partial, victim, _| {
            symlink(victim, partial.join("blobs/sha256/alien")).unwrap();
        }),
        ("blobs", |partial, victim, _| {
            fs::remove_dir_all(partial.join("blobs")).unwrap();
            let elsewhere = victim.with_extension("d");
            fs::create_dir_all(elsewhere.join("sha256")).unwrap();
            fs::write(elsewhere.join("sha256/precious"), "precious").unwrap();
            symlink(elsewhere, partial.join("blobs")).unwrap();
        }),
    ];
    let kit = Kit::new(Image::USUAL);
    let blobs = parts(&kit.bundle).release.blobs;
    let layer = blobs
        .iter()
        .max_by_key(|b| b.size)
        .unwrap()
        .digest
        .blob_path();
    for (number, (name, plant)) in cases.iter().enumerate() {
        let output = kit.path(&format!("planted-{number}"));
        let partial = kit.path(&format!("planted-{number}.partial"));
        let victim = kit.path(&format!("victim-{number}"));
        let content = vec![b'v'; 5 << 20];
        fs::write(&victim, &content).unwrap();
        fs::create_dir_all(partial.join("blobs/sha256")).unwrap();
        plant(&partial, &victim, Path::new(&layer));
        let done = export(&kit, &kit.image, &output);
        assert_eq!(
            fs::read(&victim).unwrap(),
            content,
            "{name}: the victim was changed"
        );
        let precious = victim.with_extension("d").join("sha256");
        if precious.exists() {
            assert_eq!(files(&precious), ["precious"], "{name}");
        }
        match done.status {
            Some(0) => accepts(&output, &kit.trust_root),
            Some(1) => assert!(!output.exists(), "{name}"),
            other => panic!("{name}: {other:?} {}", done.stderr),
        }
    }
    // The staging directory itself.
    let victim = kit.path("elsewhere");
    fs::create_dir(&victim).unwrap();
    symlink(&victim, kit.path("linked.partial")).unwrap();
    let done = export(&kit, &kit.image, &kit.path("linked")).bad(1);
    assert!(
        fs::read_dir(&victim).unwrap().next().is_none(),
        "{}",
        done.stderr
    );
}

/// What an earlier run left, whole, cut, damaged or strange, never gets into the bundle.
#[test]
fn leftovers_are_used_or_dropped() {
    type Leave = fn(&Path, &Path);
    let cases: &[(&str, Leave)] = &[
        ("half of a layer", |partial, blob| cut(partial, blob, false)),
        ("damaged half of a layer", |partial, blob| {
            cut(partial, blob, true)
        }),
        ("a whole layer, damaged", |partial, blob| {
            let path = partial.join(blob);
            let mut bytes = fs::read(&path).unwrap();
            bytes[0] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("a layer that is too long", |partial, blob| {
            let path = partial.join(blob);
            let mut bytes = fs::read(&path).unwrap();
            bytes.extend([0; 100]);
            fs::write(path, bytes).unwrap();
        }),
        ("every blob, damaged", |partial, _| {
            for item in fs::read_dir(partial.join("blobs/sha256")).unwrap() {
                let path = item.unwrap().path();
                let mut bytes = fs::read(&path).unwrap();
                bytes[0] ^= 1;
                fs::write(path, bytes).unwrap();
            }
        }),
        (
            "temporary files of a writer that was killed",
            |partial, _| {
                fs::write(partial.join(".tmpAbC123"), "x").unwrap();
                fs::write(partial.join("blobs/sha256/.tmpAbC123"), "x").unwrap();
                fs::write(partial.join("blobs/.tmpAbC123"), "x").unwrap();
            },
        ),
        ("another index and layout marker", |partial, _| {
            fs::write(partial.join("index.json"), "x").unwrap();
            fs::write(partial.join("oci-layout"), "x").unwrap();
        }),
        ("blobs of another image", |partial, _| {
            crate::common::reseal::put(partial, b"of another image");
        }),
    ];
    let kit = Kit::new(Image::USUAL);
    let reference = kit.path("reference");
    export(&kit, &kit.image, &reference).good();
    let blobs = parts(&reference).release.blobs;
    let layer = blobs
        .iter()
        .max_by_key(|b| b.size)
        .unwrap()
        .digest
        .blob_path();
    for (number, (name, leave)) in cases.iter().enumerate() {
        let output = kit.path(&format!("left-{number}"));
        let partial = kit.path(&format!("left-{number}.partial"));
        copy_tree(&reference, &partial);
        leave(&partial, Path::new(&layer));
        let done = export(&kit, &kit.image, &output);
        assert_eq!(done.status, Some(0), "{name}: {}", done.stderr);
        accepts(&output, &kit.trust_root);
        assert_eq!(
            tree(&output),
            tree(&reference),
            "{name}: differs from an export in one go"
        );
        assert!(!partial.exists(), "{name}");
    }
}

fn cut(partial: &Path, blob: &Path, damage: bool) {
    let path = partial.join(blob);
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.len() / 2);
    if damage {
        bytes[100] ^= 1;
    }
    fs::remove_file(&path).unwrap();
    fs::write(path.with_extension("partial"), bytes).unwrap();
}

fn tree(dir: &Path) -> Vec<(String, Vec<u8>)> {
    files(dir)
        .into_iter()
        .map(|path| (path.clone(), fs::read(dir.join(path)).unwrap()))
        .collect()
}

/// Row 25: what the layout's own index says besides digests does not get signed unseen.
#[test]
fn a_source_index_with_two_images_of_one_tag_is_refused() {
    let kit = Kit::new(Image::MINIMAL);
    let image = kit.path("twice");
    copy_tree(&kit.image, &image);
    edit_json(&image.join("index.json"), |index| {
        let list = index["manifests"].as_array_mut().unwrap();
        list.push(list[0].clone());
    });
    export(&kit, &image, &kit.path("twice-bundle")).bad(1);
}
