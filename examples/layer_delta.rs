//! Makes a delta between two uncompressed layers, rebuilds the new one from it, and says what that took.
//!
//! Usage: `layer_delta OLD.tar NEW.tar OUTPUT [ENCODERS]`; ENCODERS is what `recipes/encoders/build.sh` filled.

#![allow(clippy::print_stdout, reason = "a tool that prints what it measures")]

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use bundle::delta::{Layer, Options, Spool, SpoolStore, make};
use bundle_delta::header::Header;
use bundle_delta::rebuild::rebuild;
use bundle_recipes::EncoderSet;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(Into::into).collect();
    let (old, new, output) = match arguments.as_slice() {
        [old, new, output, ..] => (old, new, output),
        _ => return Err("usage: layer_delta OLD.tar NEW.tar OUTPUT [ENCODERS]".into()),
    };
    let mut options = Options::default();
    if let Some(directory) = arguments.get(3) {
        options.recipes.limits.encoders = EncoderSet::in_directory(directory);
    }
    let spool = |path: &Path| Spool::read(File::open(path)?, &std::env::temp_dir());
    let (old, target) = (spool(old)?, spool(new)?);
    let sources = [Layer {
        spool: &old,
        target: None,
    }];

    let begin = Instant::now();
    let mut out = BufWriter::new(File::create(output)?);
    make(
        &target,
        &sources,
        &options,
        &bundle::progress::Silent,
        &mut out,
    )?;
    out.flush()?;
    let size = output.metadata()?.len();
    println!(
        "delta {size} bytes, made in {:.1} s",
        begin.elapsed().as_secs_f64()
    );

    let begin = Instant::now();
    let mut input = BufReader::new(File::open(output)?);
    let header = Header::read(&mut input, &Default::default())?;
    let store = SpoolStore::new(&header, &sources, &options);
    // The rebuild fails unless the result has the hash of the target.
    rebuild(&header, input, &store, &mut io::sink(), &Default::default())?;
    let (size, scratch) = (header.target_size, header.scratch);
    println!(
        "rebuilt {size} bytes in {:.1} s, with {scratch} bytes of scratch, out of {} files",
        begin.elapsed().as_secs_f64(),
        header.sources.len()
    );
    Ok(())
}
