//! A registry in a thread that serves one OCI layout, as slowly as a test wants it.
//!
//! It knows just enough of the protocol for an export: manifests, blobs with ranges, no referrers.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bundle_format::media_type;

/// Bytes between two rests.
const PART: usize = 64 << 10;
const REST: Duration = Duration::from_millis(40);

pub(crate) struct Registry {
    pub(crate) address: String,
    pub(crate) slow: Arc<AtomicBool>,
    /// First bytes that were asked for, of every request for a part of a blob.
    pub(crate) ranges: Arc<Mutex<Vec<u64>>>,
}

impl Registry {
    /// Serves `layout`, whose first manifest answers to every tag.
    pub(crate) fn serve(layout: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let registry = Self {
            address: listener.local_addr().unwrap().to_string(),
            slow: Arc::new(AtomicBool::new(true)),
            ranges: Arc::default(),
        };
        let (slow, ranges) = (Arc::clone(&registry.slow), Arc::clone(&registry.ranges));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (layout, slow, ranges) = (layout.clone(), slow.clone(), ranges.clone());
                // A client that was killed breaks its connection: nobody's business here.
                thread::spawn(move || answer(stream.unwrap(), &layout, &slow, &ranges).ok());
            }
        });
        registry
    }
}

fn answer(
    mut stream: TcpStream,
    layout: &std::path::Path,
    slow: &AtomicBool,
    ranges: &Mutex<Vec<u64>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut start = 0_usize;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            start = range.trim_end_matches('-').parse().unwrap();
            ranges.lock().unwrap().push(start as u64);
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (kind, name) = match path.rsplit_once('/') {
        Some((rest, name)) if rest.ends_with("/manifests") => ("manifests", name),
        Some((rest, name)) if rest.ends_with("/blobs") => ("blobs", name),
        _ => ("", ""),
    };
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.join("index.json"))?).unwrap();
    let image = index["manifests"][0]["digest"].as_str().unwrap();
    let digest = match (kind, name) {
        ("", _) if path == "/v2/" => return write!(stream, "{}", head("200 OK", "text/plain", 0)),
        ("manifests", name) if !name.starts_with("sha256") => image,
        ("manifests" | "blobs", name) => name,
        _ => "sha256:none",
    };
    let blob = layout.join("blobs").join(digest.replace(':', "/"));
    let Ok(bytes) = fs::read(blob) else {
        let body = r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#;
        return write!(
            stream,
            "{}{body}",
            head("404 Not Found", "application/json", body.len())
        );
    };
    let (status, kind_of_body, extra) = match (kind, start) {
        ("manifests", _) => ("200 OK", media_type::OCI_MANIFEST, String::new()),
        (_, 0) => ("200 OK", "application/octet-stream", String::new()),
        (_, start) => (
            "206 Partial Content",
            "application/octet-stream",
            format!(
                "Content-Range: bytes {start}-{}/{}\r\n",
                bytes.len() - 1,
                bytes.len()
            ),
        ),
    };
    let rest = &bytes[start..];
    let head = head(status, kind_of_body, rest.len());
    let head = head.trim_end_matches("\r\n");
    write!(
        stream,
        "{head}\r\n{extra}Docker-Content-Digest: {digest}\r\n\r\n"
    )?;
    if request.starts_with("HEAD") {
        return Ok(());
    }
    for part in rest.chunks(PART) {
        stream.write_all(part)?;
        if slow.load(Ordering::Relaxed) && rest.len() > PART {
            thread::sleep(REST);
        }
    }
    Ok(())
}

fn head(status: &str, media_type: &str, length: usize) -> String {
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {media_type}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}
