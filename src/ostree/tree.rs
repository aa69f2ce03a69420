//! Trees of names in memory: what one layer holds, and the union of layers after the OCI image specification.
//!
//! Names in trees come from the archive's checked paths or from dirtree objects, which are checked when read. Depth is
//! bounded by the path limits, so recursion is too.

use std::collections::BTreeMap;

use super::error::RejectReason;
use super::object::Checksum;
use super::tar_entries::{Marker, marker};

/// A name's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// A regular file or symbolic link: the name of its content object.
    File(Checksum),
    Directory(Directory),
}

/// A directory; `BTreeMap` keeps names in the order of bytes that dirtree objects demand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directory {
    /// Name of its metadata object; `None` where no layer described it and it only has to exist.
    pub(super) metadata: Option<Checksum>,
    pub(super) children: BTreeMap<String, Node>,
}

/// Whose description of a directory counts in a union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precedence {
    /// The upper layer's, as the OCI image specification wants it.
    Upper,
    /// The lower layer's: for layers that ostree-ext imported, whose commits do not tell which directories the archive
    /// described and which were made up as missing parents. ostree-ext itself always does this.
    Lower,
}

impl Directory {
    /// Returns the directory that holds the last name of `path`, made as far as it is missing, and that name.
    fn parent<'a>(&mut self, path: &'a str) -> Result<(&mut Self, &'a str), RejectReason> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut directory = self;
        let mut walked = 0;
        for step in above.split('/').filter(|step| !step.is_empty()) {
            walked += step.len() + 1;
            let node = directory.children.entry(step.to_owned());
            match node.or_insert_with(|| Node::Directory(Self::default())) {
                Node::Directory(below) => directory = below,
                Node::File(_) => {
                    let parent = above
                        .get(..walked.saturating_sub(1))
                        .unwrap_or(above)
                        .to_owned();
                    return Err(RejectReason::ParentNotDirectory { parent });
                }
            }
        }
        Ok((directory, name))
    }

    /// Puts a file at `path`; the last entry of a name wins, except over a directory that is in use.
    pub(super) fn put_file(&mut self, path: &str, file: Checksum) -> Result<(), RejectReason> {
        let (parent, name) = self.parent(path)?;
        if let Some(Node::Directory(directory)) = parent.children.get(name)
            && !directory.children.is_empty()
        {
            return Err(RejectReason::ReplacesDirectory);
        }
        parent.children.insert(name.to_owned(), Node::File(file));
        Ok(())
    }

    /// Describes the directory at `path`, the root for `""`; what it holds already stays.
    pub(super) fn put_directory(
        &mut self,
        path: &str,
        metadata: Checksum,
    ) -> Result<(), RejectReason> {
        if path.is_empty() {
            self.metadata = Some(metadata);
            return Ok(());
        }
        let (parent, name) = self.parent(path)?;
        match parent.children.get_mut(name) {
            Some(Node::Directory(directory)) => directory.metadata = Some(metadata),
            _ => {
                let directory = Self {
                    metadata: Some(metadata),
                    children: BTreeMap::new(),
                };
                parent
                    .children
                    .insert(name.to_owned(), Node::Directory(directory));
            }
        }
        Ok(())
    }

    /// Returns what is at `path`.
    pub(super) fn get(&self, path: &str) -> Option<&Node> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut directory = self;
        for step in above.split('/').filter(|step| !step.is_empty()) {
            match directory.children.get(step)? {
                Node::Directory(below) => directory = below,
                Node::File(_) => return None,
            }
        }
        directory.children.get(name)
    }

    /// Removes the file at `path`.
    pub(super) fn remove_file(&mut self, path: &str) {
        if let Ok((parent, name)) = self.parent(path)
            && matches!(parent.children.get(name), Some(Node::File(_)))
        {
            parent.children.remove(name);
        }
    }

    /// Lays `upper` over this directory.
    ///
    /// Whiteouts of `upper` delete what is below, never what `upper` itself holds. A directory that both describe takes
    /// the description that `precedence` says.
    pub(super) fn overlay(&mut self, upper: &Self, precedence: Precedence) {
        if upper
            .children
            .keys()
            .any(|name| marker(name) == Marker::Opaque)
        {
            self.children.clear();
        }
        for name in upper.children.keys() {
            if let Marker::Whiteout(target) = marker(name) {
                self.children.remove(target);
            }
        }
        for (name, node) in &upper.children {
            if marker(name) != Marker::None {
                continue;
            }
            match (self.children.get_mut(name), node) {
                (Some(Node::Directory(lower)), Node::Directory(upper)) => {
                    lower.overlay(upper, precedence);
                }
                (_, Node::Directory(upper)) => {
                    let mut directory = Self::default();
                    directory.overlay(upper, precedence);
                    self.children
                        .insert(name.clone(), Node::Directory(directory));
                }
                (_, Node::File(file)) => {
                    self.children.insert(name.clone(), Node::File(*file));
                }
            }
        }
        if precedence == Precedence::Upper || self.metadata.is_none() {
            self.metadata = upper.metadata.or(self.metadata);
        }
    }

    /// Returns the paths of the directories below (and of the root as `""`) that no layer described.
    pub(super) fn undescribed(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.collect_undescribed("", &mut found);
        found
    }

    fn collect_undescribed(&self, path: &str, found: &mut Vec<String>) {
        if self.metadata.is_none() {
            found.push(path.to_owned());
        }
        for (name, node) in &self.children {
            if let Node::Directory(directory) = node {
                let below = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}/{name}")
                };
                directory.collect_undescribed(&below, found);
            }
        }
    }

    /// Forgets the description of the directory at `path`, the reverse of [`Directory::undescribed`].
    pub(super) fn forget_description(&mut self, path: &str) {
        if path.is_empty() {
            self.metadata = None;
        } else if let Ok((parent, name)) = self.parent(path)
            && let Some(Node::Directory(directory)) = parent.children.get_mut(name)
        {
            directory.metadata = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a tree of `path=digit`; a path that ends in `/` is a described directory.
    fn tree(entries: &str) -> Directory {
        let mut root = Directory::default();
        for entry in entries.split_whitespace() {
            let (path, digit) = entry.split_once('=').unwrap();
            let checksum = [digit.parse().unwrap(); 32];
            match path.strip_suffix('/') {
                Some(path) => root.put_directory(path, checksum).unwrap(),
                None => root.put_file(path, checksum).unwrap(),
            }
        }
        root
    }

    #[test]
    fn union() {
        for (name, layers, expected) in [
            (
                "files replace files",
                vec!["a=1 b/c=2", "b/c=3"],
                "a=1 b/c=3",
            ),
            ("directories merge", vec!["d/x=1", "d/y=2"], "d/x=1 d/y=2"),
            (
                "the upper description wins",
                vec!["d/=1 d/x=2", "d/=3"],
                "d/=3 d/x=2",
            ),
            (
                "a missing description does not",
                vec!["d/=1 d/x=2", "d/y=3"],
                "d/=1 d/x=2 d/y=3",
            ),
            ("a file replaces a directory", vec!["d/x=1", "d=2"], "d=2"),
            ("a directory replaces a file", vec!["d=1", "d/x=2"], "d/x=2"),
            (
                "whiteout of a file",
                vec!["d/x=1 d/y=2", "d/.wh.x=0"],
                "d/y=2",
            ),
            (
                "whiteout of a directory",
                vec!["d/x=1 e=2", ".wh.d=0"],
                "e=2",
            ),
            ("whiteout of nothing", vec!["e=2", ".wh.d=0"], "e=2"),
            ("whiteout and new file", vec!["d=1", ".wh.d=0 d=2"], "d=2"),
            (
                "whiteout and new directory",
                vec!["d/x=1", ".wh.d=0 d/y=2"],
                "d/y=2",
            ),
            (
                "opaque",
                vec!["d/x=1 d/e/f=2 g=3", "d/.wh..wh..opq=0 d/y=4"],
                "d/y=4 g=3",
            ),
            (
                "opaque root",
                vec!["a=1 b/c=2", ".wh..wh..opq=0 d=3"],
                "d=3",
            ),
            (
                "whiteouts in a new directory",
                vec!["a=1", "d/.wh.x=0 d/e/.wh.y=0 d/e/z=2"],
                "a=1 d/e/z=2",
            ),
            ("AUFS's own files", vec!["a=1", ".wh..wh.plnk=0"], "a=1"),
        ] {
            let mut merged = Directory::default();
            for layer in layers {
                merged.overlay(&tree(layer), Precedence::Upper);
            }
            assert_eq!(merged, tree(expected), "{name}");
        }
    }

    #[test]
    fn an_opaque_directory_stays_though_empty() {
        let mut merged = tree("d/=1 d/x=2");
        merged.overlay(&tree("d/.wh..wh..opq=0"), Precedence::Upper);
        assert_eq!(merged, tree("d/=1"));
        merged.overlay(&tree("d/=3 e/=4"), Precedence::Lower);
        assert_eq!(merged, tree("d/=1 e/=4"));
    }

    #[test]
    fn within_a_layer() {
        let mut root = tree("d/x=1 l=2 e/=3");
        let parent = |parent: &str| RejectReason::ParentNotDirectory {
            parent: parent.to_owned(),
        };
        assert_eq!(root.put_file("l/x", [0; 32]), Err(parent("l")));
        assert_eq!(root.put_directory("d/x/y/z", [0; 32]), Err(parent("d/x")));
        assert_eq!(
            root.put_file("d", [0; 32]),
            Err(RejectReason::ReplacesDirectory)
        );
        assert_eq!(root.put_file("e", [4; 32]), Ok(()));
        assert_eq!(root.put_directory("l", [5; 32]), Ok(()));
        assert_eq!(root, tree("d/x=1 l/=5 e=4"));
        assert_eq!(root.undescribed(), ["", "d"]);
        assert_eq!(root.get("d/x"), Some(&Node::File([1; 32])));
        assert_eq!(root.get("e/x"), None);
    }
}
