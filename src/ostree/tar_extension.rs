//! Interprets PAX headers and GNU long names: what they may say about an entry, once.
//!
//! Threats: the same fact stated twice, so that two readers take different ones; attributes that the kernel refuses or that
//! fill memory. Defences: repetitions are refused, attributes are bounded and confined to Linux's name spaces. Records that
//! say nothing about an entry's place, owner, size or attributes, such as times and user names, are passed over.

use super::error::RejectReason;
use super::limits::Limits;
use super::tar_header;

/// What extended headers say about the entry that follows them.
#[derive(Default)]
pub(super) struct Extension {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    /// Names without their NUL and values, sorted by name.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether a PAX header was among them.
    pub(super) pax: bool,
}

impl Extension {
    /// Says whether nothing in them changes an entry.
    pub(super) fn is_empty(&self) -> bool {
        self.path.is_none()
            && self.link.is_none()
            && self.size.is_none()
            && self.uid.is_none()
            && self.gid.is_none()
            && self.xattrs.is_empty()
    }

    /// Takes in the records of a PAX header that say where or what an entry is.
    pub(super) fn pax_body(&mut self, body: &[u8], limits: &Limits) -> Result<(), RejectReason> {
        let mut xattr_bytes = 0;
        for (key, value) in tar_header::pax_records(body)? {
            match key {
                b"path" => set(&mut self.path, value.to_vec())?,
                b"linkpath" => set(&mut self.link, value.to_vec())?,
                b"size" => set(&mut self.size, tar_header::decimal(value)?)?,
                b"uid" => set(&mut self.uid, tar_header::decimal(value)?)?,
                b"gid" => set(&mut self.gid, tar_header::decimal(value)?)?,
                key if key.starts_with(b"GNU.sparse.") => return Err(RejectReason::Sparse),
                key => {
                    let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else {
                        continue;
                    };
                    check_xattr(name, limits)?;
                    xattr_bytes += name.len() + value.len();
                    if xattr_bytes > limits.xattrs {
                        let (what, limit) = ("extended attributes", limits.xattrs as u64);
                        return Err(RejectReason::TooLong { what, limit });
                    }
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        self.xattrs.sort();
        if self
            .xattrs
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if a.0 == b.0))
        {
            return Err(RejectReason::Extension);
        }
        Ok(())
    }
}

/// Sets what may be said once.
fn set<T>(slot: &mut Option<T>, value: T) -> Result<(), RejectReason> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(RejectReason::Extension),
    }
}

fn check_xattr(name: &[u8], limits: &Limits) -> Result<(), RejectReason> {
    let spaces: [&[u8]; 4] = [b"user.", b"security.", b"trusted.", b"system."];
    let known = spaces
        .iter()
        .any(|space| name.len() > space.len() && name.starts_with(space));
    if known && name.len() <= limits.name && !name.contains(&0) {
        return Ok(());
    }
    Err(RejectReason::Xattr {
        name: String::from_utf8_lossy(name).chars().take(80).collect(),
    })
}
