//! Decodes what is compressed in a file, without asking how it could be encoded again.
//!
//! For old files: only their content counts. The exporter says where a member lies and what it is; the appliance decodes
//! just that.
//!
//! Threats: members that lie about their size, or decode to more than memory holds. Defences: the bounds of [`Options`],
//! and the caller's own expectation of the length.

use crate::{Options, bzimage, cpio, gzip, xz, zstd};

/// A kind of compression that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One zstd frame.
    Zstd,
    /// One xz stream.
    Xz,
    /// One gzip member.
    Gzip,
}

/// A compressed member of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub kind: Kind,
    /// Where it begins in the file.
    pub offset: usize,
    /// How long it is in the file.
    pub length: usize,
    /// What it decodes to.
    pub inner: Vec<u8>,
}

/// Decodes the member of `kind` at the beginning of `bytes`; its length in the file, and its content.
///
/// `None` for anything but such a member within the bounds.
pub fn decode(kind: Kind, bytes: &[u8], options: &Options) -> Option<(usize, Vec<u8>)> {
    let mut inner = Vec::new();
    let length = match kind {
        Kind::Zstd => zstd::decode(bytes, &mut inner, options)?,
        Kind::Xz => xz::decode(bytes, &mut inner, options)?,
        Kind::Gzip => gzip::decode(bytes, &mut inner, options)?,
    };
    Some((length, inner))
}

/// Finds and decodes the compressed members of a file: of a bzImage, an initramfs, or a file that is one.
pub fn members(bytes: &[u8], options: &Options) -> Vec<Member> {
    let (mut at, end) = match bzimage::payload(bytes) {
        Some(payload) => (payload.start, payload.end),
        None => (0, bytes.len()),
    };
    let mut found = Vec::new();
    while let Some(rest) = bytes.get(at..end).filter(|rest| !rest.is_empty()) {
        let zeros = cpio::padding(rest);
        let Some(rest) = rest.get(zeros..).filter(|rest| !rest.is_empty()) else {
            break;
        };
        at += zeros;
        if cpio::is_cpio(rest) {
            let Some(archive) = cpio::split(rest, usize::MAX).filter(|a| a.complete) else {
                break;
            };
            at += archive.end;
            continue;
        }
        let kind = match rest.first() {
            Some(0x28) => Kind::Zstd,
            Some(0xfd) => Kind::Xz,
            Some(0x1f) => Kind::Gzip,
            _ => break,
        };
        let Some((length, inner)) = decode(kind, rest, options) else {
            break;
        };
        found.push(Member {
            kind,
            offset: at,
            length,
            inner,
        });
        at += length;
    }
    found
}
