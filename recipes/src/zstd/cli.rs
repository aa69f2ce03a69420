//! Compresses a stream exactly as the `zstd` command does, with whatever libzstd is linked.
//!
//! The bytes that libzstd writes depend on how it is fed: chunks of 128 KiB, the last one with or without the end
//! directive, an output buffer of a fixed size. All of it is the command's `fileio.c` over again. This file is compiled
//! twice: into the library, with its libzstd, and into every helper program of `recipes/encoders`, with theirs. So it
//! uses the standard library and what is common to all releases of zstd-safe, and nothing else.

use std::io::{ErrorKind, Read, Write};

use zstd_safe::zstd_sys::ZSTD_EndDirective::{self, ZSTD_e_continue, ZSTD_e_end, ZSTD_e_flush};
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer};

/// What the command line of `zstd` sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Level, 1 to 22.
    pub(crate) level: i32,
    /// Worker threads: 0 is `--single-thread`; any other number gives the same bytes.
    pub(crate) workers: u32,
    /// Ends the frame with a checksum.
    pub(crate) checksum: bool,
    /// Writes the size of the content when it is known beforehand.
    pub(crate) content_size: bool,
    /// Logarithm of the window in bytes, or 0 for the level's own.
    pub(crate) window_log: u32,
    /// Long-distance matching.
    pub(crate) long: bool,
    /// Bytes of input for one job of the workers, or 0 for the library's choice.
    pub(crate) job_size: u32,
    /// Size of the input, where the command would know it: a file, not a pipe.
    pub(crate) pledged: Option<u64>,
    /// Flushes at the end of the input and leaves the frame open: to look at the beginning of a frame.
    pub(crate) probe: bool,
}

/// Why compressing stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The input could not be read.
    Read(std::io::Error),
    /// The output could not be written.
    Write(std::io::Error),
    /// libzstd refused.
    Zstd(&'static str),
}

/// Compresses `input` into `output` as one frame, with a new context.
///
/// # Errors
///
/// [`Failure`]: reading, writing, or libzstd (parameters out of range, memory, an input that is not as long as pledged).
pub(crate) fn compress(
    mut context: CCtx<'_>,
    settings: &Settings,
    input: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<(), Failure> {
    configure(&mut context, settings).map_err(failed)?;
    let mut source = vec![0u8; CCtx::in_size()];
    let mut target = vec![0u8; CCtx::out_size()];
    let mut total: u64 = 0;
    loop {
        let filled = fill(input, &mut source).map_err(Failure::Read)?;
        total = total.saturating_add(filled as u64);
        let last = filled == 0 || settings.pledged == Some(total);
        let directive = match (last, settings.probe) {
            (false, _) => ZSTD_e_continue,
            (true, false) => ZSTD_e_end,
            (true, true) => ZSTD_e_flush,
        };
        let chunk = source.get(..filled).unwrap_or_default();
        feed(&mut context, chunk, directive, &mut target, output)?;
        if last {
            return Ok(());
        }
    }
}

/// Sets the parameters in the order of the command.
fn configure(context: &mut CCtx<'_>, settings: &Settings) -> Result<(), usize> {
    context.set_parameter(CParameter::ContentSizeFlag(settings.content_size))?;
    context.set_parameter(CParameter::ChecksumFlag(settings.checksum))?;
    context.set_parameter(CParameter::DictIdFlag(true))?;
    context.set_parameter(CParameter::CompressionLevel(settings.level))?;
    context.set_parameter(CParameter::EnableLongDistanceMatching(settings.long))?;
    if settings.window_log != 0 {
        context.set_parameter(CParameter::WindowLog(settings.window_log))?;
    }
    context.set_parameter(CParameter::NbWorkers(settings.workers))?;
    if settings.job_size != 0 {
        context.set_parameter(CParameter::JobSize(settings.job_size))?;
    }
    if let Some(size) = settings.pledged {
        // Older releases take a number, newer ones an Option of it: either can be made from a number.
        #[allow(clippy::useless_conversion, reason = "needed with some releases")]
        context.set_pledged_src_size(size.into())?;
    }
    Ok(())
}

/// Hands one chunk to libzstd and writes what comes out, one full buffer of output at a time.
fn feed(
    context: &mut CCtx<'_>,
    chunk: &[u8],
    directive: ZSTD_EndDirective,
    target: &mut [u8],
    output: &mut dyn Write,
) -> Result<(), Failure> {
    let mut source = InBuffer::around(chunk);
    loop {
        let mut sink = OutBuffer::around(&mut *target);
        let left = context
            .compress_stream2(&mut sink, &mut source, directive)
            .map_err(failed)?;
        let produced = sink.pos();
        output
            .write_all(target.get(..produced).unwrap_or_default())
            .map_err(Failure::Write)?;
        let open = matches!(directive, ZSTD_e_continue);
        if source.pos >= chunk.len() && (open || left == 0) {
            return Ok(());
        }
    }
}

fn failed(code: usize) -> Failure {
    Failure::Zstd(zstd_safe::get_error_name(code))
}

/// Reads until `buffer` is full or the input ends, as `fread` does.
fn fill(input: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
