//! Writes bundles as tar files, good ones and such as no honest program writes.

use std::fs;
use std::path::Path;

use super::kit::files;

/// A member, header and all.
pub(crate) fn member(name: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    member_of_size(name, kind, content, content.len() as u64)
}

/// A member whose header claims `size`, whatever the content.
pub(crate) fn member_of_size(name: &str, kind: u8, content: &[u8], size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let bytes = header.as_mut_bytes();
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_entry_type(tar::EntryType::new(kind));
    if matches!(kind, b'1' | b'2') {
        header.set_link_name("index.json").unwrap();
    }
    header.set_cksum();
    let mut member = header.as_bytes().to_vec();
    member.extend_from_slice(content);
    member.resize(member.len().next_multiple_of(512), 0);
    member
}

/// Every file of a bundle as a member, in order, without the end marker.
pub(crate) fn members(bundle: &Path) -> Vec<Vec<u8>> {
    files(bundle)
        .iter()
        .map(|path| member(path, b'0', &fs::read(bundle.join(path)).unwrap()))
        .collect()
}

/// Ends a tar file.
pub(crate) fn finish(members: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = members.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}
