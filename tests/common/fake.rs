//! An HTTP server that misbehaves on demand.
//!
//! Every connection carries one request. A TLS greeting is answered by closing, as clear-text
//! servers do, so that clients without verification fall back to http.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A request as it arrived; header names in lower case.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    /// Returns a header, or nothing.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Returns the first byte of a `Range: bytes=N-`, or 0.
    pub fn start(&self) -> usize {
        self.header("range")
            .and_then(|range| range.strip_prefix("bytes="))
            .and_then(|range| range.split('-').next())
            .map_or(0, |start| start.parse().unwrap())
    }
}

/// What happens after the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Close,
    Stall,
    Endless,
}

/// A response.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    length: Option<u64>,
    ending: Ending,
}

impl Reply {
    /// Starts an empty response.
    pub fn new(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            length: None,
            ending: Ending::Close,
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the body and, unless set already, its length.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.length = self.length.or(Some(self.body.len() as u64));
        self
    }

    /// Announces another length than the body has.
    pub fn length(mut self, length: u64) -> Self {
        self.length = Some(length);
        self
    }

    /// Announces no length.
    pub fn unframed(mut self) -> Self {
        self.length = None;
        self
    }

    /// Keeps the connection open in silence after the body.
    pub fn stall(mut self) -> Self {
        self.ending = Ending::Stall;
        self
    }

    /// Sends bytes for ever after the body.
    pub fn endless(mut self) -> Self {
        self.length = None;
        self.ending = Ending::Endless;
        self
    }
}

/// A running server, stopped on drop.
pub struct FakeServer {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeServer {
    /// Starts a server that answers `GET /v2/` with 200 and all else with `handler`.
    ///
    /// The handler also gets the number of earlier requests, `/v2/` not counted.
    pub fn start(handler: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let stopping: Arc<AtomicBool> = Arc::default();
        let (log, stop, handler) = (
            Arc::clone(&requests),
            Arc::clone(&stopping),
            Arc::new(handler),
        );
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (log, stop, handler) = (Arc::clone(&log), Arc::clone(&stop), handler.clone());
                thread::spawn(move || {
                    // A client that hangs up is part of the game.
                    let _ = serve(stream?, &log, &stop, &*handler);
                    Ok::<_, std::io::Error>(())
                });
            }
        });
        Self {
            port,
            requests,
            stopping,
            thread: Some(thread),
        }
    }

    /// Returns host and port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the requests so far, `/v2/` left out.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the accept.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    stream: TcpStream,
    log: &Mutex<Vec<Request>>,
    stopping: &AtomicBool,
    handler: &dyn Fn(&Request, usize) -> Reply,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    if reader.fill_buf()?.first() == Some(&0x16) {
        return Ok(());
    }
    let mut request = read_request(&mut reader)?;
    if request.method == "CONNECT" {
        // As a proxy, this server is also every host behind it.
        log.lock().unwrap().push(request);
        (&stream).write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
        request = read_request(&mut reader)?;
    }
    let reply = if request.target == "/v2/" {
        Reply::new(200).body("{}")
    } else {
        let mut log = log.lock().unwrap();
        let earlier = log.len();
        log.push(request.clone());
        drop(log);
        handler(&request, earlier)
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {} Test\r\nConnection: close\r\n",
        reply.status
    )?;
    if let Some(length) = reply.length {
        write!(stream, "Content-Length: {length}\r\n")?;
    }
    for (name, value) in &reply.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    stream.write_all(&reply.body)?;
    match reply.ending {
        Ending::Close => {}
        Ending::Stall => {
            while !stopping.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ending::Endless => loop {
            stream.write_all(&[b' '; 64 << 10])?;
        },
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Request> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Request {
        method,
        target,
        headers,
        body,
    })
}
