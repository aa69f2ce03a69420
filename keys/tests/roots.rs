//! Trust roots: scopes, expiry, critical members, drafts, and whether keys are counted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail loudly"
)]

mod common;

use std::collections::BTreeSet;

use bundle_format::{Time, media_type};
use bundle_keys::{Draft, KeyError, Range, Role, Scope, TrustRoot, sign};

use common::{LIMITS, changed, copy, id, key, root, scoped, signed, terms};

fn range(from: u64, to: u64) -> Option<Range> {
    Some(Range { from, to })
}

fn scope(channels: &[&str], sequence: Option<Range>) -> Scope {
    let names: BTreeSet<_> = channels.iter().map(ToString::to_string).collect();
    Scope {
        channels: Some(names).filter(|names| !names.is_empty()),
        sequence,
    }
}

#[test]
fn a_root_survives_the_round_trip() {
    let (boss, releaser) = (key(), key());
    let mut wanted = terms(&[(Role::Root, &[&boss]), (Role::Release, &[&releaser])]);
    wanted.created = Some(Time::from_seconds(1_767_323_045));
    wanted.expires = Some(Time::from_seconds(1_800_000_000));
    let wanted = scoped(wanted, &releaser, scope(&["beta", "default"], range(1, 9)));
    let read = root(&wanted, &[&boss]);
    assert_eq!(read.terms(), &wanted);
    assert_eq!(read.expires(), wanted.expires);
    // What follows from the same terms and keys are the same bytes.
    assert_eq!(signed(&wanted, &[&boss]), signed(&wanted, &[&boss]));
}

#[test]
fn scopes_and_times_that_are_none() {
    let (boss, releaser) = (key(), key());
    let mut good = terms(&[(Role::Root, &[&boss]), (Role::Release, &[&releaser])]);
    good.created = Some(Time::from_seconds(1));
    good.expires = Some(Time::from_seconds(2));
    let good = scoped(good, &releaser, scope(&["beta"], range(2, 9)));
    let good = signed(&good, &[&boss]);
    let sequence = r#""sequence":{"from":2,"to":9}"#;
    for (from, to) in [
        // Restrictions that are none, or that this version cannot keep.
        (r#""channels":["beta"],"#, r#""channels":[],"#),
        (r#""channels":["beta"],"#, r#""channels":["Beta"],"#),
        (r#""channels":["beta"],"#, r#""channels":["beta","beta"],"#),
        (r#""channels":["beta"],"#, r#""channels":["*"],"#),
        (
            r#""channels":["beta"],"#,
            r#""channels":["beta"],"countries":["de"],"#,
        ),
        (
            r#"{"channels":["beta"],"sequence":{"from":2,"to":9}}"#,
            "{}",
        ),
        (sequence, r#""sequence":{"from":0,"to":9}"#),
        (sequence, r#""sequence":{"from":10,"to":9}"#),
        (sequence, r#""sequence":{"from":2}"#),
        (sequence, r#""sequence":{"from":2,"to":9,"step":2}"#),
        (sequence, r#""sequence":{"from":-2,"to":9}"#),
        (
            sequence,
            r#""sequence":{"from":2,"to":18446744073709551616}"#,
        ),
        (sequence, r#""sequence":[2,9]"#),
        // Times in another spelling.
        ("1970-01-01T00:00:02Z", "1970-01-01T00:00:02+00:00"),
        ("1970-01-01T00:00:02Z", "tomorrow"),
        ("1970-01-01T00:00:01Z", "1970-01-01"),
        // What readers have to understand, and the list that says so.
        (r#""critical":["expires","scope"],"#, ""),
        (r#"["expires","scope"]"#, r#"["expires"]"#),
        (r#"["expires","scope"]"#, r#"["scope"]"#),
        (r#"["expires","scope"]"#, r#"["expires","scope","scope"]"#),
        (r#"["expires","scope"]"#, r#"["expires","moon","scope"]"#),
        (r#","expires":"1970-01-01T00:00:02Z""#, ""),
        // Members twice, and too deep.
        (r#""version":1"#, r#""version":1,"version":2"#),
        (r#""version":1"#, r#""version":1,"versio\u006e":2"#),
        (r#""version":1"#, r#""version":18446744073709551616"#),
    ] {
        let bad = changed(&good, from, to, &[&boss]);
        assert!(TrustRoot::parse(&bad, LIMITS).is_err(), "{from} -> {to}");
    }
    let same = changed(&good, sequence, sequence, &[&boss]);
    assert_eq!(same, good);
    assert!(TrustRoot::parse(&good, LIMITS).is_ok());
}

#[test]
fn a_scope_is_for_roles_it_means_something_in() {
    let (boss, releaser) = (key(), key());
    for role in Role::ALL {
        let mut all = terms(&[(Role::Root, &[&boss]), (Role::Release, &[&releaser])]);
        let other = key();
        all.add(role, other.public().unwrap());
        let all = scoped(all, &other, scope(&[], range(1, 9)));
        assert_eq!(Draft::new(all).is_ok(), role.has_scope(), "{role}");
    }
}

/// Row 15: a sequence that would end a product, signed by a key that may not sign it.
#[test]
fn scopes_bound_what_counts() {
    let (boss, bounded, free) = (key(), key(), key());
    let wanted = terms(&[(Role::Root, &[&boss]), (Role::Release, &[&bounded, &free])]);
    let mut wanted = scoped(wanted, &bounded, scope(&["beta"], range(5, 100)));
    let signers = BTreeSet::from([id(&bounded), id(&free)]);
    for (threshold, channel, sequence, good) in [
        (2, "beta", 5, true),
        (2, "beta", 100, true),
        (2, "beta", 4, false),
        (2, "beta", 101, false),
        (2, "beta", u64::MAX, false),
        (2, "default", 5, false),
        (1, "default", 5, true),
        (1, "beta", u64::MAX, true),
    ] {
        wanted.roles.get_mut(&Role::Release).unwrap().threshold = threshold;
        let root = root(&wanted, &[&boss]);
        let verdict = root.in_scope(Role::Release, &signers, Some(channel), sequence);
        assert_eq!(verdict.is_ok(), good, "{threshold} {channel} {sequence}");
        let reached = root.reaches(Role::Release, Some(channel), sequence);
        assert_eq!(reached, good, "{threshold} {channel} {sequence}");
        // Whoever has no role is nobody, whatever a caller says.
        let strangers = BTreeSet::from([id(&boss), id(&key())]);
        let verdict = root.in_scope(Role::Release, &strangers, Some(channel), sequence);
        assert!(matches!(
            verdict,
            Err(KeyError::OutOfScope { found: 0, .. })
        ));
    }
}

/// Rows 4 and 5: thresholds count keys, by their material.
#[test]
fn one_key_counts_once() {
    let (one, two) = (key(), key());
    let mut wanted = terms(&[(Role::Root, &[&one]), (Role::Release, &[&one, &two])]);
    wanted.roles.get_mut(&Role::Release).unwrap().threshold = 2;
    let root = root(&wanted, &[&one]);
    let by = |keys: &[&bundle_keys::PrivateKey]| {
        let keys: Vec<_> = keys.iter().map(|key| copy(key)).collect();
        sign(media_type::IN_TOTO, b"{}".to_vec(), &keys).unwrap()
    };
    let check = |envelope| root.check_signatures(Role::Release, &envelope);
    assert!(check(by(&[&one, &two])).is_ok());
    assert!(matches!(
        check(by(&[&one, &one])),
        Err(KeyError::Threshold { found: 1, .. })
    ));
    let mut twice = by(&[&one]);
    twice
        .signatures
        .extend(vec![twice.signatures[0].clone(); 30]);
    assert!(matches!(
        check(twice),
        Err(KeyError::Threshold { found: 1, .. })
    ));
    // Under another name it is nobody's signature.
    let mut renamed = by(&[&one]);
    let mut other = renamed.signatures[0].clone();
    other.keyid = bundle_format::Digest::of(b"another name");
    renamed.signatures.push(other);
    assert!(matches!(
        check(renamed),
        Err(KeyError::Threshold { found: 1, .. })
    ));
    // Under the name of another key of the role it is a forgery.
    let mut forged = by(&[&one]);
    let mut other = forged.signatures[0].clone();
    other.keyid = id(&two);
    forged.signatures.push(other);
    assert!(matches!(check(forged), Err(KeyError::BadSignature { .. })));
    for threshold in [0, 3, usize::MAX] {
        wanted.roles.get_mut(&Role::Release).unwrap().threshold = threshold;
        assert!(Draft::new(wanted.clone()).is_err(), "{threshold}");
    }
}

#[test]
fn drafts_collect_signatures() {
    let (one, two, releaser) = (key(), key(), key());
    let mut wanted = terms(&[(Role::Root, &[&one, &two]), (Role::Release, &[&releaser])]);
    wanted.roles.get_mut(&Role::Root).unwrap().threshold = 2;
    let mut draft = Draft::new(wanted).unwrap();
    let lacks = |draft: &Draft| draft.clone().finish().unwrap_err().lacks_signatures();
    assert!(lacks(&draft));
    draft.sign(&one).unwrap();
    draft.sign(&one).unwrap();
    draft.sign(&releaser).unwrap();
    assert_eq!(draft.envelope().signatures.len(), 2);
    assert!(lacks(&draft));
    assert!(TrustRoot::parse(&draft.to_json(), LIMITS).is_err());
    let content = draft.content();
    let mut draft = Draft::parse(&draft.to_json(), LIMITS).unwrap();
    draft.sign(&two).unwrap();
    assert_eq!(draft.content(), content);
    let root = TrustRoot::parse(&draft.to_json(), LIMITS).unwrap();
    assert_eq!(root.content(), content);
}

#[test]
fn removing_a_key_leaves_nothing_of_it() {
    let (one, two) = (key(), key());
    let mut wanted = terms(&[
        (Role::Root, &[&one]),
        (Role::Release, &[&one, &two]),
        (Role::Evidence, &[&two]),
    ]);
    assert!(!wanted.remove(Role::Root, &id(&two)));
    assert!(wanted.remove(Role::Release, &id(&two)));
    assert!(wanted.keys.contains_key(&id(&two)));
    assert!(wanted.remove(Role::Evidence, &id(&two)));
    assert!(!wanted.keys.contains_key(&id(&two)));
    assert!(!wanted.roles.contains_key(&Role::Evidence));
    assert!(Draft::new(wanted).is_ok());
}

#[test]
fn another_spelling_of_the_envelope_is_refused() {
    let one = key();
    let good = signed(
        &terms(&[(Role::Root, &[&one]), (Role::Release, &[&one])]),
        &[&one],
    );
    assert!(TrustRoot::parse(&good, LIMITS).is_ok());
    let text = String::from_utf8(good).unwrap();
    for other in [
        format!("{text}\n"),
        text.replacen(':', ": ", 1),
        text.replacen("application/", r"application\/", 1),
    ] {
        assert!(matches!(
            TrustRoot::parse(other.as_bytes(), LIMITS),
            Err(KeyError::Spelling)
        ));
    }
}
