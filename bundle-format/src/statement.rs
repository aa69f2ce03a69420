//! The release statement: what a release is and every blob that belongs to it (SPEC 4.2).
//!
//! Threats: a statement for something else, numbers and lists that lie, text that travels into a
//! terminal or a path. Defences: type and predicate are fixed strings; lists are capped and
//! cross-checked here, once; product, version and reference have a narrow alphabet.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::chunk::{CHUNK_BYTES, chunk_count};
use crate::json::{self, JsonError};
use crate::manifest::is_document;
use crate::{Descriptor, Digest, Limits, Time};

/// `_type` of every statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// `predicateType` of release statements.
pub const PREDICATE_TYPE: &str = "urn:bundle:release:v1";

/// Name of the member `omitted` in `critical`.
pub const OMITTED: &str = "omitted";
/// Name of the member `channel` in `critical`.
pub const CHANNEL: &str = "channel";
/// Name of the member `expires` in `critical`.
pub const EXPIRES: &str = "expires";

/// The channel of releases that name none.
pub const DEFAULT_CHANNEL: &str = "default";

/// What one bundle delivers, as its signers state it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Members a reader has to know; others that it does not know it ignores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub critical: Vec<String>,
    /// The product, as in the trust root: 1 to 64 of `a-z 0-9 . _ -`.
    pub product: String,
    /// Channel of the product, where it is not the default one: 1 to 32 of `a-z 0-9 . _ -`.
    ///
    /// Named in `critical`: a reader that does not know channels must not take it for a release of
    /// the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Version for people: 1 to 128 of `A-Z a-z 0-9 . _ - + ~ :`.
    pub version: String,
    /// Position in the product's order of releases, from 1. Only this number decides what is newer.
    pub sequence: u64,
    /// The lowest sequence that its signers still hold secure; at most this release's own.
    #[serde(
        default,
        rename = "security-floor",
        skip_serializing_if = "Option::is_none"
    )]
    pub security_floor: Option<u64>,
    /// When hosts stop accepting it. Named in `critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// When the image was made, RFC 3339, copied from the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Registry reference the image came from and hosts go on following, `HOST/REPOSITORY:TAG`.
    pub source: String,
    /// Every descriptor of `index.json` but the release's own, in order; the first is the image.
    pub index: Vec<Descriptor>,
    /// Every blob that neither this list nor its envelope describes itself, in reading order.
    pub blobs: Vec<BlobEntry>,
    /// Layers that manifests of the bundle name and the bundle does not hold, for its deltas make them.
    ///
    /// `critical` names this member where it is not empty: a reader that does not know it would take
    /// the bundle for damaged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<Digest>,
    /// The chunk index over `blobs`.
    pub chunks: Chunks,
}

/// A blob of the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobEntry {
    /// Digest of the stored bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// Names the chunk index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunks {
    /// Bytes a chunk; 1,048,576 in this version.
    pub size: u64,
    /// The blob that holds the index.
    pub index: BlobEntry,
}

/// Says why a payload is not a release statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// Not JSON, or not the members of a statement.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A member has a value that SPEC 4.2 does not allow.
    #[error("{member} {problem}")]
    Member {
        /// The member's name.
        member: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(rename = "_type")]
    statement_type: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Release,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: BTreeMap<String, String>,
}

const fn member(member: &'static str, problem: String) -> StatementError {
    StatementError::Member { member, problem }
}

impl Release {
    /// Parses and checks the payload of a release envelope.
    ///
    /// # Errors
    /// Fails on every breach of SPEC 4.2; nothing of a statement that breaks one rule is used.
    pub fn parse(payload: &[u8], limits: &Limits) -> Result<Self, StatementError> {
        let wire: Wire = json::parse(payload, limits)?;
        if wire.statement_type != STATEMENT_TYPE {
            return Err(member("_type", alloc::format!("is not {STATEMENT_TYPE}")));
        }
        if wire.predicate_type != PREDICATE_TYPE {
            return Err(member(
                "predicateType",
                alloc::format!("is not {PREDICATE_TYPE}"),
            ));
        }
        let release = wire.predicate;
        release.check(limits)?;
        let expected = release.subject();
        match wire.subject.as_slice() {
            [one] if one.name == expected.name && one.digest == expected.digest => Ok(release),
            _ => Err(member("subject", "is not the image alone".to_string())),
        }
    }

    /// Serialises the release as an in-toto Statement; equal releases give equal bytes.
    ///
    /// # Errors
    /// Fails where [`Release::parse`] would refuse the result.
    pub fn to_json(&self, limits: &Limits) -> Result<Vec<u8>, StatementError> {
        self.check(limits)?;
        Ok(crate::to_json(&Wire {
            statement_type: STATEMENT_TYPE.to_string(),
            subject: [self.subject()].into(),
            predicate_type: PREDICATE_TYPE.to_string(),
            predicate: self.clone(),
        }))
    }

    /// Returns the descriptor of the image: a manifest or an image index.
    pub fn image(&self) -> Option<&Descriptor> {
        self.index.first()
    }

    /// Returns the channel, also where the statement names none.
    pub fn channel(&self) -> &str {
        self.channel.as_deref().unwrap_or(DEFAULT_CHANNEL)
    }

    /// Sums the sizes of all blobs, in bytes.
    pub fn total_size(&self) -> u64 {
        self.blobs
            .iter()
            .fold(0, |sum, blob| sum.saturating_add(blob.size))
    }

    fn subject(&self) -> Subject {
        let digest = self
            .image()
            .map(|image| ("sha256".to_string(), image.digest.to_hex()));
        Subject {
            name: self.source.clone(),
            digest: digest.into_iter().collect(),
        }
    }

    fn check(&self, limits: &Limits) -> Result<(), StatementError> {
        json::check_critical(
            &self.critical,
            &[
                (CHANNEL, self.channel.is_some()),
                (EXPIRES, self.expires.is_some()),
                (OMITTED, !self.omitted.is_empty()),
            ],
        )?;
        check_product(&self.product).map_err(|problem| member("product", problem))?;
        check_version(&self.version).map_err(|problem| member("version", problem))?;
        check_text(&self.source, 512, "-._+/:@").map_err(|problem| member("source", problem))?;
        if let Some(created) = &self.created {
            check_text(created, 40, "-+:.").map_err(|problem| member("created", problem))?;
        }
        if let Some(channel) = &self.channel {
            check_channel(channel).map_err(|problem| member(CHANNEL, problem))?;
            if channel == DEFAULT_CHANNEL {
                return Err(member(CHANNEL, "names the default channel".to_string()));
            }
        }
        if self.sequence == 0 {
            return Err(member("sequence", "is 0".to_string()));
        }
        if let Some(floor) = self.security_floor
            && (floor == 0 || floor > self.sequence)
        {
            let problem = alloc::format!("is {floor}, and the sequence {}", self.sequence);
            return Err(member("security-floor", problem));
        }
        if self.index.is_empty() || self.index.len() > limits.descriptors {
            return Err(member(
                "index",
                alloc::format!("has {} descriptors", self.index.len()),
            ));
        }
        if self.blobs.len() > limits.blobs {
            return Err(member(
                "blobs",
                alloc::format!("has {} entries", self.blobs.len()),
            ));
        }
        self.check_blobs(limits)
    }

    fn check_blobs(&self, limits: &Limits) -> Result<(), StatementError> {
        let mut sizes = BTreeMap::new();
        let mut chunks = 0_u64;
        for blob in &self.blobs {
            if sizes.insert(blob.digest, blob.size).is_some() {
                return Err(member(
                    "blobs",
                    alloc::format!("lists {} twice", blob.digest),
                ));
            }
            chunks = chunks.saturating_add(chunk_count(blob.size));
        }
        if !sizes.contains_key(&Digest::of(crate::layout::EMPTY)) {
            return Err(member(
                "blobs",
                "does not list the empty descriptor".to_string(),
            ));
        }
        if self.chunks.size != CHUNK_BYTES {
            return Err(member(
                "chunks",
                alloc::format!("has size {}", self.chunks.size),
            ));
        }
        if chunks.checked_mul(32) != Some(self.chunks.index.size)
            || self.chunks.index.size > limits.chunk_index_bytes
        {
            return Err(member(
                "chunks",
                "index size does not fit the blobs".to_string(),
            ));
        }
        if sizes.contains_key(&self.chunks.index.digest) && self.chunks.index.size > 0 {
            return Err(member("blobs", "lists the chunk index".to_string()));
        }
        self.check_omitted(limits, &sizes)?;
        let mut seen = BTreeSet::new();
        for entry in &self.index {
            if sizes.get(&entry.digest) != Some(&entry.size) {
                let problem = alloc::format!("names {}, which blobs does not list", entry.digest);
                return Err(member("index", problem));
            }
            if !is_document(&entry.media_type) {
                let problem = alloc::format!("names {} as no manifest or index", entry.digest);
                return Err(member("index", problem));
            }
            if entry.artifact_type.as_deref() == Some(crate::media_type::RELEASE) {
                return Err(member("index", "lists a release statement".to_string()));
            }
            if !seen.insert((
                entry.digest,
                entry.annotations.get(crate::media_type::REF_NAME),
            )) {
                return Err(member(
                    "index",
                    alloc::format!("lists {} twice", entry.digest),
                ));
            }
        }
        Ok(())
    }

    fn check_omitted(
        &self,
        limits: &Limits,
        sizes: &BTreeMap<Digest, u64>,
    ) -> Result<(), StatementError> {
        let omitted = |problem: String| member(OMITTED, problem);
        if self.omitted.len() > limits.descriptors {
            return Err(omitted(alloc::format!(
                "has {} digests",
                self.omitted.len()
            )));
        }
        if !self.omitted.is_sorted_by(|a, b| a < b) {
            return Err(omitted("is not sorted".to_string()));
        }
        match self
            .omitted
            .iter()
            .find(|digest| sizes.contains_key(digest))
        {
            Some(digest) => Err(omitted(alloc::format!("lists {digest}, as blobs does"))),
            None => Ok(()),
        }
    }
}

/// Checks a product name: 1 to 64 of `a-z 0-9 . _ -`, starting with a letter or digit.
///
/// # Errors
/// Returns what is wrong, to be put behind the name of the thing.
pub fn check_product(name: &str) -> Result<(), String> {
    check_text(name, 64, "-._")?;
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(alloc::format!("{name:?} has upper-case letters"));
    }
    Ok(())
}

/// Checks the name of a channel: 1 to 32 of `a-z 0-9 . _ -`, starting with a letter or digit.
///
/// # Errors
/// Returns what is wrong, to be put behind the name of the thing.
pub fn check_channel(name: &str) -> Result<(), String> {
    check_product(name)?;
    check_text(name, 32, "-._")
}

/// Checks a version: 1 to 128 of `A-Z a-z 0-9 . _ - + ~ :`, starting with a letter or digit.
///
/// # Errors
/// Returns what is wrong, to be put behind the name of the thing.
pub fn check_version(version: &str) -> Result<(), String> {
    check_text(version, 128, "-._+~:")
}

fn check_text(text: &str, longest: usize, punctuation: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > longest {
        return Err(alloc::format!(
            "has {} characters, 1 to {longest} are allowed",
            text.len()
        ));
    }
    let bad = |c: &char| !c.is_ascii_alphanumeric() && !punctuation.contains(*c);
    if let Some(c) = text.chars().find(bad) {
        return Err(alloc::format!("has the character {c:?}"));
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Err(alloc::format!(
            "{text:?} does not start with a letter or digit"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media_type;

    fn sample() -> Release {
        let image = BlobEntry {
            digest: Digest::of(b"image"),
            size: 5,
        };
        Release {
            critical: Vec::new(),
            product: "appliance".into(),
            channel: None,
            version: "1.2.3".into(),
            sequence: 7,
            security_floor: None,
            expires: None,
            created: Some("2026-01-01T00:00:00Z".into()),
            source: "registry.example:5000/os/appliance:1.2.3".into(),
            index: [Descriptor {
                media_type: media_type::OCI_MANIFEST.into(),
                digest: image.digest,
                size: image.size,
                artifact_type: None,
                annotations: [(media_type::REF_NAME.into(), "1.2.3".into())].into(),
                platform: None,
            }]
            .into(),
            blobs: [
                image,
                BlobEntry {
                    digest: Digest::of(b"layer"),
                    size: 3 << 20,
                },
                BlobEntry {
                    digest: Digest::of(crate::layout::EMPTY),
                    size: 2,
                },
            ]
            .into(),
            omitted: Vec::new(),
            chunks: Chunks {
                size: CHUNK_BYTES,
                index: BlobEntry {
                    digest: Digest::of(b"chunks"),
                    size: 5 * 32,
                },
            },
        }
    }

    fn set_channel(release: &mut Release, name: &str) {
        release.critical = [CHANNEL.into()].into();
        release.channel = Some(name.into());
    }

    #[test]
    fn a_release_survives_the_round_trip() {
        let bytes = sample().to_json(&Limits::DEFAULT).unwrap();
        assert_eq!(Release::parse(&bytes, &Limits::DEFAULT), Ok(sample()));
        assert_eq!(sample().channel(), DEFAULT_CHANNEL);
        let mut full = sample();
        set_channel(&mut full, "beta");
        full.critical.push(EXPIRES.into());
        full.expires = Some(Time::from_seconds(1));
        full.security_floor = Some(7);
        let bytes = full.to_json(&Limits::DEFAULT).unwrap();
        assert_eq!(Release::parse(&bytes, &Limits::DEFAULT), Ok(full.clone()));
        assert_eq!(full.channel(), "beta");
    }

    #[test]
    fn critical_names_what_is_there_and_nothing_else() {
        let refuse: &[fn(&mut Release)] = &[
            |r| r.channel = Some("beta".into()),
            |r| r.expires = Some(Time::from_seconds(1)),
            |r| r.omitted = [Digest::of(b"layer of the base")].into(),
            |r| r.critical = [CHANNEL.into()].into(),
            |r| r.critical = [EXPIRES.into()].into(),
            |r| r.critical = [OMITTED.into()].into(),
            |r| r.critical = ["moon".into()].into(),
            |r| {
                set_channel(r, "beta");
                r.critical.push(CHANNEL.into());
            },
        ];
        for (number, breach) in refuse.iter().enumerate() {
            let mut release = sample();
            breach(&mut release);
            assert!(
                matches!(
                    release.check(&Limits::DEFAULT),
                    Err(StatementError::Json(_))
                ),
                "case {number}"
            );
        }
    }

    #[test]
    fn every_rule_refuses_its_breach() {
        type Breach = (&'static str, fn(&mut Release));
        let breaches: &[Breach] = &[
            ("product", |r| r.product = "Upper".into()),
            ("product", |r| r.product = String::new()),
            ("version", |r| r.version = "1\u{1b}[2J".into()),
            ("version", |r| r.version = "../1".into()),
            ("sequence", |r| r.sequence = 0),
            ("security-floor", |r| r.security_floor = Some(0)),
            ("security-floor", |r| r.security_floor = Some(8)),
            ("channel", |r| set_channel(r, "Beta")),
            ("channel", |r| set_channel(r, "../x")),
            ("channel", |r| set_channel(r, &"x".repeat(33))),
            ("channel", |r| set_channel(r, DEFAULT_CHANNEL)),
            ("source", |r| r.source = "a b".into()),
            ("index", |r| r.index.clear()),
            ("index", |r| r.index[0].size += 1),
            ("index", |r| r.index[0].media_type = "text/plain".into()),
            ("index", |r| r.index.push(r.index[0].clone())),
            ("index", |r| {
                r.index[0].artifact_type = Some(media_type::RELEASE.into())
            }),
            ("blobs", |r| r.blobs.push(r.blobs[0])),
            ("blobs", |r| {
                r.blobs.pop();
            }),
            ("blobs", |r| r.blobs[1].digest = r.chunks.index.digest),
            ("chunks", |r| r.chunks.size = 4096),
            ("chunks", |r| r.chunks.index.size += 32),
            ("chunks", |r| r.blobs[1].size = u64::MAX),
        ];
        for (name, breach) in breaches {
            let mut release = sample();
            breach(&mut release);
            match release.check(&Limits::DEFAULT) {
                Err(StatementError::Member { member, .. }) => assert_eq!(member, *name),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn omitted_layers_are_named_as_critical_and_not_carried() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let (first, second) = if a < b { (a, b) } else { (b, a) };
        let critical = || alloc::vec![OMITTED.to_string()];
        let carried = Digest::of(b"layer");
        for (name, critical, omitted, good) in [
            ("sound", critical(), alloc::vec![first, second], true),
            ("none", Vec::new(), Vec::new(), true),
            ("not critical", Vec::new(), alloc::vec![first], false),
            ("critical, and none", critical(), Vec::new(), false),
            ("not sorted", critical(), alloc::vec![second, first], false),
            ("twice", critical(), alloc::vec![first, first], false),
            ("carried as well", critical(), alloc::vec![carried], false),
        ] {
            let mut release = sample();
            (release.critical, release.omitted) = (critical, omitted);
            let json = release.to_json(&Limits::DEFAULT);
            assert_eq!(json.is_ok(), good, "{name}: {json:?}");
            if let Ok(json) = json {
                assert_eq!(
                    Release::parse(&json, &Limits::DEFAULT),
                    Ok(release),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn other_statements_are_refused() {
        let good = String::from_utf8(sample().to_json(&Limits::DEFAULT).unwrap()).unwrap();
        for bad in [
            good.replace(PREDICATE_TYPE, "https://slsa.dev/provenance/v1"),
            good.replace("Statement/v1", "Statement/v0.1"),
            good.replacen(
                &Digest::of(b"image").to_hex(),
                &Digest::of(b"x").to_hex(),
                1,
            ),
            good.replace(r#""product""#, r#""critical":["moon"],"product""#),
            good.replace(r#""sequence":7"#, r#""sequence":18446744073709551616"#),
            good.replace(r#""sequence":7"#, r#""sequence":7,"sequence":8"#),
            good.replace(r#""sequence":7"#, r#""sequence":-1"#),
        ] {
            assert_ne!(bad, good);
            assert!(
                Release::parse(bad.as_bytes(), &Limits::DEFAULT).is_err(),
                "{bad}"
            );
        }
        let unknown = good.replace(r#""product""#, r#""moon":1,"product""#);
        assert!(Release::parse(unknown.as_bytes(), &Limits::DEFAULT).is_ok());
    }
}
