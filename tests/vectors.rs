//! Every vector of `bundle-format/vectors` gets the verdict its header states.
//!
//! The vectors are made by `gen.py` beside them, which shares no code with this project, so they also show that SPEC.md
//! says enough.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bundle::layout::Medium;
use bundle::progress::Silent;
use bundle::verify;
use bundle_format::Limits;
use bundle_keys::{
    Document as _, Draft, Permit, RevocationList, Signed, TrustRoot, chain, document,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bundle-format/vectors")
}

/// Reads the `name: value` lines of a vector's header.
fn header(path: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap();
    let pair = |line: &str| {
        let (name, value) = line.split_once(": ").expect("a line `name: value`");
        (name.to_string(), value.to_string())
    };
    text.lines().map(pair).collect()
}

#[test]
fn every_vector_gets_its_verdict() {
    let folder = folder();
    let mut names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|item| item.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "vector")
        })
        .collect();
    names.sort();
    assert!(
        names.len() >= 20,
        "only {} vectors in {}",
        names.len(),
        folder.display()
    );
    for path in names {
        let header = header(&path);
        let root = fs::read(folder.join(&header["trust-root"])).unwrap();
        let root = TrustRoot::parse(&root, &Limits::DEFAULT).unwrap();
        let medium = Medium::open(&folder.join(&header["bundle"]), &Limits::DEFAULT).unwrap();
        let report = verify::check(medium, &root, &Silent).unwrap();
        let mut codes: Vec<_> = report
            .problems
            .iter()
            .map(|problem| problem.code())
            .collect();
        codes.dedup();
        let expected = match header["expect"].as_str() {
            "accepted" => Vec::new(),
            code => vec![code],
        };
        assert_eq!(
            codes,
            expected,
            "{}: {:#?}",
            path.display(),
            report.problems
        );
    }
}

#[test]
fn every_vector_is_in_the_index() {
    let folder = folder();
    let index = fs::read_to_string(folder.join("INDEX")).unwrap();
    for line in index.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let (name, verdict) = (words.next().unwrap(), words.nth(1).unwrap());
        assert_eq!(
            header(&folder.join(format!("{name}.vector")))["expect"],
            verdict,
            "{name}"
        );
    }
    let count = index.lines().filter(|line| !line.starts_with('#')).count();
    let headers = fs::read_dir(&folder)
        .unwrap()
        .filter(|item| {
            item.as_ref()
                .unwrap()
                .path()
                .extension()
                .is_some_and(|e| e == "vector")
        })
        .count();
    assert_eq!(count, headers);
}

/// What a host that has `held` says of a document of trust.
fn accepts(kind: &str, bytes: &[u8], held: &TrustRoot) -> bool {
    let limits = &Limits::DEFAULT;
    match kind {
        "root" => TrustRoot::parse(bytes, limits).is_ok(),
        "successor" => {
            chain::walk(held, &[bytes.to_vec()], limits).is_ok_and(|steps| steps.len() == 1)
        }
        "list" => Signed::<RevocationList>::open(bytes, held, limits).is_ok(),
        "permit" => Signed::<Permit>::open(bytes, held, limits).is_ok(),
        other => panic!("a vector of kind {other}"),
    }
}

#[test]
fn every_document_of_trust_gets_its_verdict() {
    let folder = folder().join("trust");
    let read = |name: &str| fs::read(folder.join(format!("{name}.json"))).unwrap();
    let held = TrustRoot::parse(&read("held"), &Limits::DEFAULT).unwrap();
    let index = fs::read_to_string(folder.join("INDEX")).unwrap();
    let mut count = 0;
    for line in index.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<_> = line.split_whitespace().collect();
        let (name, kind, verdict) = (words[0], words[1], words[3]);
        let expected = match verdict {
            "accepted" => true,
            "refused" => false,
            other => panic!("{name}: verdict {other}"),
        };
        assert_eq!(accepts(kind, &read(name), &held), expected, "{name}");
        count += 1;
    }
    // INDEX and held.json are the two files that are no vector.
    assert_eq!(count + 2, fs::read_dir(&folder).unwrap().count());
}

#[test]
fn documents_of_trust_are_written_as_the_vectors_are() {
    let folder = folder().join("trust");
    let read = |name: &str| fs::read(folder.join(format!("{name}.json"))).unwrap();
    let limits = &Limits::DEFAULT;
    let root = Draft::parse(&read("root"), limits).unwrap();
    let again = Draft::new(root.terms().clone()).unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(
        text(&again.envelope().payload),
        text(&root.envelope().payload)
    );
    let (list, envelope) = document::claim::<RevocationList>(&read("list"), limits).unwrap();
    assert_eq!(text(&list.to_payload().unwrap()), text(&envelope.payload));
    let (permit, envelope) = document::claim::<Permit>(&read("permit"), limits).unwrap();
    assert_eq!(text(&permit.to_payload().unwrap()), text(&envelope.payload));
}
