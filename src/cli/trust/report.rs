//! What `bundle trust` says about documents, for people and for programs.

use std::collections::BTreeMap;

use bundle::exit::ExitStatus;
use bundle_format::dsse::Envelope;
use bundle_format::{Digest, Time};
use bundle_keys::{Draft, Permit, Range, RevocationList, Role, Scope};
use serde::Serialize;

use crate::cli::output::{Output, table};

#[derive(Serialize)]
struct RootReport {
    product: String,
    version: u64,
    digest: String,
    created: Option<Time>,
    expires: Option<Time>,
    roles: BTreeMap<Role, RoleReport>,
    keys: BTreeMap<String, String>,
    scopes: BTreeMap<String, ScopeReport>,
    signers: Vec<String>,
    missing: Option<String>,
}

#[derive(Serialize)]
struct RoleReport {
    threshold: usize,
    keyids: Vec<String>,
}

#[derive(Serialize)]
struct ScopeReport {
    channels: Option<Vec<String>>,
    sequence: Option<Range>,
}

/// Prints a trust root, also one that is not signed by enough yet.
pub(super) fn root(draft: &Draft, missing: Option<&str>, output: &Output) {
    let terms = draft.terms();
    let report = RootReport {
        product: terms.product.clone(),
        version: terms.version,
        digest: Digest::of(&draft.to_json()).to_string(),
        created: terms.created,
        expires: terms.expires,
        roles: terms
            .roles
            .iter()
            .map(|(role, listed)| {
                let report = RoleReport {
                    threshold: listed.threshold,
                    keyids: listed.keyids.iter().map(Digest::to_hex).collect(),
                };
                (*role, report)
            })
            .collect(),
        keys: terms
            .keys
            .iter()
            .map(|(id, key)| (id.to_hex(), key.public.to_base64()))
            .collect(),
        scopes: terms
            .keys
            .iter()
            .filter_map(|(id, key)| Some((id.to_hex(), scope(key.scope.as_ref()?))))
            .collect(),
        signers: signers(draft.envelope()),
        missing: missing.map(Into::into),
    };
    let roles = report.roles.iter().map(|(role, listed)| {
        let of = format!("{} of {} keys", listed.threshold, listed.keyids.len());
        (
            format!("Role {role}"),
            format!("{of}: {}", listed.keyids.join(", ")),
        )
    });
    let scopes = terms.keys.iter().filter_map(|(id, key)| {
        let scope = key.scope.as_ref()?;
        Some(("Scope".to_string(), format!("{}: {scope}", id.to_hex())))
    });
    let mut rows = vec![
        ("Product".to_string(), report.product.clone()),
        ("Version".into(), report.version.to_string()),
        ("Fingerprint".into(), report.digest.clone()),
    ];
    rows.extend(time("Created", report.created));
    rows.extend(time("Expires", report.expires));
    rows.extend(roles.chain(scopes));
    rows.extend(signed(&report.signers, missing));
    output.result("bundle.trust-root.v1", &report, &lines(&rows));
}

/// What is known about the signatures of a revocation list or permit.
#[derive(Serialize)]
pub(super) struct Standing {
    /// Digest of what was signed.
    pub(super) statement: String,
    /// Key ids that the envelope names; those that count, once it was verified.
    pub(super) signers: Vec<String>,
    /// True once the signatures were checked against a trust root and are enough.
    pub(super) verified: bool,
    /// What is missing, where signatures were counted and are too few.
    pub(super) missing: Option<String>,
}

impl Standing {
    /// Tells what an envelope claims, which nobody checked.
    pub(super) fn claimed(envelope: &Envelope) -> Self {
        Self {
            statement: Digest::of(&envelope.payload).to_string(),
            signers: signers(envelope),
            verified: false,
            missing: None,
        }
    }

    /// Tells what came out of counting.
    pub(super) fn counted(envelope: &Envelope, missing: Option<String>) -> Self {
        Self {
            verified: missing.is_none(),
            missing,
            ..Self::claimed(envelope)
        }
    }

    fn rows(&self) -> Vec<(String, String)> {
        let mut rows = vec![("Statement".into(), self.statement.clone())];
        rows.extend(signed(&self.signers, self.missing.as_deref()));
        if self.missing.is_none() {
            let verdict = match self.verified {
                true => "yes: signed by keys of the trust root",
                false => "no: `bundle trust verify` does",
            };
            rows.push(("Verified".into(), verdict.into()));
        }
        rows
    }
}

#[derive(Serialize)]
struct ListReport<'a> {
    product: &'a str,
    sequence: u64,
    created: Option<Time>,
    keys: Vec<String>,
    digests: Vec<String>,
    floors: &'a BTreeMap<String, u64>,
    #[serde(flatten)]
    standing: Standing,
}

/// Prints a revocation list.
pub(super) fn list(list: &RevocationList, standing: Standing, output: &Output) {
    let report = ListReport {
        product: &list.product,
        sequence: list.sequence,
        created: list.created,
        keys: list.keys.iter().map(Digest::to_hex).collect(),
        digests: list.digests.iter().map(ToString::to_string).collect(),
        floors: &list.floors,
        standing,
    };
    let mut rows = vec![
        ("Product".to_string(), report.product.to_string()),
        ("List".into(), report.sequence.to_string()),
    ];
    rows.extend(time("Created", report.created));
    rows.extend(
        report
            .keys
            .iter()
            .map(|id| ("Revoked key".into(), id.clone())),
    );
    rows.extend(
        report
            .digests
            .iter()
            .map(|id| ("Revoked".into(), id.clone())),
    );
    rows.extend(report.floors.iter().map(|(channel, floor)| {
        let text = format!("sequence {floor} in channel {channel}");
        ("Floor".into(), text)
    }));
    rows.extend(report.standing.rows());
    output.result("bundle.revocation-list.v1", &report, &lines(&rows));
}

#[derive(Serialize)]
struct PermitReport<'a> {
    product: &'a str,
    channel: &'a str,
    hosts: Vec<&'a str>,
    sequence: Range,
    release: Option<String>,
    nonce: String,
    created: Option<Time>,
    expires: Option<Time>,
    #[serde(flatten)]
    standing: Standing,
}

/// Prints a permit.
pub(super) fn permit(permit: &Permit, standing: Standing, output: &Output) {
    let report = PermitReport {
        product: &permit.product,
        channel: permit.channel(),
        hosts: permit.hosts.iter().map(String::as_str).collect(),
        sequence: permit.sequence,
        release: permit.statement.map(|digest| digest.to_string()),
        nonce: permit.nonce.into(),
        created: permit.created,
        expires: permit.expires,
        standing,
    };
    let mut rows = vec![
        ("Product".to_string(), report.product.to_string()),
        ("Channel".into(), report.channel.into()),
        ("Hosts".into(), report.hosts.join(", ")),
        ("Sequence".into(), report.sequence.to_string()),
    ];
    rows.extend(report.release.clone().map(|id| ("Release".into(), id)));
    rows.push(("Nonce".into(), report.nonce.clone()));
    rows.extend(time("Created", report.created));
    rows.extend(time("Expires", report.expires));
    rows.extend(report.standing.rows());
    output.result("bundle.permit.v1", &report, &lines(&rows));
}

/// Tells people that others have to sign, and returns the status of a document that can be used or
/// passed on.
pub(super) fn passed_on(missing: Option<&str>, output: &Output) -> ExitStatus {
    if let Some(missing) = missing {
        output.say(&format!(
            "note: not complete: {missing}; `bundle trust sign FILE --key KEY.pem` adds a signature"
        ));
    }
    ExitStatus::Done
}

fn signers(envelope: &Envelope) -> Vec<String> {
    let ids = envelope.signatures.iter().map(|s| s.keyid.to_hex());
    ids.collect()
}

fn scope(scope: &Scope) -> ScopeReport {
    let channels = scope.channels.as_ref();
    ScopeReport {
        channels: channels.map(|set| set.iter().cloned().collect()),
        sequence: scope.sequence,
    }
}

fn time(name: &str, time: Option<Time>) -> Option<(String, String)> {
    time.map(|time| (name.to_string(), time.to_string()))
}

fn signed(signers: &[String], missing: Option<&str>) -> Vec<(String, String)> {
    let ids = signers
        .iter()
        .map(|id| ("Signed by".to_string(), id.clone()));
    let lack = missing.map(|text| ("Missing".to_string(), text.to_string()));
    ids.chain(lack).collect()
}

fn lines(rows: &[(String, String)]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    table(&rows)
}
