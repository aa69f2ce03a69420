//! Random and randomly changed input into every parser of unverified bytes.
//!
//! Errors are fine, panics are bugs. What is accepted has to survive its own round trip, where the
//! type has one. Deterministic generators of damage live in `hostile.rs`; this finds what nobody
//! thought of.

#![cfg(feature = "export")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::fs;
use std::sync::LazyLock;

use bundle::progress::Silent;
use bundle::{text, verify};
use bundle_format::dsse::Envelope;
use bundle_format::layout::{find_envelope, find_release};
use bundle_format::manifest::Document;
use bundle_format::{
    BlobEntry, ChunkIndex, Digest, Limits, Release, Time, media_type, trust_chain,
};
use bundle_keys::{
    Document as _, Nonce, Permit, PrivateKey, PublicKey, Range, RevocationList, Signed, TrustRoot,
    chain,
};
use common::kit::{Image, Kit, PRODUCT};
use common::reseal::parts;
use common::tarball::{finish, members};
use proptest::collection::vec;
use proptest::prelude::*;

/// Valid documents to start from.
struct Seeds {
    kit: Kit,
    documents: Vec<Vec<u8>>,
    tar: Vec<u8>,
}

static SEEDS: LazyLock<Seeds> = LazyLock::new(|| {
    let kit = Kit::new(Image {
        referrers: 1,
        ..Image::MINIMAL
    });
    let found = parts(&kit.bundle);
    let read = |path: &std::path::Path| fs::read(path).unwrap();
    let image = kit
        .bundle
        .join(found.release.image().unwrap().digest.blob_path());
    let documents = vec![
        read(&kit.bundle.join("index.json")),
        read(&found.manifest),
        read(&found.envelope),
        found.signed.payload.clone(),
        read(&image),
        read(&found.chunks),
        read(&kit.trust_root),
        read(&kit.key_file),
        kit.key().public().unwrap().to_pem().into_bytes(),
        permit(&kit),
    ];
    let tar = finish(&members(&kit.bundle));
    Seeds {
        kit,
        documents,
        tar,
    }
});

/// A permit, which the kit's key may sign.
fn permit(kit: &Kit) -> Vec<u8> {
    let permit = Permit {
        product: PRODUCT.into(),
        channel: None,
        hosts: ["host-1".into()].into(),
        sequence: Range { from: 1, to: 6 },
        statement: None,
        nonce: Nonce::generate().unwrap(),
        created: None,
        expires: Some(Time::from_seconds(1_767_323_045)),
    };
    let payload = permit.to_payload().unwrap();
    bundle_keys::sign(media_type::PERMIT, payload, &[kit.key()])
        .unwrap()
        .to_json()
}

/// Words that matter to the parsers, to be put anywhere.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ":",
    ",",
    "0",
    "-1",
    "1e9",
    "18446744073709551616",
    "null",
    "true",
    "NaN",
    "\u{feff}",
    "\0",
    "sha256:",
    "../",
    "\\u0000",
    "\\ud800",
    "\"critical\":[\"x\"],",
    "\"size\":0,",
    "\"digest\":",
    "\"signatures\":[],",
    "==",
    "\n",
];

#[derive(Clone, Debug)]
enum Change {
    Flip(usize, u8),
    Cut(usize),
    Remove(usize, usize),
    Repeat(usize, usize),
    Insert(usize, Vec<u8>),
    Word(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<usize>(), 1..=255_u8).prop_map(|(at, mask)| Change::Flip(at, mask)),
        any::<usize>().prop_map(Change::Cut),
        (any::<usize>(), 1..200_usize).prop_map(|(at, n)| Change::Remove(at, n)),
        (any::<usize>(), 1..200_usize).prop_map(|(at, n)| Change::Repeat(at, n)),
        (any::<usize>(), vec(any::<u8>(), 1..20)).prop_map(|(at, b)| Change::Insert(at, b)),
        (any::<usize>(), 0..WORDS.len()).prop_map(|(at, word)| Change::Word(at, word)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if bytes.is_empty() {
            return bytes;
        }
        let place = |at: usize| at % bytes.len();
        match change {
            Change::Flip(at, mask) => {
                let at = place(*at);
                bytes[at] ^= mask;
            }
            Change::Cut(at) => bytes.truncate(place(*at)),
            Change::Remove(at, n) => {
                let at = place(*at);
                bytes.drain(at..(at + n).min(bytes.len()));
            }
            Change::Repeat(at, n) => {
                let at = place(*at);
                let part = bytes[at..(at + n).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
            Change::Insert(at, new) => {
                let at = place(*at);
                bytes.splice(at..at, new.iter().copied());
            }
            Change::Word(at, word) => {
                let at = place(*at);
                bytes.splice(at..at, WORDS[*word].bytes());
            }
        }
    }
    bytes
}

/// Feeds bytes to everything that parses unverified bytes.
fn feed(bytes: &[u8]) {
    let limits = &Limits::DEFAULT;
    if let Ok(envelope) = Envelope::parse(bytes, limits) {
        assert_eq!(
            Envelope::parse(&envelope.to_json(), limits).as_ref(),
            Ok(&envelope)
        );
        let _ = SEEDS
            .kit
            .root()
            .check_signatures(bundle_keys::Role::Release, &envelope);
        let _ = Release::parse(&envelope.payload, limits);
    }
    if let Ok(release) = Release::parse(bytes, limits) {
        let again = release.to_json(limits).unwrap();
        assert_eq!(Release::parse(&again, limits), Ok(release));
    }
    let _ = find_release(bytes, limits);
    let _ = find_envelope(bytes, limits);
    for kind in [
        media_type::OCI_MANIFEST,
        media_type::OCI_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_LIST,
    ] {
        if let Ok(document) = Document::parse(bytes, kind, limits) {
            let _ = document.parts().count();
        }
    }
    let blobs = [1, 0, (3 << 20) + 1].map(|size| BlobEntry {
        digest: Digest::of(b""),
        size,
    });
    for blobs in [&blobs[..], &[]] {
        if let Ok(index) = ChunkIndex::parse(bytes, blobs) {
            for blob in blobs {
                let _ = index.chunk(&blob.digest, u64::MAX);
            }
        }
    }
    assert!(TrustRoot::parse(bytes, limits).is_err() || SEEDS.documents[6] == bytes);
    let root = SEEDS.kit.root();
    if let Ok(steps) = chain::walk(&root, &[bytes.to_vec()], limits) {
        assert!(steps.is_empty(), "nobody signed a successor");
    }
    assert!(Signed::<RevocationList>::open(bytes, &root, limits).is_err());
    assert!(Signed::<Permit>::open(bytes, &root, limits).is_err() || SEEDS.documents[9] == bytes);
    let _ = RevocationList::from_payload(bytes, limits);
    let _ = Permit::from_payload(bytes, limits);
    let _ = trust_chain::find(bytes, limits);
    let _ = trust_chain::roots(bytes, limits);
    let _ = PublicKey::from_spki(bytes);
    let text = String::from_utf8_lossy(bytes);
    let _ = PublicKey::from_pem(&text);
    let _ = PublicKey::from_base64(&text);
    let _ = PrivateKey::from_pem(&text);
    let _ = text.parse::<Digest>();
    assert!(!text::printable(&text).contains(|c: char| c.is_control()));
}

/// Opens bytes as a tar file, and verifies what opens.
fn feed_tar(bytes: &[u8]) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let Ok(medium) = verify::medium(file.path()) else {
        return false;
    };
    for entry in medium.entries(&Limits::DEFAULT).unwrap() {
        if let Ok(file) = medium.file(&entry.path) {
            let _ = file.read_capped(1 << 20);
        }
    }
    let _ = verify::claim(&medium);
    verify::check(medium, &SEEDS.kit.root(), &Silent)
        .unwrap()
        .problems
        .is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..2_000)) {
        feed(&bytes);
    }

    #[test]
    fn random_json(words in vec(0..WORDS.len(), 0..200)) {
        let text: String = words.into_iter().map(|word| WORDS[word]).collect();
        feed(text.as_bytes());
    }

    #[test]
    fn changed_documents(seed in 0..9_usize, changes in vec(change(), 1..6)) {
        feed(&changed(SEEDS.documents[seed].clone(), &changes));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() })]

    #[test]
    fn random_tar_files(bytes in vec(any::<u8>(), 0..4_000)) {
        prop_assert!(!feed_tar(&bytes));
    }

    /// Whatever was changed: what is accepted is the very same bundle.
    #[test]
    fn changed_tar_files(changes in vec(change(), 1..4)) {
        let bytes = changed(SEEDS.tar.clone(), &changes);
        if feed_tar(&bytes) {
            let zeros = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            prop_assert_eq!(&bytes[..zeros(&bytes)], &SEEDS.tar[..zeros(&SEEDS.tar)]);
        }
    }

    /// Headers with a right checksum, so that what is behind it is reached.
    #[test]
    fn changed_tar_headers(at in 0..6_usize, field in 0..512_usize, new in vec(any::<u8>(), 1..30)) {
        let mut list = members(&SEEDS.kit.bundle);
        let count = list.len();
        let header = &mut list[at % count][..512];
        for (place, byte) in header[field..].iter_mut().zip(new) {
            *place = byte;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        feed_tar(&finish(&list));
    }
}

#[test]
fn the_seeds_are_good() {
    feed_tar(&SEEDS.tar).then_some(()).unwrap();
    SEEDS.documents.iter().for_each(|document| feed(document));
}
