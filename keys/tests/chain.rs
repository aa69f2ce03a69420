//! Rotation: rows 6, 15, 16, 17 and 20, each with its positive twin.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly"
)]

mod common;

use bundle_keys::chain::{newest, walk};
use bundle_keys::{KeyError, PrivateKey, Range, Role, Scope, Terms, TrustRoot};

use common::{LIMITS, changed, id, key, next, root, scoped, signed, terms};

/// A product whose root key changes with every version.
struct Line {
    keys: Vec<PrivateKey>,
    releaser: PrivateKey,
    /// Documents, from version 1 on.
    roots: Vec<Vec<u8>>,
}

impl Line {
    fn new(versions: usize) -> Self {
        let mut line = Self {
            keys: (0..=versions).map(|_| key()).collect(),
            releaser: key(),
            roots: Vec::new(),
        };
        for version in 1..=versions {
            let signers: Vec<_> = match version {
                1 => vec![line.key(1)],
                _ => vec![line.key(version - 1), line.key(version)],
            };
            line.roots.push(signed(&line.terms(version), &signers));
        }
        line
    }

    fn key(&self, version: usize) -> &PrivateKey {
        &self.keys[version]
    }

    fn terms(&self, version: usize) -> Terms {
        let all = terms(&[
            (Role::Root, &[self.key(version)]),
            (Role::Release, &[&self.releaser]),
        ]);
        Terms {
            version: version as u64,
            ..all
        }
    }

    fn held(&self, version: usize) -> TrustRoot {
        // Held, so it was walked to before: its own keys are enough.
        TrustRoot::parse(&self.roots[version - 1], LIMITS).unwrap()
    }
}

#[test]
fn a_host_walks_to_the_newest() {
    let line = Line::new(5);
    for held in 1..=5 {
        let steps = walk(&line.held(held), &line.roots, LIMITS).unwrap();
        let versions: Vec<_> = steps.iter().map(|step| step.root.version()).collect();
        assert_eq!(versions, (held as u64 + 1..=5).collect::<Vec<_>>());
        for step in &steps {
            let kept = TrustRoot::parse(&step.bytes, LIMITS).unwrap();
            assert_eq!(kept.digest(), step.root.digest());
        }
    }
    assert_eq!(newest(&line.roots, LIMITS).unwrap().version(), 5);
    assert_eq!(newest(&line.roots[2..3], LIMITS).unwrap().version(), 3);
    assert!(newest(&[], LIMITS).is_err());
    assert!(newest(&[line.roots[0].clone(), line.roots[2].clone()], LIMITS).is_err());
    // Only what is needed, and an old medium.
    assert_eq!(
        walk(&line.held(3), &line.roots[3..], LIMITS).unwrap().len(),
        2
    );
    assert_eq!(
        walk(&line.held(5), &line.roots[..3], LIMITS).unwrap().len(),
        0
    );
    assert_eq!(walk(&line.held(5), &[], LIMITS).unwrap().len(), 0);
}

/// Row 16.
#[test]
fn a_step_needs_both_sides_and_leaves_nothing_out() {
    let line = Line::new(3);
    let held = line.held(1);
    let try_second = |signers: &[&PrivateKey]| {
        let second = signed(&line.terms(2), signers);
        walk(&held, &[line.roots[0].clone(), second], LIMITS)
    };
    assert_eq!(try_second(&[line.key(1), line.key(2)]).unwrap().len(), 1);
    for (by, signers) in [
        (2, vec![line.key(1)]),
        (1, vec![line.key(2)]),
        (1, vec![line.key(2), line.key(3)]),
        (1, vec![&line.releaser]),
    ] {
        match try_second(&signers) {
            Err(KeyError::Rotation {
                version: 2,
                by: side,
                ..
            }) => assert_eq!(side, by),
            other => panic!("{other:?}"),
        }
    }
    let gap = [line.roots[0].clone(), line.roots[2].clone()];
    assert!(matches!(
        walk(&held, &gap, LIMITS),
        Err(KeyError::Gap {
            held: 1,
            offered: 3
        })
    ));
    // Even where the host's own keys would vouch for the leap.
    let leap = signed(&line.terms(3), &[line.key(1), line.key(3)]);
    assert!(matches!(
        walk(&held, &[leap], LIMITS),
        Err(KeyError::Gap {
            held: 1,
            offered: 3
        })
    ));
}

#[test]
fn both_thresholds_count() {
    let (a, b, c, releaser) = (key(), key(), key(), key());
    let mut first = terms(&[(Role::Root, &[&a, &b]), (Role::Release, &[&releaser])]);
    first.roles.get_mut(&Role::Root).unwrap().threshold = 2;
    let held = root(&first, &[&a, &b]);
    let mut second = next(&first);
    second.add(Role::Root, c.public().unwrap());
    assert!(second.remove(Role::Root, &id(&a)));
    for (signers, good) in [
        (vec![&a, &b, &c], true),
        (vec![&a, &b], false),
        (vec![&b, &c], false),
        (vec![&a, &c], false),
        (vec![&b, &b, &b], false),
    ] {
        let document = signed(&second, &signers);
        assert_eq!(walk(&held, &[document], LIMITS).is_ok(), good);
    }
}

/// Row 17.
#[test]
fn cycles_and_endless_chains_are_refused() {
    let line = Line::new(3);
    let held = line.held(1);
    let circle: Vec<_> = line.roots.iter().chain(&line.roots).cloned().collect();
    assert!(matches!(
        walk(&held, &circle, LIMITS),
        Err(KeyError::Gap {
            held: 3,
            offered: 1
        })
    ));
    let still = vec![line.roots[1].clone(); 2];
    assert!(matches!(
        walk(&held, &still, LIMITS),
        Err(KeyError::Gap {
            held: 2,
            offered: 2
        })
    ));
    let thousand = vec![line.roots[0].clone(); 1000];
    assert!(matches!(
        walk(&held, &thousand, LIMITS),
        Err(KeyError::LongChain {
            found: 1000,
            cap: 256
        })
    ));
    let long = Line::new(258);
    assert!(walk(&long.held(1), &long.roots[..257], LIMITS).is_err());
    assert_eq!(
        walk(&long.held(1), &long.roots[1..257], LIMITS)
            .unwrap()
            .len(),
        256
    );
    // A host that is further behind goes in two walks.
    let half = walk(&long.held(1), &long.roots[1..129], LIMITS).unwrap();
    let middle = &half.last().unwrap().root;
    assert_eq!(walk(middle, &long.roots[129..], LIMITS).unwrap().len(), 129);
}

/// Row 20.
#[test]
fn what_does_not_come_from_the_hosts_root_is_never_taken() {
    let (line, stranger) = (Line::new(3), Line::new(3));
    let held = line.held(1);
    // The stranger's whole line, and its tail.
    assert!(matches!(
        walk(&held, &stranger.roots, LIMITS),
        Err(KeyError::Fork { version: 1 })
    ));
    assert!(matches!(
        walk(&held, &stranger.roots[1..], LIMITS),
        Err(KeyError::Rotation {
            version: 2,
            by: 1,
            ..
        })
    ));
    // A line that leaves ours later: nothing of it is taken, the good step neither.
    let mixed = [line.roots[1].clone(), stranger.roots[2].clone()];
    assert!(matches!(
        walk(&held, &mixed, LIMITS),
        Err(KeyError::Rotation {
            version: 3,
            by: 2,
            ..
        })
    ));
    let other = changed(
        &line.roots[1],
        "appliance",
        "toaster",
        &[line.key(1), line.key(2)],
    );
    for chain in [vec![other.clone()], vec![line.roots[1].clone(), other]] {
        let refused = walk(&held, &chain, LIMITS);
        assert!(refused.is_err(), "{refused:?}");
    }
    assert!(matches!(
        walk(&held, &[line.roots[0].clone(), b"{}".to_vec()], LIMITS),
        Err(KeyError::InChain { position: 2, .. })
    ));
}

/// More signatures on a root that is held do not make it another one.
#[test]
fn the_same_root_with_more_signatures_is_the_same() {
    let line = Line::new(2);
    let held = line.held(1);
    let more = signed(&line.terms(1), &[line.key(1), line.key(2)]);
    assert_ne!(more, line.roots[0]);
    assert_eq!(
        walk(&held, &[more, line.roots[1].clone()], LIMITS)
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn the_last_version_has_no_successor() {
    let line = Line::new(1);
    let last = Terms {
        version: u64::MAX,
        ..line.terms(1)
    };
    let held = root(&last, &[line.key(1)]);
    for version in [0, 1] {
        let from = format!(r#""version":{}"#, u64::MAX);
        let again = changed(
            &signed(&last, &[line.key(1)]),
            &from,
            &format!(r#""version":{version}"#),
            &[line.key(1)],
        );
        let steps = walk(&held, &[again], LIMITS);
        assert!(steps.is_err() || steps.unwrap().is_empty(), "{version}");
    }
}

/// Row 15: recovery from a sequence that was signed by mistake or by a thief.
#[test]
fn a_new_root_puts_a_sequence_out_of_reach() {
    let (boss, releaser) = (key(), key());
    let first = terms(&[(Role::Root, &[&boss]), (Role::Release, &[&releaser])]);
    let held = root(&first, &[&boss]);
    let reaches = |root: &TrustRoot, n| root.reaches(Role::Release, Some("default"), n);
    assert!(reaches(&held, u64::MAX) && reaches(&held, 8));
    let scope = Scope {
        channels: None,
        sequence: Some(Range { from: 8, to: 9999 }),
    };
    let second = signed(&scoped(next(&first), &releaser, scope), &[&boss]);
    let steps = walk(&held, &[second], LIMITS).unwrap();
    let newest = &steps.last().unwrap().root;
    assert!(!reaches(newest, u64::MAX), "the host may forget it");
    assert!(reaches(newest, 8) && !reaches(newest, 7));
}
