//! Finds the parameters with which a libzstd at hand gives a frame's very bytes.
//!
//! The header tells the checksum, the window and whether the size was known. The level, the release and the mode are
//! tried: first on the beginning of the content, where almost every wrong one fails within milliseconds, then on all of it.
//! Only a whole encoding that came out right counts.
//!
//! Threats: frames made to keep the search busy. Defences: probes are of one megabyte, whole encodings are counted, and
//! parameters that need more memory than allowed are not tried.

use super::frame::{self, Header};
use super::{Version, ZstdParams, levels};
use crate::sink::Match;
use crate::{Options, Shape};

/// Bytes of content that a probe encodes: two of the 512 KiB chunks of a job, so that no block is cut short.
const PROBE: usize = 1 << 20;

/// Decodes the frame at the beginning of `bytes` to the end of `inner` and finds its parameters.
///
/// Returns the frame's length, and the parameters if there are any. `None`: it is no frame that can be decoded.
pub(crate) fn open(
    bytes: &[u8],
    inner: &mut Vec<u8>,
    options: &Options,
) -> Option<Shape<ZstdParams>> {
    let header = frame::parse(bytes)?;
    let start = inner.len();
    let length = frame::decode(bytes, &header, inner, options)?;
    let (frame, content) = (bytes.get(..length)?, inner.get(start..)?);
    Some(Shape {
        length,
        params: search(frame, content, &header, options),
    })
}

fn search(frame: &[u8], content: &[u8], header: &Header, options: &Options) -> Option<ZstdParams> {
    let mut left = options.attempts;
    let probing = content.len() > PROBE;
    for params in candidates(header, content.len(), options) {
        if params.memory(content.len() as u64, 1) > options.limits.memory {
            continue;
        }
        if probing && !probe(&params, frame, content, options) {
            continue;
        }
        if proves(&params, frame, content, options) {
            return Some(params);
        }
        if probing {
            left = left.saturating_sub(1);
            if left == 0 {
                return None;
            }
        }
    }
    None
}

/// Everything that the header allows, the likeliest first.
fn candidates<'a>(
    header: &Header,
    length: usize,
    options: &'a Options,
) -> impl Iterator<Item = ZstdParams> + use<'a> {
    let Header {
        window_log,
        content,
        checksum,
    } = *header;
    let pledged = content.is_some();
    let own =
        move |level: &u8| window_log.is_none_or(|log| levels::window_log(*level) == Some(log));
    // Known to be small: libzstd uses no workers, and both modes are the same.
    let modes: &[bool] = if pledged && length <= 512 << 10 {
        &[false]
    } else {
        &[true, false]
    };
    let plain = levels::BY_LIKELIHOOD
        .into_iter()
        .filter(own)
        .map(|level| (level, 0, false));
    // `--long`, and other windows that are no level's.
    let forced = window_log
        .filter(|log| *log == 27 || !(1..=22).any(|level| levels::window_log(level) == Some(*log)));
    let long = forced.into_iter().flat_map(|log| {
        let all = |long| {
            levels::BY_LIKELIHOOD
                .into_iter()
                .map(move |level| (level, log, long))
        };
        all(true).chain(all(false))
    });
    plain
        .chain(long)
        .flat_map(move |(level, window_log, long)| {
            versions(options).flat_map(move |version| {
                modes.iter().map(move |workers| ZstdParams {
                    version,
                    level,
                    workers: *workers,
                    checksum,
                    pledged,
                    content_size: true,
                    window_log,
                    long,
                })
            })
        })
}

fn versions(options: &Options) -> impl Iterator<Item = Version> + use<'_> {
    Version::KNOWN
        .into_iter()
        .filter(|version| options.limits.encoders.has(*version))
}

/// Whether the beginning of the content becomes the beginning of the frame.
fn probe(params: &ZstdParams, frame: &[u8], content: &[u8], options: &Options) -> bool {
    let length = content.len() as u64;
    let mut settings = params.settings(length, 1);
    settings.probe = true;
    if params.workers {
        // The first job of any size begins the same; a small one is soon done.
        settings.job_size = PROBE as u32;
    }
    let Some(mut beginning) = content.get(..PROBE) else {
        return false;
    };
    let mut sink = Match::new(frame);
    let run = params.run(
        &settings,
        length,
        &mut beginning,
        &mut sink,
        &options.limits,
    );
    run.is_ok() && sink.missing() < frame.len()
}

/// Whether the content becomes the frame, with the encoder and the settings of applying.
fn proves(params: &ZstdParams, frame: &[u8], mut content: &[u8], options: &Options) -> bool {
    let mut sink = Match::new(frame);
    let length = content.len() as u64;
    params
        .encode(length, &mut content, &mut sink, &options.limits)
        .is_ok()
        && sink.missing() == 0
}
