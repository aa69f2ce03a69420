//! Streams a blob, resuming where a connection was cut.
//!
//! Threats: bodies that are cut, endless, longer or shorter than the descriptor says, and ranges
//! that are not those asked for. Defences: never more than the descriptor's size is handed on,
//! the announced length and range are checked before the first byte, and tries that bring nothing
//! are counted. The bytes themselves are the caller's to hash.

use std::io;

use bundle_format::Descriptor;

use super::answer::Answer;
use super::endpoint::Endpoint;
use super::error::RegistryError;
use super::retry::Retry;
use super::session::{Ask, Session};

/// Bytes handed on at once, at most.
const BUFFER_BYTES: usize = 256 << 10;
/// A try that brought this much starts the count of failures anew: a long blob over a bad line
/// arrives in the end, a server that sends byte by byte does not keep us.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Receives the bytes in order.
pub(super) type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// A blob on its way; it outlives connections and endpoints.
pub(super) struct Transfer<'a> {
    object: String,
    descriptor: &'a Descriptor,
    /// Bytes the sink has, or does not want.
    offset: u64,
    sink: Sink<'a>,
    buffer: Vec<u8>,
}

impl<'a> Transfer<'a> {
    /// Prepares to hand bytes from `start` on to `sink`.
    pub(super) fn new(
        object: String,
        descriptor: &'a Descriptor,
        start: u64,
        sink: Sink<'a>,
    ) -> Result<Self, RegistryError> {
        if start > descriptor.size {
            return Err(RegistryError::Start {
                object,
                start,
                size: descriptor.size,
            });
        }
        Ok(Self {
            object,
            descriptor,
            offset: start,
            sink,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Pulls the rest of the blob from one endpoint.
    pub(super) fn pull(
        &mut self,
        session: &Session,
        retry: &Retry,
        endpoint: &Endpoint,
    ) -> Result<(), RegistryError> {
        let mut failures = 0;
        let mut connected = false;
        while self.offset < self.descriptor.size {
            let before = self.offset;
            let Err(error) = self.attempt(session, endpoint) else {
                continue;
            };
            let advanced = self.offset.saturating_sub(before);
            connected |= advanced > 0;
            failures = if advanced >= PROGRESS_BYTES {
                1
            } else {
                failures + 1
            };
            // A registry that restarts refuses connections for a moment.
            let refused = connected && matches!(error, RegistryError::Connect { .. });
            if !(error.is_transient() || refused) || !retry.wait(failures, &error) {
                return Err(error);
            }
        }
        Ok(())
    }

    fn attempt(&mut self, session: &Session, endpoint: &Endpoint) -> Result<(), RegistryError> {
        let path = format!(
            "/v2/{}/blobs/{}",
            endpoint.repository, self.descriptor.digest
        );
        let mut answer = session.get(Ask {
            repository: &endpoint.repository,
            path: &path,
            accept: "",
            start: self.offset,
            object: &self.object,
        })?;
        // Position of the body's next byte: a server may ignore the range and start over.
        let mut position = self.first_byte(&answer)?;
        while self.offset < self.descriptor.size {
            let read = match answer.read(&mut self.buffer, &self.object) {
                Ok(0) => return Err(self.ended(&answer)),
                Ok(read) => read,
                Err(RegistryError::Broken { .. }) => return Err(self.cut()),
                Err(error) => return Err(error),
            };
            let bytes = self.buffer.get(..read).unwrap_or_default();
            let skip = usize::try_from(self.offset - position)
                .unwrap_or(usize::MAX)
                .min(read);
            position += read as u64;
            let fresh = bytes.get(skip..).unwrap_or_default();
            let wanted = self.descriptor.size - self.offset;
            let take = usize::try_from(wanted)
                .unwrap_or(usize::MAX)
                .min(fresh.len());
            let (wanted, surplus) = fresh.split_at(take);
            if !wanted.is_empty() {
                (self.sink)(wanted).map_err(|source| RegistryError::Sink {
                    object: self.object.clone(),
                    source,
                })?;
                self.offset += take as u64;
            }
            if !surplus.is_empty() {
                return Err(self.too_long());
            }
        }
        // Reading the end returns the connection to the pool. All bytes are here: a connection
        // that breaks now does not matter.
        match answer.read(&mut self.buffer, &self.object) {
            Ok(0) | Err(_) => Ok(()),
            Ok(_) => Err(self.too_long()),
        }
    }

    /// Checks status, range and length, and returns the position of the body's first byte.
    fn first_byte(&self, answer: &Answer) -> Result<u64, RegistryError> {
        let size = self.descriptor.size;
        let first = match (answer.status.as_u16(), self.offset) {
            (200, _) => 0,
            (206, 1..) => {
                let range = answer.header("content-range").and_then(parse_content_range);
                let Some((first, total)) = range else {
                    return Err(RegistryError::malformed(
                        &self.object,
                        "206 without its range",
                    ));
                };
                if first != self.offset {
                    return Err(RegistryError::malformed(
                        &self.object,
                        "not the range asked for",
                    ));
                }
                if let Some(found) = total.filter(|total| *total != size) {
                    return Err(self.wrong_size(found));
                }
                first
            }
            (status, _) => {
                return Err(RegistryError::malformed(
                    &self.object,
                    format!("status {status}"),
                ));
            }
        };
        match announced(answer).map(|length| first.saturating_add(length)) {
            Some(found) if found != size => Err(self.wrong_size(found)),
            _ => Ok(first),
        }
    }

    /// Names an end before the time: a body without length or framing cannot tell a cut.
    fn ended(&self, answer: &Answer) -> RegistryError {
        let framed = answer.header("transfer-encoding").is_some();
        if framed {
            self.wrong_size(self.offset)
        } else {
            self.cut()
        }
    }

    fn cut(&self) -> RegistryError {
        let object = self.object.clone();
        RegistryError::Cut {
            object,
            received: self.offset,
            expected: self.descriptor.size,
        }
    }

    fn too_long(&self) -> RegistryError {
        RegistryError::TooLong {
            object: self.object.clone(),
            limit: self.descriptor.size,
        }
    }

    fn wrong_size(&self, found: u64) -> RegistryError {
        let object = self.object.clone();
        RegistryError::WrongSize {
            object,
            expected: self.descriptor.size,
            found,
        }
    }
}

fn announced(answer: &Answer) -> Option<u64> {
    if answer.header("transfer-encoding").is_some() {
        return None;
    }
    answer.header("content-length")?.trim().parse().ok()
}

/// Parses `bytes FIRST-LAST/TOTAL` into first and total, the latter unknown as `*`.
fn parse_content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value
        .trim()
        .strip_prefix("bytes")?
        .trim_start()
        .split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total = if total == "*" {
        None
    } else {
        Some(total.parse().ok()?)
    };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_strictly() {
        for (value, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            (" bytes 0-0/* ", Some((0, None))),
            ("bytes 5-9/9", None),
            ("bytes 9-5/10", None),
            ("bytes */10", None),
            ("bytes 5-/10", None),
            ("items 5-9/10", None),
            ("bytes -5-9/10", None),
            ("", None),
        ] {
            assert_eq!(parse_content_range(value), expected, "{value}");
        }
    }
}
