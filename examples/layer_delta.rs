//! Makes a delta between two tar files, rebuilds the new one from it, and says what that took.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool")]
use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::time::Instant;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let dir = std::path::Path::new("/tmp");
    let spool = |path: &str| bundle::delta::Spool::read(File::open(path).unwrap(), dir).unwrap();
    let begin = Instant::now();
    let bases = [spool(&args[1])];
    let target = spool(&args[2]);
    println!("spooled {} and {} files in {:?}", bases[0].files().len(), target.files().len(), begin.elapsed());
    let begin = Instant::now();
    let mut out = BufWriter::new(File::create(&args[3]).unwrap());
    bundle::delta::make(&target, &bases, &bundle::delta::Options::default(), &bundle::progress::Silent, &mut out).unwrap();
    out.flush().unwrap();
    println!("made {} bytes in {:?}", File::open(&args[3]).unwrap().metadata().unwrap().len(), begin.elapsed());
    let begin = Instant::now();
    let mut input = BufReader::new(File::open(&args[3]).unwrap());
    let header = bundle_delta::header::Header::read(&mut input, &Default::default()).unwrap();
    let store = bundle::delta::SpoolStore::new(&header, &bases);
    println!("{} sources, {} missing", header.sources.len(), store.missing().count());
    let mut sink = std::io::sink();
    bundle_delta::rebuild::rebuild(&header, input, &store, &mut sink, &Default::default()).unwrap();
    println!("rebuilt {} bytes in {:?}", header.target_size, begin.elapsed());
}
