//! Finds the old file that a new one most likely came from.
//!
//! In this order: the same path, the same path with its numbers left out (kernel releases, sonames,
//! package versions), the same base name with numbers left out; of several the one whose path is most alike,
//! then the one nearest in size. Equal content is found by hash before any of these is asked.

use std::cmp::Reverse;
use std::collections::HashMap;

use bundle_format::Digest;

use super::spool::SpooledFile;
use crate::layer::is_kept;

/// Candidates that are worth trying for one file.
const CANDIDATES: usize = 3;

/// A file of the base: which layer of it, which file of that layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct BaseFile {
    /// Layer, counted from the lowest.
    pub(super) layer: usize,
    /// File in the order of the layer's stream.
    pub(super) file: usize,
}

/// A file by one of its names.
#[derive(Clone, Debug)]
struct Named {
    path: String,
    size: u64,
    base: BaseFile,
}

/// The files of a base, by everything they can be found by.
#[derive(Debug, Default)]
pub(super) struct Matcher {
    by_digest: HashMap<Digest, BaseFile>,
    by_path: HashMap<String, BaseFile>,
    by_pattern: HashMap<String, Vec<Named>>,
    by_name: HashMap<String, Vec<Named>>,
}

impl Matcher {
    /// Adds the files of a layer; layers are added lowest first, so that upper ones win a path.
    pub(super) fn add(&mut self, layer: usize, files: &[SpooledFile]) {
        // What a host does not keep cannot be taken from it.
        let kept = |(_, spooled): &(usize, &SpooledFile)| is_kept(&spooled.path);
        for (file, spooled) in files.iter().enumerate().filter(kept) {
            let base = BaseFile { layer, file };
            self.by_digest.entry(spooled.digest).or_insert(base);
            for path in [&spooled.path].into_iter().chain(&spooled.links) {
                let pattern = pattern(path);
                let name = pattern.rsplit('/').next().unwrap_or(&pattern).to_string();
                let found = Named {
                    path: path.clone(),
                    size: spooled.size,
                    base,
                };
                self.by_path.insert(path.clone(), base);
                self.by_pattern
                    .entry(pattern)
                    .or_default()
                    .push(found.clone());
                self.by_name.entry(name).or_default().push(found);
            }
        }
    }

    /// Returns the base file with this content.
    pub(super) fn same(&self, digest: &Digest) -> Option<BaseFile> {
        self.by_digest.get(digest).copied()
    }

    /// Returns base files that a file of this path and size may have come from, the likeliest first.
    pub(super) fn candidates(&self, path: &str, size: u64) -> Vec<BaseFile> {
        let mut found = Vec::new();
        found.extend(self.by_path.get(path));
        let pattern = pattern(path);
        let name = pattern.rsplit('/').next().unwrap_or(&pattern);
        // A name such as `Makefile` says little once it stands in hundreds of places.
        for list in [self.by_pattern.get(&pattern), self.by_name.get(name)]
            .into_iter()
            .flatten()
        {
            let mut list: Vec<_> = list.iter().take(256).collect();
            list.sort_by_cached_key(|named| {
                let different = Reverse(alike(&named.path, path));
                (different, named.size.abs_diff(size), named.base)
            });
            found.extend(list.into_iter().take(CANDIDATES).map(|named| named.base));
        }
        let mut seen = Vec::new();
        found.retain(|base| {
            let fresh = !seen.contains(base);
            seen.push(*base);
            fresh
        });
        found.truncate(CANDIDATES);
        found
    }
}

/// Counts the characters that two paths share at their beginnings and at their ends.
fn alike(a: &str, b: &str) -> usize {
    let same = |(a, b): &(u8, u8)| a == b;
    let beginning = a.bytes().zip(b.bytes()).take_while(same).count();
    let end = a
        .bytes()
        .rev()
        .zip(b.bytes().rev())
        .take_while(same)
        .count();
    beginning + end
}

/// Replaces each run of digits by one `#`.
fn pattern(path: &str) -> String {
    let mut pattern = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '0'..='9' if pattern.ends_with('#') => {}
            '0'..='9' => pattern.push('#'),
            c => pattern.push(c),
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(paths: &[(&str, u64)]) -> Vec<SpooledFile> {
        let file = |(path, size): &(&str, u64)| SpooledFile {
            path: (*path).into(),
            links: Vec::new(),
            offset: 0,
            size: *size,
            digest: Digest::of(path.as_bytes()),
        };
        paths.iter().map(file).collect()
    }

    #[test]
    fn the_likeliest_comes_first() {
        let mut matcher = Matcher::default();
        matcher.add(
            0,
            &files(&[
                ("usr/lib/modules/6.1.0-50-amd64/kernel/fs/ext4.ko", 900),
                ("usr/lib/libssl.so.3.0.1", 500),
                ("usr/bin/tool", 10),
                ("opt/old/tool", 99),
                ("usr/lib/a1-1.5", 70),
                ("usr/lib/a2-1.5", 70),
                ("usr/lib/a3-1.5", 71),
                ("usr/lib/a4-1.5", 71),
            ]),
        );
        for (path, size, expected) in [
            (
                "usr/lib/modules/6.1.0-56-amd64/kernel/fs/ext4.ko",
                901,
                Some(0),
            ),
            ("usr/lib/libssl.so.3.0.17", 505, Some(1)),
            ("usr/bin/tool", 98, Some(2)),
            ("usr/local/tool", 98, Some(2)),
            ("usr/lib/a3-1.6", 70, Some(6)),
            ("etc/fstab", 5, None),
        ] {
            let first = matcher.candidates(path, size).first().map(|base| base.file);
            assert_eq!(first, expected, "{path}");
        }
        assert_eq!(
            matcher.same(&Digest::of(b"usr/bin/tool")).map(|b| b.file),
            Some(2)
        );
    }
}
