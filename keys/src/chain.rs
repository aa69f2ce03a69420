//! Rotation: from the root a host has to the newest of a chain, one step at a time (SPEC 8.4).
//!
//! Threats: a chain that leads away from the host's own root, that leaves a version out, that runs
//! in circles or without end. Defences: the first step is signed by keys the host has, each further
//! one by keys of the step before, always by the thresholds of both; versions rise by one; the
//! number of roots is capped before one is read.

use bundle_format::Limits;

use crate::{Draft, KeyError, TrustRoot};

/// A trust root that a host may take over, because the one before vouches for it.
#[derive(Clone, Debug)]
pub struct Step {
    /// The root.
    pub root: TrustRoot,
    /// Its document, for the host to keep.
    pub bytes: Vec<u8>,
}

/// Walks from `held` along `chain`, oldest root first; returns the steps behind `held`, perhaps none.
///
/// Roots up to the version of `held` are passed over, but one of its own version has to say the same.
///
/// # Errors
/// Fails as a whole where one step does: above the cap, for a document that is no trust root, for
/// another product, a version that does not follow the one before, and where a step is not signed by
/// the thresholds of both its sides.
pub fn walk(held: &TrustRoot, chain: &[Vec<u8>], limits: &Limits) -> Result<Vec<Step>, KeyError> {
    if chain.len() > limits.trust_chain_roots {
        return Err(KeyError::LongChain {
            found: chain.len(),
            cap: limits.trust_chain_roots,
        });
    }
    let mut steps: Vec<Step> = Vec::new();
    let mut before: Option<u64> = None;
    for (index, bytes) in chain.iter().enumerate() {
        let draft = Draft::parse(bytes, limits).map_err(|source| KeyError::InChain {
            position: index + 1,
            source: Box::new(source),
        })?;
        let version = draft.terms().version;
        if let Some(held) = before
            && held.checked_add(1) != Some(version)
        {
            let offered = version;
            return Err(KeyError::Gap { held, offered });
        }
        before = Some(version);
        if version <= held.version() {
            check_past(held, &draft)?;
            continue;
        }
        let root = draft.succeed(steps.last().map_or(held, |step| &step.root))?;
        let bytes = bytes.clone();
        steps.push(Step { root, bytes });
    }
    Ok(steps)
}

/// Checks a chain as a whole, for whoever puts it on a medium; returns its newest root.
///
/// # Errors
/// Fails for an empty chain, and where a host that has the first root could not walk it.
pub fn newest(chain: &[Vec<u8>], limits: &Limits) -> Result<TrustRoot, KeyError> {
    let first = chain.first().ok_or(KeyError::EmptyChain)?;
    let first = TrustRoot::parse(first, limits).map_err(|source| KeyError::InChain {
        position: 1,
        source: Box::new(source),
    })?;
    let last = walk(&first, chain, limits)?.pop();
    Ok(last.map_or(first, |step| step.root))
}

/// Refuses a chain whose past is not the host's: it belongs to somebody else.
fn check_past(held: &TrustRoot, draft: &Draft) -> Result<(), KeyError> {
    let terms = draft.terms();
    if terms.product != held.product() {
        return Err(KeyError::OtherProduct {
            expected: held.product().into(),
            found: terms.product.clone(),
        });
    }
    if terms.version == held.version() && draft.content() != held.content() {
        return Err(KeyError::Fork {
            version: terms.version,
        });
    }
    Ok(())
}
