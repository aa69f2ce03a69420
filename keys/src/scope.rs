//! Scopes: which channels and sequences a key may sign (SPEC 8.2.4).

use std::collections::BTreeSet;
use std::fmt;

use bundle_format::check_channel;
use serde::{Deserialize, Serialize};

use crate::KeyError;

/// Most channels that one scope lists.
const CHANNELS: usize = 100;

/// Bounds what a key may sign; a key without one may sign everything its roles allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Channels it may sign for; `None` is all.
    pub channels: Option<BTreeSet<String>>,
    /// Sequences it may sign; `None` is all.
    pub sequence: Option<Range>,
}

/// A range of sequences, both ends in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The lowest, from 1.
    pub from: u64,
    /// The highest.
    pub to: u64,
}

/// A scope as trust roots hold it: a restriction that this version does not know is refused, since
/// it could not be kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WireScope {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channels: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sequence: Option<Range>,
}

impl Range {
    /// Returns true where `sequence` lies in the range.
    pub const fn covers(&self, sequence: u64) -> bool {
        self.from <= sequence && sequence <= self.to
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.from == 0 || self.from > self.to {
            return Err(format!("goes from {} to {}", self.from, self.to));
        }
        Ok(())
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from == self.to {
            true => write!(f, "{}", self.from),
            false => write!(f, "{}..{}", self.from, self.to),
        }
    }
}

impl Scope {
    /// Returns true where the key may sign `sequence` of `channel`; without a channel, such as for
    /// revocation lists, only the sequence counts.
    pub fn covers(&self, channel: Option<&str>, sequence: u64) -> bool {
        let in_channel = match (&self.channels, channel) {
            (Some(channels), Some(channel)) => channels.contains(channel),
            _ => true,
        };
        in_channel && self.sequence.is_none_or(|range| range.covers(sequence))
    }

    pub(crate) fn from_wire(wire: WireScope, keyid: &str) -> Result<Self, KeyError> {
        let count = wire.channels.as_ref().map(Vec::len);
        let scope = Self {
            channels: wire.channels.map(|list| list.into_iter().collect()),
            sequence: wire.sequence,
        };
        if scope.channels.as_ref().map(BTreeSet::len) != count {
            return Err(KeyError::root(format!(
                "scope of key {keyid} lists a channel twice"
            )));
        }
        Ok(scope)
    }

    pub(crate) fn to_wire(&self) -> WireScope {
        let channels = self.channels.as_ref();
        WireScope {
            channels: channels.map(|set| set.iter().cloned().collect()),
            sequence: self.sequence,
        }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.channels.is_none() && self.sequence.is_none() {
            return Err("limits nothing".into());
        }
        if let Some(channels) = &self.channels {
            if channels.is_empty() || channels.len() > CHANNELS {
                return Err(format!(
                    "lists {} channels, 1 to {CHANNELS} are allowed",
                    channels.len()
                ));
            }
            for name in channels {
                check_channel(name).map_err(|problem| format!("has a channel that {problem}"))?;
            }
        }
        self.sequence.map_or(Ok(()), |range| range.check())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let channels = self.channels.as_ref().map(|set| {
            let names: Vec<_> = set.iter().map(String::as_str).collect();
            format!("channels {}", names.join(", "))
        });
        let sequence = self.sequence.map(|range| format!("sequences {range}"));
        let parts: Vec<_> = channels.into_iter().chain(sequence).collect();
        f.write_str(&parts.join("; "))
    }
}
