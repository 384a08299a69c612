//! A small server that answers as it is told, also badly.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug, Clone, Default)]
pub struct Request {
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Where the client wants to go on.
    pub fn start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }
}

#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Bytes of the body that are sent before the connection is closed.
    cut: usize,
    /// Waits in the middle of the body.
    wait: Duration,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let headers = vec![("content-length".to_string(), body.len().to_string())];
        Self { status, headers, cut: body.len(), body, wait: Duration::ZERO }
    }

    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_string(), value.to_string()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub fn cut(mut self, at: usize) -> Self {
        self.cut = at;
        self
    }

    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    pub fn redirect(status: u16, to: impl ToString) -> Self {
        Self::new(status, "").with("location", to)
    }

    /// A whole file, or its rest where the client has the begin of this version.
    pub fn file(body: &[u8], tag: &str, request: &Request) -> Self {
        match request.start() {
            Some(start) if request.header("if-range").is_none_or(|asked| asked == tag) => {
                let range = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
                Self::new(206, &body[start..]).with("content-range", range).with("etag", tag)
            }
            _ => Self::new(200, body).with("etag", tag),
        }
    }

    fn send(&self, mut to: &TcpStream) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Status\r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        to.write_all(head.as_bytes())?;
        to.write_all(b"\r\n")?;
        let body = &self.body[..self.cut];
        let (first, second) = body.split_at(body.len() / 2);
        to.write_all(first)?;
        to.flush()?;
        std::thread::sleep(self.wait);
        to.write_all(second)
    }
}

/// Answers one request after the other, given its number from 0, until the process ends; one that waits keeps
/// nobody else waiting.
pub struct Server {
    pub url: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    pub fn new(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                let number = {
                    let mut log = log.lock().unwrap();
                    log.push(request.clone());
                    log.len() - 1
                };
                let reply = answer(&request, number);
                // A client that goes away in the middle is no fault of the server.
                let reply_waits = !reply.wait.is_zero();
                let send = move || drop(reply.send(&stream));
                if reply_waits { drop(std::thread::spawn(send)) } else { send() }
            }
        });
        Self { url, seen }
    }

    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_string();
    let mut headers = Vec::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_string()));
    }
    Some(Request { path, headers })
}
