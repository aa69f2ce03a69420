//! Content that was checked before anybody saw it: chunk by chunk, once, from one handle.
//!
//! Threats: damage, media that answers differently the second time, files swapped while they are
//! read. Defence: a chunk is read into memory, hashed there and compared with the signed index;
//! only then its bytes are handed on, and they are not read again (SPEC 6.9).

use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bundle_format::chunk::{CHUNK_BYTES, chunk_count};
use bundle_format::{BlobEntry, ChunkIndex, Digest};

use super::{Problem, ProblemKind};
use rustix::io::Errno;

use crate::layout::{Medium, MediumFile};
use crate::progress::Progress;

/// More problems than this are not listed one by one.
pub(super) const PROBLEM_CAP: usize = 10_000;

/// Reads one blob; every byte it returns was checked.
///
/// A read error of kind [`io::ErrorKind::Other`] wraps a [`Problem`].
#[derive(Debug)]
pub struct BlobReader<'a> {
    index: &'a ChunkIndex,
    blob: Digest,
    file: MediumFile,
    next: u64,
    buffer: Vec<u8>,
    position: usize,
}

impl<'a> BlobReader<'a> {
    pub(super) fn open(
        medium: &Medium,
        index: &'a ChunkIndex,
        blob: &Digest,
    ) -> Result<Self, Problem> {
        let path = blob.blob_path();
        let file = medium.file(&path).map_err(|e| unreadable(&path, &e))?;
        let expected = index.size(blob);
        if expected != Some(file.size()) {
            let detail = format!(
                "has {} bytes, {} were signed",
                file.size(),
                expected.unwrap_or(0)
            );
            return Err(Problem::new(ProblemKind::WrongSize, &path, detail));
        }
        Ok(Self {
            index,
            blob: *blob,
            file,
            next: 0,
            buffer: Vec::new(),
            position: 0,
        })
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.position == self.buffer.len() {
            self.position = 0;
            match check_chunk(
                &self.file,
                self.index,
                &self.blob,
                self.next,
                &mut self.buffer,
            ) {
                None => self.buffer.clear(),
                Some(Ok(())) => self.next += 1,
                Some(Err(problem)) => {
                    self.buffer.clear();
                    return Err(io::Error::other(problem));
                }
            }
        }
        let rest = self.buffer.get(self.position..).unwrap_or_default();
        let count = rest.len().min(out.len());
        if let (Some(from), Some(to)) = (rest.get(..count), out.get_mut(..count)) {
            to.copy_from_slice(from);
        }
        self.position += count;
        Ok(count)
    }
}

/// Reads a chunk into `buffer` and checks it; `None` behind the last chunk.
fn check_chunk(
    file: &MediumFile,
    index: &ChunkIndex,
    blob: &Digest,
    number: u64,
    buffer: &mut Vec<u8>,
) -> Option<Result<(), Problem>> {
    let (range, expected) = index.chunk(blob, number)?;
    let path = || blob.blob_path();
    // At most CHUNK_BYTES, so the cast cannot cut.
    buffer.resize((range.end - range.start) as usize, 0);
    if let Err(error) = file.read_exact_at(buffer, range.start) {
        return Some(Err(unreadable(&path(), &error).within(range)));
    }
    if Digest::of(buffer) != expected {
        let problem = Problem::new(
            ProblemKind::Corrupt,
            &path(),
            "differs from what was signed",
        );
        return Some(Err(problem.within(range)));
    }
    Some(Ok(()))
}

/// Checks every chunk of `blobs` on all processors and returns every problem, in reading order.
///
/// Workers take the next chunk in turn, so that the medium is read nearly in order.
pub(super) fn check_all(
    medium: &Medium,
    index: &ChunkIndex,
    blobs: &[BlobEntry],
    progress: &dyn Progress,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut files = Vec::with_capacity(blobs.len());
    for blob in blobs {
        match BlobReader::open(medium, index, &blob.digest) {
            Ok(_) if blob.size > 0 => files.push(blob),
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
    }
    let mut starts = Vec::with_capacity(files.len());
    let mut total = 0;
    for blob in &files {
        starts.push(total);
        total += chunk_count(blob.size);
    }
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    let work = || {
        let mut buffer = Vec::with_capacity(CHUNK_BYTES as usize);
        // One open file a worker: a bundle has more blobs than a process may have descriptors.
        let mut open: Option<(usize, MediumFile)> = None;
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= total || progress.interrupted() {
                return;
            }
            let place = starts
                .partition_point(|start| *start <= turn)
                .saturating_sub(1);
            let (Some(blob), Some(start)) = (files.get(place), starts.get(place)) else {
                return;
            };
            let number = turn - start;
            let file = match open.take().filter(|(opened, _)| *opened == place) {
                Some((_, file)) => Ok(file),
                None => BlobReader::open(medium, index, &blob.digest).map(|reader| reader.file),
            };
            let result = match file {
                Ok(file) => {
                    let result = check_chunk(&file, index, &blob.digest, number, &mut buffer);
                    open = Some((place, file));
                    progress.advance(buffer.len() as u64);
                    result
                }
                Err(problem) => index
                    .chunk(&blob.digest, number)
                    .map(|(range, _)| Err(problem.within(range))),
            };
            if let Some(Err(problem)) = result {
                let mut found = found.lock().unwrap_or_else(|poison| poison.into_inner());
                if found.len() < PROBLEM_CAP {
                    found.push((turn, problem));
                }
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, |n| n.get().min(8));
    thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(work);
        }
        work();
    });
    let mut found = found
        .into_inner()
        .unwrap_or_else(|poison| poison.into_inner());
    found.sort_by_key(|(turn, _)| *turn);
    problems.extend(merge(found.into_iter().map(|(_, problem)| problem)));
    problems
}

/// Joins findings of one kind in neighbouring chunks of one file.
fn merge(found: impl Iterator<Item = Problem>) -> Vec<Problem> {
    let mut merged: Vec<Problem> = Vec::new();
    for problem in found {
        if let Some(last) = merged.last_mut()
            && last.kind == problem.kind
            && last.file == problem.file
            && let (Some(before), Some(after)) = (&mut last.range, &problem.range)
            && before.end == after.start
        {
            before.end = after.end;
            continue;
        }
        merged.push(problem);
    }
    merged
}

pub(super) fn unreadable(path: &str, error: &io::Error) -> Problem {
    let kind = match (error.kind(), Errno::from_io_error(error)) {
        (io::ErrorKind::NotFound, _) => ProblemKind::MissingFile,
        (io::ErrorKind::FileTooLarge, _) => ProblemKind::WrongSize,
        (_, Some(Errno::LOOP | Errno::XDEV)) => ProblemKind::MisplacedFile,
        // What the medium itself refuses: something else than a plain file with one name.
        (io::ErrorKind::InvalidInput, None) => ProblemKind::MisplacedFile,
        _ => ProblemKind::Unreadable,
    };
    let detail = match error.kind() {
        io::ErrorKind::NotFound => "is missing".into(),
        io::ErrorKind::UnexpectedEof => "ends too early".into(),
        _ => match Errno::from_io_error(error) {
            Some(Errno::LOOP) => "is a symbolic link".into(),
            Some(Errno::XDEV) => "lies on another file system".into(),
            _ => error.to_string(),
        },
    };
    Problem::new(kind, path, detail)
}
