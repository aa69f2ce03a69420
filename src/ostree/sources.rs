//! Finds content in a repository by its hash: the old files that deltas take bytes from.
//!
//! A content object's name covers owner, mode and attributes as well as content, so it does not say which content it has.
//! Where to look is told by a path: of an object in a chunked layer, or of a file in a commit that some ref or deployment
//! holds. What is not there is looked for among all objects of its size. Nothing counts before its content was hashed.
//!
//! Threats: paths out of a delta that lead elsewhere; objects that were damaged on disk. Defences: a path is only compared
//! with names in commits, or parsed as an object's name; objects are opened beneath the repository without following links;
//! whatever has another content than its name says is reported, and not used.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ::ostree::{ObjectType, Repo, gio};
use bundle_format::Digest;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use sha2::{Digest as _, Sha256};

use super::error::OstreeError;
use super::import;
use super::limits::Limits;
use super::merge::MANIFEST_DIGEST;
use super::object::Checksum;
use super::tree::{Directory, Node};
use super::tree_repo;
use super::writer::parse_checksum;
use crate::layer::OBJECTS;

/// Bytes of a SHA-256 by which content is named.
const PREFIX: usize = 16;
/// Bytes hashed at once.
const BUFFER: usize = 1 << 20;

/// Removes content objects that are damaged, so that an import writes them anew instead of taking them for there.
///
/// Deployments keep what they have: their files are links of their own.
///
/// # Errors
/// When an object cannot be removed.
pub fn remove_damaged(repo: &Repo, names: &[String]) -> Result<(), OstreeError> {
    for name in names {
        repo.delete_object(ObjectType::File, name, gio::Cancellable::NONE)
            .map_err(|error| OstreeError::libostree(format!("removing object {name}"), error))?;
    }
    Ok(())
}

/// Content that is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its bytes.
    pub size: u64,
    /// The beginning of its SHA-256.
    pub hash: [u8; PREFIX],
    /// Where it was in an image; a hint.
    pub path: String,
}

/// A content object whose content was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectFile {
    name: Checksum,
    /// Bytes of content.
    pub size: u64,
}

/// The files of an image that the repository has, by their paths in the image's root.
#[derive(Debug)]
pub struct ImageFiles {
    sources: Sources,
    tree: Directory,
}

impl ImageFiles {
    /// Opens the image whose manifest has the digest `manifest`, if it is here.
    ///
    /// # Errors
    /// When the repository cannot be read.
    pub fn of(repo: &Repo, manifest: &Digest) -> Result<Option<Self>, OstreeError> {
        let wanted = Some(manifest.to_string());
        for commit in import::refs(repo, "ostree")?.into_values() {
            let commit = import::load_commit(repo, &commit)?;
            if tree_repo::metadata_string(&commit, MANIFEST_DIGEST) == wanted {
                let tree = tree_repo::read(repo, &commit, &Limits::default())?;
                let sources = Sources::of(repo)?;
                return Ok(Some(Self { sources, tree }));
            }
        }
        Ok(None)
    }

    /// Opens the file at `path`, and returns its size.
    ///
    /// # Errors
    /// When there is no regular file.
    pub fn open(&self, path: &str) -> io::Result<(File, u64)> {
        let file = self.sources.open_object(&self.object(path)?)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok((file, metadata.len()))
    }

    /// Checks that the content of the file at `path` is what its name says.
    ///
    /// # Errors
    /// When there is no file, or it is damaged.
    pub fn check(&self, repo: &Repo, path: &str) -> io::Result<()> {
        let name = hex::encode(self.object(path)?);
        repo.fsck_object(ObjectType::File, &name, gio::Cancellable::NONE)
            .map_err(io::Error::other)
    }

    fn object(&self, path: &str) -> io::Result<Checksum> {
        if let Some(name) = object_of(path) {
            return Ok(name);
        }
        let mut found =
            places(path)
                .into_iter()
                .rev()
                .filter_map(|path| match self.tree.get(&path) {
                    Some(Node::File(object)) => Some(*object),
                    _ => None,
                });
        found.next().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// The content objects of a repository.
#[derive(Debug)]
pub struct Sources {
    directory: OwnedFd,
    /// What was hashed so far: size and the beginning of the hash, or nothing for what cannot be read.
    hashed: HashMap<Checksum, Option<(u64, [u8; PREFIX])>>,
    by_content: HashMap<(u64, [u8; PREFIX]), Checksum>,
    damaged: BTreeSet<Checksum>,
}

impl Sources {
    /// Opens the objects of `repo`.
    ///
    /// # Errors
    /// When the repository's directory cannot be opened.
    pub fn of(repo: &Repo) -> Result<Self, OstreeError> {
        let path = format!("/proc/self/fd/{}", repo.dfd());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| OstreeError::io("opening the repository", error.into()))?;
        Ok(Self {
            directory,
            hashed: HashMap::new(),
            by_content: HashMap::new(),
            damaged: BTreeSet::new(),
        })
    }

    /// Looks for each of `wanted`, and hashes what may be it on all processors.
    ///
    /// # Errors
    /// When commits or directories of the repository cannot be read; an object that cannot be read is one that is not there.
    pub fn find(
        &mut self,
        repo: &Repo,
        wanted: &[Content],
    ) -> Result<Vec<Option<ObjectFile>>, OstreeError> {
        let by_path = candidates(repo, wanted)?;
        self.hash(by_path.iter().flatten().copied(), wanted);
        for (content, candidates) in wanted.iter().zip(&by_path) {
            if !self.has(content) {
                self.look_for_damage(repo, content, candidates);
            }
        }
        if wanted.iter().any(|content| !self.has(content)) {
            let missing: Vec<_> = wanted.iter().filter(|content| !self.has(content)).collect();
            let sizes: HashSet<u64> = missing.iter().map(|content| content.size).collect();
            let sized = self.of_sizes(&sizes)?;
            self.hash(sized.into_iter(), wanted);
        }
        let found = |content: &Content| {
            let name = *self.by_content.get(&(content.size, content.hash))?;
            let size = content.size;
            Some(ObjectFile { name, size })
        };
        Ok(wanted.iter().map(found).collect())
    }

    /// Returns the names of objects whose content is not what their name says.
    pub fn damaged(&self) -> impl Iterator<Item = String> + '_ {
        self.damaged.iter().map(hex::encode)
    }

    /// Opens an object that was found.
    ///
    /// # Errors
    /// When it is gone.
    pub fn open(&self, object: &ObjectFile) -> io::Result<File> {
        self.open_object(&object.name)
    }

    fn open_object(&self, name: &Checksum) -> io::Result<File> {
        let name = hex::encode(name);
        let (first, rest) = name.split_at(2);
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(
            &self.directory,
            format!("objects/{first}/{rest}.file"),
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK,
            Mode::empty(),
            resolve,
        )?;
        Ok(File::from(file))
    }

    fn has(&self, content: &Content) -> bool {
        self.by_content.contains_key(&(content.size, content.hash))
    }

    /// Hashes the objects that have the size of something wanted, each once.
    fn hash(&mut self, names: impl Iterator<Item = Checksum>, wanted: &[Content]) {
        let sizes: HashSet<u64> = wanted.iter().map(|content| content.size).collect();
        let mut seen = HashSet::new();
        let todo: Vec<Checksum> = names
            .filter(|name| !self.hashed.contains_key(name) && seen.insert(*name))
            .collect();
        let next = AtomicUsize::new(0);
        let results = Mutex::new(Vec::with_capacity(todo.len()));
        let work = || {
            let mut buffer = vec![0; BUFFER];
            while let Some(name) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                let content = self.content(name, &sizes, &mut buffer).ok().flatten();
                let mut results = results.lock().unwrap_or_else(|poison| poison.into_inner());
                results.push((*name, content));
            }
        };
        thread::scope(|scope| {
            let threads = thread::available_parallelism().map_or(1, |n| n.get().min(8));
            for _ in 1..threads.min(todo.len()) {
                scope.spawn(work);
            }
            work();
        });
        let mut results = results
            .into_inner()
            .unwrap_or_else(|poison| poison.into_inner());
        // Whatever thread was faster: equal content is always the same object.
        results.sort_unstable_by_key(|(name, _)| *name);
        for (name, content) in results {
            if let Some(content) = content {
                self.by_content.entry(content).or_insert(name);
            }
            self.hashed.insert(name, content);
        }
    }

    /// Returns size and hash of an object's content; `None` for another size than any of `sizes`.
    fn content(
        &self,
        name: &Checksum,
        sizes: &HashSet<u64>,
        buffer: &mut [u8],
    ) -> io::Result<Option<(u64, [u8; PREFIX])>> {
        let mut file = self.open_object(name)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || !sizes.contains(&metadata.len()) {
            return Ok(None);
        }
        let (mut hash, mut size) = (Sha256::new(), 0);
        loop {
            let count = match file.read(buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hash.update(buffer.get(..count).unwrap_or_default());
            size += count as u64;
        }
        Ok(prefix(&hash.finalize()).map(|hash| (size, hash)))
    }

    /// Notes which of `candidates` are not what they are called: of the right size or none, at the right path, and other
    /// content.
    fn look_for_damage(&mut self, repo: &Repo, content: &Content, candidates: &[Checksum]) {
        for name in candidates {
            let suspicious = match self.hashed.get(name) {
                Some(Some((size, _))) => *size == content.size,
                _ => true,
            };
            let damaged = || {
                let name = hex::encode(name);
                let checked = repo.fsck_object(ObjectType::File, &name, gio::Cancellable::NONE);
                checked.is_err()
            };
            if suspicious && !self.damaged.contains(name) && damaged() {
                self.damaged.insert(*name);
            }
        }
    }

    /// Lists the content objects that have one of `sizes`.
    fn of_sizes(&self, sizes: &HashSet<u64>) -> Result<Vec<Checksum>, OstreeError> {
        let failed =
            |error: rustix::io::Errno| OstreeError::io("listing the repository", error.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let open = |at: &OwnedFd, path: &str| {
            rustix::fs::openat(at, path, flags, Mode::empty()).map_err(failed)
        };
        let mut found = Vec::new();
        let objects = open(&self.directory, "objects")?;
        for first in 0..=u8::MAX {
            let first = hex::encode([first]);
            let Ok(directory) = open(&objects, &first) else {
                continue;
            };
            for entry in Dir::read_from(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let Ok(name) = entry.file_name().to_str() else {
                    continue;
                };
                let name = name.strip_suffix(".file");
                let Some(name) = name.and_then(|rest| parse_checksum(&format!("{first}{rest}")))
                else {
                    continue;
                };
                let stat =
                    rustix::fs::statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
                let Ok(stat) = stat else { continue };
                let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
                if regular && u64::try_from(stat.st_size).is_ok_and(|size| sizes.contains(&size)) {
                    found.push(name);
                }
            }
        }
        Ok(found)
    }
}

fn prefix(hash: &[u8]) -> Option<[u8; PREFIX]> {
    hash.first_chunk().copied()
}

/// Returns for each of `wanted` the objects that its path leads to.
fn candidates(repo: &Repo, wanted: &[Content]) -> Result<Vec<Vec<Checksum>>, OstreeError> {
    let mut found = vec![Vec::new(); wanted.len()];
    let mut by_path: HashMap<String, Vec<usize>> = HashMap::new();
    for (number, content) in wanted.iter().enumerate() {
        if let Some(name) = object_of(&content.path) {
            if let Some(found) = found.get_mut(number) {
                found.push(name);
            }
        } else {
            for path in places(&content.path) {
                by_path.entry(path).or_default().push(number);
            }
        }
    }
    if by_path.is_empty() {
        return Ok(found);
    }
    let mut commits: Vec<String> = import::refs(repo, "ostree")?.into_values().collect();
    commits.sort_unstable();
    commits.dedup();
    for commit in commits {
        let commit = import::load_commit(repo, &commit)?;
        // A commit that is not whole has nothing to give; whoever deploys it will say so.
        if let Ok(tree) = tree_repo::read(repo, &commit, &Limits::default()) {
            collect(&tree, &mut String::new(), &by_path, &mut found);
        }
    }
    Ok(found)
}

/// Reads the name of an object from its path in a chunked layer.
fn object_of(path: &str) -> Option<Checksum> {
    let (first, rest) = path.strip_prefix(OBJECTS)?.split_once('/')?;
    let rest = rest.strip_suffix(".file")?;
    (first.len() == 2).then(|| parse_checksum(&format!("{first}{rest}")))?
}

/// Returns where a file of an image may lie in a commit.
fn places(path: &str) -> Vec<String> {
    let mut places = vec![path.to_owned()];
    if path.starts_with("etc/") {
        places.push(format!("usr/{path}"));
    }
    if path.starts_with("var/") {
        places.push(format!("usr/share/factory/{path}"));
    }
    places
}

/// Walks a tree, and notes objects at the paths that are asked for.
fn collect(
    directory: &Directory,
    path: &mut String,
    by_path: &HashMap<String, Vec<usize>>,
    found: &mut [Vec<Checksum>],
) {
    let length = path.len();
    for (name, node) in &directory.children {
        if length > 0 {
            path.push('/');
        }
        path.push_str(name);
        match node {
            Node::Directory(below) => collect(below, path, by_path, found),
            Node::File(object) => {
                for number in by_path.get(path.as_str()).into_iter().flatten() {
                    if let Some(found) = found.get_mut(*number)
                        && !found.contains(object)
                    {
                        found.push(*object);
                    }
                }
            }
        }
        path.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_objects_and_places() {
        let name = "ab".repeat(32);
        let object = |text: &str| object_of(&text.replace("NAME", &name[2..]));
        assert!(object("sysroot/ostree/repo/objects/ab/NAME.file").is_some());
        for bad in [
            "sysroot/ostree/repo/objects/ab/NAME.dirtree",
            "sysroot/ostree/repo/objects/../NAME.file",
            "sysroot/ostree/repo/objects/abc/NAME.file",
            "sysroot/ostree/repo/objects/ab/../NAME.file",
            "usr/bin/ab/NAME.file",
        ] {
            assert_eq!(object(bad), None, "{bad}");
        }
        assert_eq!(places("etc/fstab"), ["etc/fstab", "usr/etc/fstab"]);
        assert_eq!(places("usr/bin/true"), ["usr/bin/true"]);
        let places = places("var/lib/x");
        assert_eq!(places, ["var/lib/x", "usr/share/factory/var/lib/x"]);
    }
}
