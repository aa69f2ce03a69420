//! Rows 27 and 34: very many, and very large.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bundle_format::{BlobEntry, Digest, Limits};
use serde_json::{Value, json};

use crate::case::{accepts, command_line};
use crate::common::kit::{Image, Kit};
use crate::common::reseal::{
    edit_envelope, edit_json, edit_release, edit_statement, parts, place_envelope, put,
    sign_payload,
};

/// What "bounded" means here, with room for slow machines and builds without optimisation.
const SOON: Duration = Duration::from_secs(15);

fn refused(name: &str, kit: &Kit, dir: &std::path::Path, code: &str, status: i32) {
    let begin = Instant::now();
    let found = command_line(name, dir, &kit.trust_root);
    assert_eq!(
        (found.codes.contains(code), found.status),
        (true, status),
        "{name}: {found:?}"
    );
    assert!(begin.elapsed() < SOON, "{name}: took {:?}", begin.elapsed());
}

#[test]
fn signatures_are_capped() {
    let kit = Kit::new(Image::MINIMAL);
    let stranger = |number: usize| json!({"keyid": Digest::of(&number.to_le_bytes()).to_hex(), "sig": STANDARD.encode([7; 64])});
    let with = |name: &str, count: usize| {
        let dir = kit.copy(name);
        edit_envelope(&dir, |e| {
            let list = e["signatures"].as_array_mut().unwrap();
            list.extend((1..count).map(stranger));
        });
        dir
    };
    accepts(&with("as many as are read", 64), &kit.trust_root);
    refused("one more", &kit, &with("one more", 65), "untrusted", 11);
    refused("100,000", &kit, &with("100,000", 100_000), "untrusted", 11);
    let dir = kit.copy("one of 6 MiB");
    edit_envelope(&dir, |e| {
        e["signatures"][0]["sig"] = json!("A".repeat(8 << 20))
    });
    refused("one of 6 MiB", &kit, &dir, "untrusted", 11);
    let dir = kit.copy("above the cap");
    place_envelope(&dir, &vec![b' '; 33 << 20]);
    refused("above the cap", &kit, &dir, "wrong-size", 12);
}

#[test]
fn annotations_and_referrers_are_bounded() {
    let kit = Kit::new(Image::USUAL);
    let annotate = |value: &mut Value, count: usize| {
        let many = (0..count).map(|n| (format!("key-{n}"), json!("x")));
        value["annotations"] = Value::Object(many.collect());
    };
    // Unsigned: 100,000 in index.json are more than its cap of bytes or differ from what was signed.
    let dir = kit.copy("index annotations");
    edit_json(&dir.join("index.json"), |index| {
        annotate(&mut index["manifests"][0], 100_000)
    });
    refused("index annotations", &kit, &dir, "corrupt", 12);

    let dir = kit.copy("index referrers");
    edit_json(&dir.join("index.json"), |index| {
        let list = index["manifests"].as_array_mut().unwrap();
        let one = list[1].clone();
        list.splice(1..1, vec![one; 20_000]);
    });
    refused("index referrers", &kit, &dir, "corrupt", 12);

    let dir = kit.copy("index above the cap");
    edit_json(&dir.join("index.json"), |index| {
        let list = index["manifests"].as_array_mut().unwrap();
        let one = list[1].clone();
        list.splice(1..1, vec![one; 100_000]);
    });
    refused("index above the cap", &kit, &dir, "not-a-bundle", 10);

    // Signed.
    let dir = kit.copy("signed referrers");
    edit_statement(&dir, kit.key(), |v| {
        let list = v["predicate"]["index"].as_array_mut().unwrap();
        let one = list[1].clone();
        list.extend(vec![one; 20_000]);
    });
    refused("signed referrers", &kit, &dir, "inconsistent", 12);

    let dir = kit.copy("signed blobs");
    edit_statement(&dir, kit.key(), |v| {
        let list = v["predicate"]["blobs"].as_array_mut().unwrap();
        let one = |n: u64| json!({"digest": Digest::of(&n.to_le_bytes()).to_string(), "size": 1});
        list.extend((0..100_001).map(one));
    });
    refused("signed blobs", &kit, &dir, "inconsistent", 12);

    // Few megabytes of annotations that were signed are content like any other.
    let dir = kit.copy("signed annotations");
    edit_release(&dir, kit.key(), |release| {
        let many = (0..50_000).map(|n| (format!("k{n}"), "x".to_string()));
        release.index[0].annotations.extend(many);
    });
    accepts(&dir, &kit.trust_root);
}

/// More blobs than a process may have open files: a good bundle stays good.
#[test]
fn many_blobs_need_few_descriptors() {
    let kit = Kit::new(Image {
        referrers: 60,
        ..Image::MINIMAL
    });
    assert!(parts(&kit.bundle).release.blobs.len() > 120);
    accepts(&kit.bundle, &kit.trust_root);
    let done = crate::common::run::run(
        crate::common::run::tool("sh", ["-c", "ulimit -n 32; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_bundle"))
            .args(["verify", "--json"])
            .arg(&kit.bundle)
            .arg("--trust-root")
            .arg(&kit.trust_root),
    );
    assert_eq!(done.json()["problems"], json!([]), "{}", done.stderr);
}

#[test]
fn many_problems_are_found_in_bounded_time() {
    let kit = Kit::new(Image::MINIMAL);
    // A long signed list of blobs, none of which is there.
    let dir = kit.copy("missing");
    let old = parts(&dir);
    let mut release = old.release.clone();
    let new = (0..30_000_u64).map(|n| Digest::of(&n.to_le_bytes()));
    let blobs: Vec<_> = new.map(|digest| BlobEntry { digest, size: 8 }).collect();
    release.blobs.extend(&blobs);
    let mut hashes = fs::read(&old.chunks).unwrap();
    hashes.extend(blobs.iter().flat_map(|blob| *blob.digest.as_bytes()));
    fs::remove_file(&old.chunks).unwrap();
    release.chunks.index = put(&dir, &hashes);
    sign_payload(
        &dir,
        release.to_json(&Limits::DEFAULT).unwrap(),
        &[kit.key()],
    );
    refused("30,000 missing", &kit, &dir, "missing-file", 12);

    let dir = kit.copy("extra");
    for n in 0..20_000 {
        fs::write(dir.join(format!("extra-{n}")), "").unwrap();
    }
    refused("20,000 extra", &kit, &dir, "extra-file", 12);
}

/// Row 27: a blob of 4 GiB and a byte is covered to its last byte.
#[test]
fn a_blob_beyond_4_gib_is_covered() {
    const SIZE: u64 = (4 << 30) + 1;
    // SHA-256 of that many zeros.
    let digest: Digest = "sha256:fbb82f7b353676bb562eb82157fcf0ea42c36492ca13ee56dbf82c08b6802c5c"
        .parse()
        .unwrap();
    let kit = Kit::new(Image::MINIMAL);
    let dir = kit.copy("large");
    let old = parts(&dir);
    let mut release = old.release.clone();
    release.blobs.push(BlobEntry { digest, size: SIZE });
    let file = fs::File::create(dir.join(digest.blob_path())).unwrap();
    file.set_len(SIZE).unwrap();
    let zeros = Digest::of(&vec![0; 1 << 20]);
    let mut hashes = fs::read(&old.chunks).unwrap();
    hashes.extend((0..4096).flat_map(|_| *zeros.as_bytes()));
    hashes.extend(Digest::of(&[0]).as_bytes());
    fs::remove_file(&old.chunks).unwrap();
    release.chunks.index = put(&dir, &hashes);
    sign_payload(
        &dir,
        release.to_json(&Limits::DEFAULT).unwrap(),
        &[kit.key()],
    );
    // The last byte, and the first behind 2 GiB; every other chunk is its own positive twin.
    file.write_all_at(&[1], SIZE - 1).unwrap();
    file.write_all_at(&[1], 1 << 31).unwrap();
    let medium = bundle::verify::medium(&dir).unwrap();
    let report = bundle::verify::check(medium, &kit.root(), &bundle::progress::Silent).unwrap();
    let ranges: Vec<_> = report
        .problems
        .into_iter()
        .map(|p| (p.code(), p.range.unwrap()))
        .collect();
    let chunk = 1 << 20;
    assert_eq!(
        ranges,
        [
            ("corrupt", (1 << 31)..(1 << 31) + chunk),
            ("corrupt", SIZE - 1..SIZE)
        ]
    );
}
