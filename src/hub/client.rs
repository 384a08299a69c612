//! HTTP requests: redirects are followed by hand, so that no credentials leak and no connection is downgraded.

use std::io::Read;
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::http::{HeaderMap, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use super::options::RemoteOptions;
use crate::display::stop_requested;
use crate::error::{Error, Result};

const REDIRECTS: usize = 10;
/// Time between two looks at the stop button.
const LOOK: Duration = Duration::from_millis(50);

pub(super) struct Client {
    agent: Agent,
    retries: u32,
    pause: f64,
}

/// What a server answered.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Box<dyn Read>,
    /// Headers of all answers on the way, the first one first.
    pub way: Vec<HeaderMap>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Why there is no answer, and whether asking again may help.
pub(super) struct Failure {
    pub error: Error,
    pub passing: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, passing: false }
    }
}

/// How far redirects are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    All,
    /// Not to another host: the last answer of this one is given, redirect or not.
    SameHost,
}

impl Client {
    pub fn new(options: &RemoteOptions) -> Result<Self> {
        options.check()?;
        let timeout = Some(Duration::from_secs_f64(options.timeout.max(0.001)));
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // What is packed on the way cannot be gone on with in the middle.
            .accept_encoding("identity")
            .user_agent(concat!("lorascope/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_recv_response(timeout)
            .timeout_per_read(timeout);
        if let Some(path) = super::options::environment("SSL_CERT_FILE") {
            config = config.tls_config(TlsConfig::builder().root_certs(own_roots(&path)?).build());
        }
        Ok(Self { agent: config.build().new_agent(), retries: options.retries, pause: options.pause })
    }

    /// Waits before asking for the `n`th time again, counted from 1.
    pub fn wait(&self, n: u32, answer: Option<&str>) {
        let own = self.pause * 2f64.powi(n.saturating_sub(1).min(16) as i32);
        let asked = answer.and_then(|text| text.trim().parse().ok()).unwrap_or(0.0);
        let until = Instant::now() + Duration::from_secs_f64(own.max(asked).clamp(0.0, 60.0));
        while !stop_requested() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    pub fn retries(&self) -> u32 {
        self.retries
    }

    /// Asks once. The token goes to the first host only.
    pub fn get(
        &self,
        url: &str,
        headers: &[(&str, String)],
        token: Option<&str>,
        follow: Follow,
    ) -> Result<Answer, Failure> {
        let begun = parse(url)?;
        let mut here = begun.clone();
        let mut way = Vec::new();
        loop {
            let mut request = self.agent.get(&here);
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            if let Some(token) = token.filter(|_| origin(&here) == origin(&begun)) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let (head, body) = request.call().map_err(|e| failed(&here, e))?.into_parts();
            let status = head.status.as_u16();
            way.push(head.headers.clone());
            let location = head.headers.get("location").and_then(|to| to.to_str().ok());
            let next = match location {
                Some(to) if matches!(status, 301 | 302 | 303 | 307 | 308) => Some(join(&here, to)?),
                _ => None,
            };
            let elsewhere = next.as_ref().is_some_and(|next| origin(next) != origin(&here));
            match next {
                Some(next) if !(follow == Follow::SameHost && elsewhere) => {
                    stays_secret(&here, &next)?;
                    if way.len() > REDIRECTS {
                        return Err(Error::format(format_args!("{url} redirects without end"))
                            .help("look at the address in a browser")
                            .into());
                    }
                    here = next;
                }
                _ => {
                    let body = Box::new(body.into_reader());
                    return Ok(Answer { status, headers: head.headers, body, way });
                }
            }
        }
    }

    /// Asks for a text, again where that may help.
    pub fn text(&self, url: &str, token: Option<&str>) -> Result<(u16, HeaderMap, String)> {
        const LARGEST: u64 = 64 << 20;
        let mut tries = 0;
        loop {
            let asked = self.get(url, &[], token, Follow::All).and_then(|mut answer| {
                let mut text = Vec::new();
                let read = (&mut answer.body).take(LARGEST).read_to_end(&mut text);
                read.map_err(|e| Failure { error: broken(url, &e), passing: true })?;
                Ok((answer.status, answer.headers, String::from_utf8_lossy(&text).into_owned()))
            });
            tries += 1;
            match asked {
                Ok((status, headers, _)) if passing(status) && tries <= self.retries => {
                    self.wait(tries, headers.get("retry-after").and_then(|after| after.to_str().ok()));
                }
                Ok(found) => return Ok(found),
                Err(failure) if failure.passing && tries <= self.retries => self.wait(tries, None),
                Err(failure) => return Err(failure.error),
            }
        }
    }
}

/// Whether a status may be another one the next time.
pub(super) fn passing(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Certificates of a file, for networks that have their own.
fn own_roots(path: &str) -> Result<RootCerts> {
    let pem = std::fs::read(path).map_err(|e| Error::io(path, e))?;
    let roots: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if roots.is_empty() {
        return Err(Error::format("SSL_CERT_FILE holds no certificate")
            .path(path)
            .help("unset it, or repair the file"));
    }
    Ok(RootCerts::new_with_certs(&roots))
}

/// A way that begins encrypted stays so.
fn stays_secret(here: &Uri, next: &Uri) -> Result<()> {
    if here.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
        return Err(Error::input(format_args!("{} redirects from https to {}", shown(here), shown(next)))
            .help("fetch that address yourself if you trust the redirect"));
    }
    Ok(())
}

/// The address, without what may be secret in it.
fn shown(uri: &Uri) -> String {
    format!(
        "{}://{}{}",
        uri.scheme_str().unwrap_or_default(),
        uri.authority().map_or("", |a| a.as_str()),
        uri.path()
    )
}

pub(super) fn parse(url: &str) -> Result<Uri> {
    let bad = |what: &str| {
        Error::input(format_args!("`{url}` {what}"))
            .help("give an address that begins with https:// or http://")
    };
    // Letters of other scripts and blanks are written in percent signs.
    let escape = |c: char| match c {
        '!'..='~' => c.to_string(),
        c => c.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect(),
    };
    let escaped: String = url.trim().chars().map(escape).collect();
    let escaped = escaped.split('#').next().unwrap_or_default();
    let uri: Uri = escaped.parse().map_err(|_| bad("is no address"))?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        _ => return Err(bad("is not a web address")),
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err(Error::input("the address holds a name and a password").help("give it without them"))
        }
        Some(authority) if !authority.host().is_empty() => Ok(uri),
        _ => Err(bad("names no host")),
    }
}

/// Scheme, host and port.
fn origin(uri: &Uri) -> (String, String, u16) {
    let scheme = uri.scheme_str().unwrap_or_default().to_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    (scheme, uri.host().unwrap_or_default().to_lowercase(), port)
}

/// Where a redirect leads.
fn join(here: &Uri, to: &str) -> Result<Uri> {
    let scheme = here.scheme_str().unwrap_or("https");
    let authority = here.authority().map_or("", |authority| authority.as_str());
    let url = if to.contains("://") {
        to.to_string()
    } else if let Some(rest) = to.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if to.starts_with('/') {
        format!("{scheme}://{authority}{to}")
    } else {
        let folder = here.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{to}")
    };
    parse(&url)
}

fn failed(uri: &Uri, error: ureq::Error) -> Failure {
    use ureq::Error as E;
    let passing =
        matches!(error, E::Io(_) | E::Timeout(_) | E::HostNotFound | E::ConnectionFailed | E::Protocol(_));
    let what = match &error {
        E::HostNotFound => "there is no such host".to_string(),
        E::Timeout(_) => "the server does not answer".to_string(),
        other => other.to_string(),
    };
    let error = Error::io(shown(uri), std::io::Error::other(what)).help("check the address and the network");
    Failure { error, passing }
}

pub(super) fn broken(url: &str, error: &std::io::Error) -> Error {
    Error::io(url, std::io::Error::other(format!("the connection broke off: {error}")))
        .help("try again: it goes on where it was")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let joined = |to: &str| join(&parse("https://h:1/a/b?c").unwrap(), to).map(|uri| uri.to_string());
        assert_eq!(joined("/x").unwrap(), "https://h:1/x");
        assert_eq!(joined("x?y").unwrap(), "https://h:1/a/x?y");
        assert_eq!(joined("//o/x").unwrap(), "https://o/x");
        assert_eq!(joined("http://o/x").unwrap(), "http://o/x");
        assert!(joined("file:///etc/passwd").is_err());
        assert_eq!(parse("http://h/数 a#b").unwrap().to_string(), "http://h/%E6%95%B0%20a");
        let (secret, open) = (parse("https://h/x?token=1").unwrap(), parse("http://h/x").unwrap());
        assert!(stays_secret(&open, &secret).is_ok() && stays_secret(&open, &open).is_ok());
        let error = stays_secret(&secret, &open).unwrap_err().to_string();
        assert!(error.starts_with("https://h/x redirects from https to http://h/x;"), "{error}");
        for bad in ["", "h/x", "ftp://h/x", "file:///x", "http://", "http://u:p@h/x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
