//! Writes content objects into an open transaction, on threads of their own.
//!
//! Objects arrive with the name their bytes hash to, so libostree does not hash them again; of those that exist already,
//! from an earlier release or another layer, it writes nothing. Memory is bounded by the batches on their way.

use std::collections::HashSet;
use std::fs::File;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Scope, ScopedJoinHandle};

use ::ostree::gio;
use ::ostree::gio::prelude::*;
use ::ostree::{ObjectType, Repo, glib};

use super::error::OstreeError;
use super::object::{self, Checksum, Metadata};

/// Largest object that is held in memory; larger ones stream through libostree, which then hashes them, at a quarter of
/// the speed. One is being read, three wait, and each thread writes one: that bounds the memory.
pub(super) const INLINE: u64 = 24 << 20;
/// Bytes in one batch before it is sent.
const BATCH: usize = 1 << 20;
/// Batches that wait; at worst each holds one object of [`INLINE`] bytes.
const BATCHES: usize = 3;
/// Bytes after which the kernel is asked to write back while we go on, so that a transaction's end has little to wait for.
const FLUSH: usize = 64 << 20;
/// Threads that write. Writing many small files keeps the kernel busy, not us: two do nearly twice as much as one.
const THREADS: usize = 2;

type Object = (Checksum, Vec<u8>);

/// Takes objects and has them written.
pub(super) struct ObjectWriter<'scope> {
    repo: Repo,
    sender: SyncSender<Vec<Object>>,
    threads: Vec<ScopedJoinHandle<'scope, Result<(), OstreeError>>>,
    batch: Vec<Object>,
    batch_bytes: usize,
    /// Tells the flusher that there is enough to write back.
    flush: SyncSender<()>,
    unflushed: usize,
    known: HashSet<Checksum>,
    directories: HashSet<Checksum>,
}

impl<'scope> ObjectWriter<'scope> {
    /// Starts the threads; the transaction on `repo` must be open until [`ObjectWriter::finish`] returns.
    pub(super) fn start<'env>(scope: &'scope Scope<'scope, 'env>, repo: &Repo) -> Self {
        let (sender, receiver) = mpsc::sync_channel(BATCHES);
        let receiver = Arc::new(Mutex::new(receiver));
        // libostree's writes are safe from several threads of one transaction; the binding cannot say so with `Sync`.
        let start = |_| {
            let (handle, receiver) = (repo.clone(), Arc::clone(&receiver));
            scope.spawn(move || write_all(&handle, &receiver))
        };
        let (flush, wanted) = mpsc::sync_channel(1);
        let mut threads: Vec<_> = (0..THREADS).map(start).collect();
        let handle = repo.clone();
        threads.push(scope.spawn(move || write_back(&handle, &wanted)));
        Self {
            repo: repo.clone(),
            sender,
            flush,
            unflushed: 0,
            threads,
            batch: Vec::new(),
            batch_bytes: 0,
            known: HashSet::new(),
            directories: HashSet::new(),
        }
    }

    /// Has the object that consists of `bytes` (header and content) written, and returns its name.
    pub(super) fn put(&mut self, bytes: Vec<u8>) -> Result<Checksum, OstreeError> {
        let checksum = object::checksum(&bytes);
        self.put_named(checksum, bytes)?;
        Ok(checksum)
    }

    /// Has `bytes` written, which hash to `checksum`.
    pub(super) fn put_named(
        &mut self,
        checksum: Checksum,
        bytes: Vec<u8>,
    ) -> Result<(), OstreeError> {
        if !self.known.insert(checksum) {
            return Ok(());
        }
        self.batch_bytes += bytes.len();
        self.batch.push((checksum, bytes));
        if self.batch_bytes >= BATCH {
            self.send()
        } else {
            Ok(())
        }
    }

    /// Streams a large regular file of `size` bytes; `read` fills a buffer and returns 0 at the end.
    ///
    /// Where `expected` is given, libostree refuses content of another name.
    pub(super) fn put_large(
        &mut self,
        metadata: &Metadata,
        size: u64,
        expected: Option<&str>,
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize, OstreeError>,
    ) -> Result<Checksum, OstreeError> {
        let failed = |error| OstreeError::libostree("writing a large file object", error);
        let Metadata {
            uid,
            gid,
            mode,
            xattrs,
        } = metadata;
        let output = self
            .repo
            .write_regfile(expected, *uid, *gid, *mode, size, Some(xattrs))
            .map_err(failed)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let length = read(&mut buffer)?;
            if length == 0 {
                break;
            }
            let part = glib::Bytes::from(buffer.get(..length).unwrap_or_default());
            let mut written = 0;
            while written < length {
                let rest = glib::Bytes::from_bytes(&part, written..length);
                let count = output
                    .write_bytes(&rest, gio::Cancellable::NONE)
                    .map_err(failed)?;
                written += usize::try_from(count).unwrap_or(0);
            }
        }
        let name = output.finish(gio::Cancellable::NONE).map_err(failed)?;
        parse_checksum(&name).ok_or_else(|| OstreeError::Name {
            what: "object name from libostree",
            name: name.to_string(),
        })
    }

    /// Writes the metadata object of a directory, and returns its name.
    pub(super) fn put_directory(&mut self, metadata: &Metadata) -> Result<Checksum, OstreeError> {
        let variant = object::directory_variant(metadata);
        let checksum = object::checksum(variant.data());
        if self.directories.insert(checksum) {
            write_metadata(&self.repo, ObjectType::DirMeta, &variant)?;
        }
        Ok(checksum)
    }

    /// Waits until everything is written.
    pub(super) fn finish(mut self) -> Result<(), OstreeError> {
        let sent = self.send();
        drop((self.sender, self.flush));
        let mut result = sent;
        for thread in self.threads {
            let written = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // A thread's error is the cause, a closed channel only what follows from it.
            if written.is_err() {
                result = written;
            }
        }
        result
    }

    fn send(&mut self) -> Result<(), OstreeError> {
        self.unflushed += self.batch_bytes;
        self.batch_bytes = 0;
        if self.unflushed >= FLUSH {
            self.unflushed = 0;
            // Where one flush is wished for already, that is enough.
            self.flush.try_send(()).ok();
        }
        // A closed channel means that the threads failed; `finish` returns their error in place of this one.
        let batch = std::mem::take(&mut self.batch);
        self.sender.send(batch).map_err(|_| OstreeError::Cancelled)
    }
}

/// Has the file system write back what is dirty, whenever that is wished for.
fn write_back(repo: &Repo, wanted: &Receiver<()>) -> Result<(), OstreeError> {
    // No failure matters here: the transaction's own sync reports it.
    let directory = File::open(format!("/proc/self/fd/{}", repo.dfd())).ok();
    for () in wanted {
        if let Some(directory) = &directory {
            rustix::fs::syncfs(directory).ok();
        }
    }
    Ok(())
}

fn write_all(repo: &Repo, batches: &Mutex<Receiver<Vec<Object>>>) -> Result<(), OstreeError> {
    loop {
        // Waiting with the lock held is what takes turns here.
        let batch = batches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(batch) = batch else { return Ok(()) };
        for (checksum, bytes) in batch {
            let name = hex::encode(checksum);
            let length = bytes.len() as u64;
            let stream = gio::MemoryInputStream::from_bytes(&glib::Bytes::from_owned(bytes));
            repo.write_content_trusted(&name, &stream, length, gio::Cancellable::NONE)
                .map_err(|error| OstreeError::libostree(format!("writing object {name}"), error))?;
        }
    }
}

/// Writes a metadata object and returns its name.
pub(super) fn write_metadata(
    repo: &Repo,
    kind: ObjectType,
    variant: &glib::Variant,
) -> Result<Checksum, OstreeError> {
    // The name is the hash of the serialised form, which has no other than the normal one here.
    repo.write_metadata(kind, None, variant, gio::Cancellable::NONE)
        .map_err(|error| OstreeError::libostree("writing a metadata object", error))?;
    Ok(object::checksum(variant.data()))
}

/// Reads the hexadecimal name of an object.
pub(super) fn parse_checksum(name: &str) -> Option<Checksum> {
    let mut checksum = [0; 32];
    let lower = name
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (lower && hex::decode_to_slice(name, &mut checksum).is_ok()).then_some(checksum)
}
