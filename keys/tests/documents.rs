//! Revocation lists and permits: rows 6, 11, 13, 14 and 18, each with its positive twin.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly"
)]

mod common;

use std::collections::BTreeSet;

use bundle_format::chunk::CHUNK_BYTES;
use bundle_format::layout::EMPTY;
use bundle_format::{BlobEntry, CHANNEL, Chunks, Descriptor, Digest, Release, Time, media_type};
use bundle_keys::{
    KeyError, Nonce, Permit, PrivateKey, Range, RevocationList, Role, Scope, Signed, Trust,
    TrustRoot, sign,
};

use common::{LIMITS, PRODUCT, changed, copy, id, issue, key, root, scoped, seal, terms};

struct Cast {
    boss: PrivateKey,
    releaser: PrivateKey,
    second: PrivateKey,
    revoker: PrivateKey,
    root: TrustRoot,
}

/// A root with a key in each of three roles, the second release key bounded.
fn cast() -> Cast {
    let (boss, releaser, second, revoker) = (key(), key(), key(), key());
    let all = terms(&[
        (Role::Root, &[&boss]),
        (Role::Release, &[&releaser, &second]),
        (Role::Revocation, &[&revoker]),
    ]);
    let sequence = Some(Range { from: 1, to: 50 });
    let scope = Scope {
        channels: None,
        sequence,
    };
    let all = scoped(scoped(all, &second, scope.clone()), &revoker, scope);
    let root = root(&all, &[&boss]);
    Cast {
        boss,
        releaser,
        second,
        revoker,
        root,
    }
}

fn list(sequence: u64) -> RevocationList {
    RevocationList {
        sequence,
        created: Some(Time::from_seconds(1)),
        keys: [Digest::of(b"a"), Digest::of(b"b")].into(),
        digests: [Digest::of(b"c"), Digest::of(b"d")].into(),
        floors: [("default".to_string(), 7)].into(),
        ..RevocationList::new(PRODUCT)
    }
}

fn permit() -> Permit {
    Permit {
        product: PRODUCT.into(),
        channel: None,
        hosts: ["host-1".to_string(), "host-2".into()].into(),
        sequence: Range { from: 3, to: 5 },
        statement: None,
        nonce: Nonce::generate().unwrap(),
        created: None,
        expires: Some(Time::from_seconds(99)),
    }
}

fn release(sequence: u64) -> Release {
    let image = BlobEntry {
        digest: Digest::of(b"image"),
        size: 5,
    };
    let empty = BlobEntry {
        digest: Digest::of(EMPTY),
        size: 2,
    };
    Release {
        critical: Vec::new(),
        product: PRODUCT.into(),
        channel: None,
        version: "1".into(),
        sequence,
        security_floor: None,
        expires: None,
        created: None,
        source: "registry.example/os:1".into(),
        index: vec![Descriptor {
            media_type: media_type::OCI_MANIFEST.into(),
            digest: image.digest,
            size: image.size,
            artifact_type: None,
            annotations: Default::default(),
            platform: None,
        }],
        blobs: vec![image, empty],
        omitted: Vec::new(),
        chunks: Chunks {
            size: CHUNK_BYTES,
            index: image,
        },
    }
}

type List = Signed<RevocationList>;

fn open_list(bytes: &[u8], root: &TrustRoot) -> Result<List, KeyError> {
    List::open(bytes, root, LIMITS)
}

fn open_permit(bytes: &[u8], trust: Trust<'_>) -> Result<Signed<Permit>, KeyError> {
    Signed::open(bytes, trust, LIMITS)
}

#[test]
fn only_the_role_signs() {
    let cast = cast();
    let (lists, permits) = (
        issue(&list(1), &[&cast.revoker]),
        issue(&permit(), &[&cast.releaser]),
    );
    let opened = open_list(&lists, &cast.root).unwrap();
    assert_eq!(*opened, list(1));
    assert_eq!(opened.signers(), &BTreeSet::from([id(&cast.revoker)]));
    assert!(open_permit(&permits, (&cast.root).into()).is_ok());
    for other in [&cast.boss, &cast.releaser, &key()] {
        assert!(open_list(&issue(&list(1), &[other]), &cast.root).is_err());
    }
    for other in [&cast.boss, &cast.revoker, &key()] {
        assert!(open_permit(&issue(&permit(), &[other]), (&cast.root).into()).is_err());
    }
    // One kind is never another, nor a release.
    assert!(open_list(&permits, &cast.root).is_err());
    assert!(open_permit(&lists, (&cast.root).into()).is_err());
    assert!(TrustRoot::parse(&lists, LIMITS).is_err());
    let payload = bundle_keys::Document::to_payload(&permit()).unwrap();
    let swapped = seal(media_type::IN_TOTO, &payload, &[&cast.releaser]);
    assert!(open_permit(&swapped, (&cast.root).into()).is_err());
    // Nobody revokes where the root gives nobody the role.
    let plain = root(
        &terms(&[
            (Role::Root, &[&cast.boss]),
            (Role::Release, &[&cast.releaser]),
        ]),
        &[&cast.boss],
    );
    for signer in [&cast.boss, &cast.releaser, &cast.revoker] {
        assert!(matches!(
            open_list(&issue(&list(1), &[signer]), &plain),
            Err(KeyError::NoRole {
                role: Role::Revocation
            })
        ));
    }
}

#[test]
fn scopes_bound_lists_and_permits() {
    let cast = cast();
    assert!(open_list(&issue(&list(50), &[&cast.revoker]), &cast.root).is_ok());
    for sequence in [51, u64::MAX] {
        assert!(matches!(
            open_list(&issue(&list(sequence), &[&cast.revoker]), &cast.root),
            Err(KeyError::OutOfScope { .. })
        ));
    }
    for (to, good) in [(50, true), (51, false)] {
        let wanted = Permit {
            sequence: Range { from: 3, to },
            ..permit()
        };
        let verdict = open_permit(&issue(&wanted, &[&cast.second]), (&cast.root).into());
        assert_eq!(verdict.is_ok(), good, "{to}");
    }
}

#[test]
fn lists_that_break_a_rule() {
    let cast = cast();
    let good = issue(&list(1), &[&cast.revoker]);
    let (a, b) = (id_text(b"a"), id_text(b"b"));
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    let sorted = format!(r#"["{low}","{high}"]"#);
    for (from, to) in [
        (r#""sequence":1"#, r#""sequence":0"#.to_string()),
        (r#""sequence":1"#, r#""sequence":-1"#.into()),
        (r#""sequence":1"#, r#""sequence":1,"sequence":2"#.into()),
        (
            r#""sequence":1"#,
            r#""sequence":18446744073709551616"#.into(),
        ),
        ("appliance", "toaster".into()),
        ("appliance", "../x".into()),
        (&sorted, format!(r#"["{high}","{low}"]"#)),
        (&sorted, format!(r#"["{low}","{low}"]"#)),
        (&sorted, format!(r#"["{low}","{}"]"#, "x".repeat(64))),
        (&sorted, format!(r#"["sha256:{low}","{high}"]"#)),
        (r#"{"default":7}"#, r#"{"default":0}"#.into()),
        (r#"{"default":7}"#, r#"{"Default":7}"#.into()),
        (r#"{"default":7}"#, r#"{"default":7,"default":8}"#.into()),
        (r#"{"default":7}"#, "[7]".into()),
        (r#""product""#, r#""critical":["moon"],"product""#.into()),
    ] {
        let bad = changed(&good, from, &to, &[&cast.revoker]);
        assert!(open_list(&bad, &cast.root).is_err(), "{from} -> {to}");
    }
    let unknown = changed(
        &good,
        r#""product""#,
        r#""moon":1,"product""#,
        &[&cast.revoker],
    );
    assert!(open_list(&unknown, &cast.root).is_ok());
    let many = RevocationList {
        digests: (0..10_001_u32)
            .map(|n| Digest::of(&n.to_le_bytes()))
            .collect(),
        ..RevocationList::new(PRODUCT)
    };
    assert!(bundle_keys::Document::to_payload(&many).is_err());
}

fn id_text(bytes: &[u8]) -> String {
    Digest::of(bytes).to_hex()
}

/// Row 18: a list older than the one held.
#[test]
fn lists_only_move_forward() {
    let cast = cast();
    let open = |content: &RevocationList| {
        open_list(&issue(content, &[&cast.revoker]), &cast.root).unwrap()
    };
    let held = open(&list(5));
    assert!(open(&list(6)).check_successor(&held).is_ok());
    assert!(open(&list(5)).check_successor(&held).is_ok());
    for other in [
        list(4),
        list(1),
        RevocationList {
            sequence: 5,
            ..RevocationList::new(PRODUCT)
        },
    ] {
        assert!(matches!(
            open(&other).check_successor(&held),
            Err(KeyError::OldList { held: 5, .. })
        ));
    }
}

/// Row 18: a revoked key and a revoked digest.
#[test]
fn what_was_revoked_counts_no_more() {
    let cast = cast();
    let envelope = |keys: &[&PrivateKey]| {
        let keys: Vec<_> = keys.iter().map(|key| copy(key)).collect();
        sign(media_type::IN_TOTO, b"{}".to_vec(), &keys).unwrap()
    };
    let revoked = RevocationList {
        keys: [id(&cast.releaser), id(&cast.boss), id(&cast.revoker)].into(),
        ..RevocationList::new(PRODUCT)
    };
    let free = Trust::from(&cast.root);
    let bound = Trust {
        revoked: Some(&revoked),
        ..free
    };
    let by = |trust: Trust<'_>, role, keys: &[&PrivateKey]| {
        trust.check_signatures(role, &envelope(keys))
    };
    assert!(by(free, Role::Release, &[&cast.releaser]).is_ok());
    assert!(matches!(
        by(bound, Role::Release, &[&cast.releaser]),
        Err(KeyError::RevokedKey { .. })
    ));
    let both = by(bound, Role::Release, &[&cast.releaser, &cast.second]).unwrap();
    assert_eq!(both, BTreeSet::from([id(&cast.second)]));
    // Lists cannot lock out those who appoint their signers, nor themselves.
    assert!(by(bound, Role::Root, &[&cast.boss]).is_ok());
    assert!(by(bound, Role::Revocation, &[&cast.revoker]).is_ok());
    let permits = issue(&permit(), &[&cast.releaser]);
    assert!(open_permit(&permits, free).is_ok());
    assert!(open_permit(&permits, bound).is_err());

    let (statement, signers) = (Digest::of(b"statement"), BTreeSet::from([id(&cast.second)]));
    for digest in [
        statement,
        Digest::of(b"image"),
        Digest::of(b"layer of the base"),
    ] {
        let revoked = RevocationList {
            digests: [digest].into(),
            ..RevocationList::new(PRODUCT)
        };
        let bound = Trust {
            revoked: Some(&revoked),
            ..free
        };
        let mut release = release(5);
        release.omitted = vec![Digest::of(b"layer of the base")];
        let check =
            |trust: Trust<'_>| trust.check_release(Role::Release, &release, statement, &signers);
        assert!(check(free).is_ok());
        assert!(
            matches!(check(bound), Err(KeyError::Revoked { .. })),
            "{digest}"
        );
    }
}

/// Rows 11 and 15: another product, another channel, out of scope.
#[test]
fn releases_of_others() {
    let cast = cast();
    let beta = |sequence| Release {
        critical: vec![CHANNEL.into()],
        channel: Some("beta".into()),
        ..release(sequence)
    };
    let check = |channel, release: Release| {
        let trust = Trust {
            channel,
            ..Trust::from(&cast.root)
        };
        let signers = BTreeSet::from([id(&cast.second)]);
        trust.check_release(Role::Release, &release, Digest::of(b""), &signers)
    };
    assert!(check("default", release(50)).is_ok());
    assert!(check("beta", beta(50)).is_ok());
    for (channel, other) in [("default", beta(5)), ("beta", release(5))] {
        assert!(matches!(
            check(channel, other),
            Err(KeyError::OtherChannel { .. })
        ));
    }
    for sequence in [51, u64::MAX] {
        assert!(matches!(
            check("default", release(sequence)),
            Err(KeyError::OutOfScope { .. })
        ));
    }
    let toaster = Release {
        product: "toaster".into(),
        ..release(5)
    };
    assert!(matches!(
        check("default", toaster),
        Err(KeyError::OtherProduct { .. })
    ));
}

/// Rows 13 and 14: what a permit is for, and nothing else.
#[test]
fn permits_are_narrow() {
    let statement = Digest::of(b"statement");
    let one = Permit {
        statement: Some(statement),
        ..permit()
    };
    for wanted in [permit(), one.clone()] {
        for (host, sequence) in [("host-1", 3), ("host-2", 4), ("host-1", 5)] {
            assert!(wanted.allows(host, &release(sequence), statement).is_ok());
        }
        for (host, sequence) in [("host-3", 4), ("host-1", 2), ("host-1", 6), ("", 4)] {
            assert!(wanted.allows(host, &release(sequence), statement).is_err());
        }
        let beta = Release {
            channel: Some("beta".into()),
            ..release(4)
        };
        assert!(wanted.allows("host-1", &beta, statement).is_err());
        let toaster = Release {
            product: "toaster".into(),
            ..release(4)
        };
        assert!(wanted.allows("host-1", &toaster, statement).is_err());
    }
    assert!(
        one.allows("host-1", &release(4), Digest::of(b"another"))
            .is_err()
    );
}

#[test]
fn permits_that_break_a_rule() {
    let cast = cast();
    let good = issue(&permit(), &[&cast.releaser]);
    let hosts = r#"["host-1","host-2"]"#;
    let nonce = String::from(
        Signed::<Permit>::open(&good, &cast.root, LIMITS)
            .unwrap()
            .nonce,
    );
    for (from, to) in [
        (hosts, "[]".to_string()),
        (hosts, r#"["host-2","host-1"]"#.into()),
        (hosts, r#"["host-1","host-1"]"#.into()),
        (hosts, r#"["*"]"#.into()),
        (hosts, r#"["a\u001b[2J"]"#.into()),
        (hosts, r#""host-1""#.into()),
        (r#"{"from":3,"to":5}"#, r#"{"from":5,"to":3}"#.into()),
        (r#"{"from":3,"to":5}"#, r#"{"from":0,"to":5}"#.into()),
        (r#"{"from":3,"to":5}"#, r#"{"from":3}"#.into()),
        (r#""sequence":{"from":3,"to":5},"#, String::new()),
        (&nonce, String::new()),
        (&nonce, nonce[1..].to_string()),
        (&nonce, format!("{nonce}00")),
        (&nonce, "A".repeat(32)),
        ("1970-01-01T00:01:39Z", "never".into()),
        (r#""hosts""#, r#""channel":"default","hosts""#.into()),
        (r#""hosts""#, r#""channel":"B","hosts""#.into()),
        (r#""product""#, r#""critical":["moon"],"product""#.into()),
        ("appliance", "toaster".into()),
    ] {
        let bad = changed(&good, from, &to, &[&cast.releaser]);
        let verdict = open_permit(&bad, (&cast.root).into());
        assert!(verdict.is_err(), "{from} -> {to}");
    }
    assert!(open_permit(&good, (&cast.root).into()).is_ok());
}

#[test]
fn every_flipped_bit_is_refused() {
    let cast = cast();
    let boss = terms(&[(Role::Root, &[&cast.boss]), (Role::Release, &[&cast.boss])]);
    let root_bytes = common::signed(&boss, &[&cast.boss]);
    let (lists, permits) = (
        issue(&list(1), &[&cast.revoker]),
        issue(&permit(), &[&cast.releaser]),
    );
    type Accepts<'a> = &'a dyn Fn(&[u8]) -> bool;
    let kinds: [(&[u8], Accepts<'_>); 3] = [
        (&root_bytes, &|bytes| {
            TrustRoot::parse(bytes, LIMITS).is_ok()
        }),
        (&lists, &|bytes| open_list(bytes, &cast.root).is_ok()),
        (&permits, &|bytes| {
            open_permit(bytes, (&cast.root).into()).is_ok()
        }),
    ];
    for (good, accepts) in kinds {
        assert!(accepts(good));
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.to_vec();
                bad[at] ^= 1 << bit;
                assert!(!accepts(&bad), "byte {at}, bit {bit}");
            }
        }
        for length in 0..good.len() {
            assert!(!accepts(&good[..length]), "cut to {length}");
        }
    }
}
