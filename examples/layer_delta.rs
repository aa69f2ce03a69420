//! Makes a delta between two uncompressed layers, or rebuilds the new one from it, and says what that took.
//!
//!     layer_delta make OLD.tar NEW.tar DELTA [ENCODERS]
//!     layer_delta rebuild OLD.tar DELTA [ENCODERS]
//!
//! ENCODERS is what `recipes/encoders/build.sh` filled. Run under `/usr/bin/time -v` for processor time and memory.

#![allow(clippy::print_stdout, reason = "a tool that prints what it measures")]

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::time::Instant;

use bundle::delta::{Layer, Options, Spool, SpoolStore, make};
use bundle::progress::Silent;
use bundle_delta::header::Header;
use bundle_delta::rebuild::rebuild;
use bundle_recipes::EncoderSet;
use rustix::time::{ClockId, clock_gettime};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["make", old, new, delta, rest @ ..] => make_delta(old, new, delta, &options(rest)),
        ["rebuild", old, delta, rest @ ..] => rebuild_layer(old, delta, &options(rest)),
        _ => Err(
            "usage: layer_delta make OLD NEW DELTA [ENCODERS] | rebuild OLD DELTA [ENCODERS]"
                .into(),
        ),
    }
}

fn options(rest: &[&str]) -> Options {
    let mut options = Options::default();
    if let [directory, ..] = rest {
        options.recipes.limits.encoders = EncoderSet::in_directory(Path::new(directory));
    }
    options.with_target_memory(400 << 20)
}

fn spool(path: &str) -> io::Result<Spool> {
    Spool::read(File::open(path)?, &std::env::temp_dir())
}

fn make_delta(old: &str, new: &str, delta: &str, options: &Options) -> Result<(), Box<dyn Error>> {
    let (old, target) = (spool(old)?, spool(new)?);
    let sources = [Layer {
        spool: &old,
        target: None,
    }];
    let begin = Instant::now();
    let mut out = BufWriter::new(File::create(delta)?);
    make(&target, &sources, options, &Silent, &mut out)?;
    out.flush()?;
    let size = Path::new(delta).metadata()?.len();
    println!("{size} bytes in {:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

fn rebuild_layer(old: &str, delta: &str, options: &Options) -> Result<(), Box<dyn Error>> {
    let old = spool(old)?;
    let sources = [Layer {
        spool: &old,
        target: None,
    }];
    let (begin, before) = (Instant::now(), processor_seconds());
    let mut input = BufReader::new(File::open(delta)?);
    let header = Header::read(&mut input, &Default::default())?;
    let store = SpoolStore::new(&header, &sources, options);
    // The rebuild fails unless the result has the hash of the target.
    rebuild(&header, input, &store, &mut io::sink(), &Default::default())?;
    let (seconds, used) = (begin.elapsed().as_secs_f64(), processor_seconds() - before);
    let speed = header.target_size as f64 / used / 1e6;
    println!(
        "{} bytes in {seconds:.1} s, {speed:.0} MB for each second of one processor, out of {} files",
        header.target_size,
        header.sources.len()
    );
    Ok(())
}

/// Returns the time of processors that this process took; helper programs are not in it.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
