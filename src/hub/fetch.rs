//! Downloads a file: an interrupted download is continued, and the content is checked before the file gets its name.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::client::{Answer, Client, Failure, Follow, broken, parse, passing};
use super::names::of_url;
use super::options::{RemoteOptions, Reuse, environment};
use crate::display::{Progress, bytes, check_stop};
use crate::error::{Error, Result};
use crate::files::{Existing, write_whole};

/// What is known of a file that was fetched, kept beside it.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    url: String,
    size: u64,
    sha256: String,
}

/// Which version of a file a part belongs to, kept beside it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Version {
    url: String,
    /// The server's name for it, which it is asked by.
    tag: Option<String>,
}

/// Downloads a file from a URL into the cache, and returns its path there.
///
/// A file that was fetched before is used again if its checksum is what it was; whether the address
/// has another one by now is not asked: [`Reuse::Never`] fetches it again. Progress is shown; what
/// breaks off goes on where it was, now or at the next call.
///
/// # Errors
/// If the address is none, if the server cannot be reached, refuses, or answers with a web page
/// instead of data, if the file is larger than allowed or not what it should be, or if the disk
/// refuses.
pub fn fetch_url(url: &str, options: &RemoteOptions) -> Result<PathBuf> {
    let client = Client::new(options)?;
    parse(url)?;
    let folder = options.downloads(&environment)?;
    std::fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, e))?;
    let path = folder.join(of_url(url));
    let about = beside(&path, "about.json");
    let _lock = lock(&beside(&path, "lock"))?;
    if options.reuse == Reuse::Checked && is_whole(&path, &about, url, options)? {
        return Ok(path);
    }
    if options.offline(&environment) {
        return Err(Error::state(format_args!("{url} was not fetched before, and network access is off"))
            .help("unset HF_HUB_OFFLINE, or set RemoteOptions::network"));
    }
    let wanted = Wanted { url, token: None, size: None, sha256: options.sha256.as_deref() };
    let done = fetch(&client, &wanted, &beside(&path, "part"), options)?;
    let known = About { url: url.to_string(), size: done.size, sha256: done.sha256 };
    let text = serde_json::to_vec_pretty(&known).map_err(|e| Error::compute(e).path(&about))?;
    // An old description must not stand beside a new file.
    let _ = std::fs::remove_file(&about);
    std::fs::rename(&done.path, &path).map_err(|e| Error::io(&path, e))?;
    write_whole(&about, &text, Existing::Replace)?;
    Ok(path)
}

/// Waits until no other process fetches the same file; until what is given is dropped none will.
pub(super) fn lock(path: &Path) -> Result<File> {
    let io = |e| Error::io(path, e);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path).map_err(io)?;
    file.lock().map_err(io)?;
    Ok(file)
}

/// A file whose name goes on.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Whether a file is there and is what it was when it was fetched.
fn is_whole(path: &Path, about: &Path, url: &str, options: &RemoteOptions) -> Result<bool> {
    let Ok(text) = std::fs::read(about) else { return Ok(false) };
    let Ok(known) = serde_json::from_slice::<About>(&text) else { return Ok(false) };
    let same = known.url == url && std::fs::metadata(path).is_ok_and(|file| file.len() == known.size);
    if !same || options.sha256.as_ref().is_some_and(|hash| !hash.eq_ignore_ascii_case(&known.sha256)) {
        return Ok(false);
    }
    let mut hash = Sha256::new();
    let mut file = File::open(path).map_err(|e| Error::io(path, e))?;
    std::io::copy(&mut file, &mut hash).map_err(|e| Error::io(path, e))?;
    Ok(hex(hash) == known.sha256)
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file that is to be fetched.
pub(super) struct Wanted<'a> {
    pub url: &'a str,
    pub token: Option<&'a str>,
    /// What is known of it before.
    pub size: Option<u64>,
    pub sha256: Option<&'a str>,
}

/// A file that was fetched and checked.
pub(super) struct Done {
    pub path: PathBuf,
    pub size: u64,
    pub sha256: String,
}

/// Fetches a file into `part`, and goes on where an earlier call broke off. The caller holds a lock.
pub(super) fn fetch(
    client: &Client,
    wanted: &Wanted<'_>,
    part: &Path,
    options: &RemoteOptions,
) -> Result<Done> {
    let io = |e| Error::io(part, e);
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(part).map_err(io)?;
    let mut fetching =
        Fetching { client, wanted, options, part, file: &mut file, hash: Sha256::new(), have: 0 };
    fetching.resume()?;
    let mut tries = 0;
    loop {
        check_stop()?;
        let before = fetching.have;
        let asked = fetching.ask();
        let (failure, after) = match asked {
            Ok(()) => break,
            Err(failure) => failure,
        };
        tries = if fetching.have > before { 1 } else { tries + 1 };
        if !failure.passing || tries > client.retries() {
            return Err(failure.error);
        }
        client.wait(tries, after.as_deref());
    }
    let (size, sha256) = (fetching.have, hex(fetching.hash));
    let _ = std::fs::remove_file(beside(part, "json"));
    if let Some(hash) = wanted.sha256.filter(|hash| !hash.eq_ignore_ascii_case(&sha256)) {
        file.set_len(0).map_err(io)?;
        return Err(Error::format(format_args!("{} has the SHA-256 {sha256}, not {hash}", wanted.url))
            .help("fetch it again; if the error remains, the file has changed"));
    }
    file.sync_all().map_err(io)?;
    Ok(Done { path: part.to_path_buf(), size, sha256 })
}

struct Fetching<'a> {
    client: &'a Client,
    wanted: &'a Wanted<'a>,
    options: &'a RemoteOptions,
    part: &'a Path,
    file: &'a mut File,
    /// Of the bytes so far.
    hash: Sha256,
    have: u64,
}

type Asked<T> = Result<T, (Failure, Option<String>)>;

fn lasting(error: Error) -> (Failure, Option<String>) {
    (error.into(), None)
}

impl Fetching<'_> {
    fn io(&self, error: std::io::Error) -> Error {
        Error::io(self.part, error)
    }

    /// Takes over the bytes of an earlier call.
    fn resume(&mut self) -> Result<()> {
        if self.version().is_none() {
            return self.restart();
        }
        self.have = std::io::copy(self.file, &mut self.hash).map_err(|e| self.io(e))?;
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.hash = Sha256::new();
        self.have = 0;
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map(drop)
            .map_err(|e| self.io(e))
    }

    /// The version that the part belongs to, if there is one that can be asked for.
    fn version(&self) -> Option<Version> {
        let text = std::fs::read(beside(self.part, "json")).ok()?;
        let version: Version = serde_json::from_slice(&text).ok()?;
        (version.url == self.wanted.url && version.tag.is_some()).then_some(version)
    }

    /// Asks for what is missing, and writes it.
    fn ask(&mut self) -> Asked<()> {
        let url = self.wanted.url;
        let mut headers = Vec::new();
        if let Some(tag) = self.version().and_then(|version| version.tag).filter(|_| self.have > 0) {
            headers.push(("range", format!("bytes={}-", self.have)));
            headers.push(("if-range", tag));
        } else if self.have > 0 {
            self.restart().map_err(lasting)?;
        }
        let mut answer = self
            .client
            .get(url, &headers, self.wanted.token, Follow::All)
            .map_err(|failure| (failure, None))?;
        match answer.status {
            200 => self.restart().map_err(lasting)?,
            206 if range(&answer).is_some_and(|(start, _)| start == self.have) => {}
            // The part is all of it, or of another file.
            416 if range(&answer).is_some_and(|(_, total)| total == Some(self.have)) && self.have > 0 => {
                return Ok(());
            }
            206 | 416 => {
                self.restart().map_err(lasting)?;
                let error = Error::format(format_args!(
                    "{url}: the server does not send the missing part of the file"
                ));
                return Err((Failure { error, passing: true }, None));
            }
            status => {
                let after = answer.header("retry-after").map(str::to_string);
                return Err((Failure { error: refused(url, status), passing: passing(status) }, after));
            }
        }
        self.write(&mut answer)
    }

    fn write(&mut self, answer: &mut Answer) -> Asked<()> {
        let url = self.wanted.url;
        // With an encoding on the way the length is not that of what arrives.
        let packed = answer.header("content-encoding").is_some_and(|encoding| encoding != "identity");
        let length =
            answer.header("content-length").filter(|_| !packed).and_then(|length| length.parse().ok());
        let total = match (range(answer), length) {
            (Some((_, Some(total))), _) if answer.status == 206 => Some(total),
            (_, length) => length.map(|length: u64| self.have.saturating_add(length)),
        };
        if let (Some(total), Some(size)) = (total, self.wanted.size)
            && total != size
        {
            return Err(lasting(
                Error::format(format_args!("{url} has {total} bytes, not {size} as announced"))
                    .help("try again later: it may be changing"),
            ));
        }
        let too_large = |size: u64| {
            lasting(
                Error::input(format_args!(
                    "{url} has {}, more than the {} allowed",
                    bytes(size),
                    bytes(self.options.max_bytes)
                ))
                .help("raise RemoteOptions::max_bytes"),
            )
        };
        if let Some(total) = total.filter(|&total| total > self.options.max_bytes) {
            return Err(too_large(total));
        }
        let too_large_now = too_large(self.options.max_bytes.saturating_add(1));
        let tag = ["etag", "last-modified"].iter().find_map(|name| answer.header(name));
        // A weak tag does not promise the same bytes.
        let tag = tag.filter(|tag| !tag.starts_with("W/") && !packed).map(str::to_string);
        let version = Version { url: url.to_string(), tag };
        let text = serde_json::to_vec(&version).map_err(|e| lasting(Error::compute(e)))?;
        write_whole(&beside(self.part, "json"), &text, Existing::Replace).map_err(lasting)?;

        let name = url.split(['?', '#']).next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let mut progress = Progress::new(format!("fetching {name}, kB"), total.unwrap_or(0) / 1000);
        progress.advance(self.have / 1000, "");
        let page =
            answer.header("content-type").is_some_and(|kind| kind.trim_start().starts_with("text/html"));
        let mut buffer = vec![0; 1 << 16];
        loop {
            let least = if self.have == 0 { BEGIN } else { 1 };
            let (read, failed) = fill(&mut answer.body, &mut buffer, least);
            if let (0, Some(e)) = (read, &failed) {
                return Err((Failure { error: broken(url, e), passing: true }, None));
            }
            if read == 0 {
                break;
            }
            if self.have == 0 && (page || is_page(&buffer[..read])) {
                return Err(lasting(
                    Error::format(format_args!("{url} gives a web page, not data"))
                        .help("take the address of the file itself: on the hub `resolve` instead of `blob`"),
                ));
            }
            if self.have + read as u64 > self.options.max_bytes {
                return Err(too_large_now);
            }
            self.file.write_all(&buffer[..read]).map_err(|e| lasting(self.io(e)))?;
            self.hash.update(&buffer[..read]);
            let done = (self.have + read as u64) / 1000 - self.have / 1000;
            self.have += read as u64;
            progress.try_advance(done, "").map_err(lasting)?;
            if let Some(e) = failed {
                return Err((Failure { error: broken(url, &e), passing: true }, None));
            }
        }
        match total.or(self.wanted.size) {
            Some(total) if self.have < total => {
                let ended = std::io::Error::other(format!("{} of {total} bytes arrived", self.have));
                Err((Failure { error: broken(url, &ended), passing: true }, None))
            }
            Some(total) if self.have > total => {
                self.restart().map_err(lasting)?;
                let error =
                    Error::format(format_args!("{url} has more than the {total} bytes that the server said"));
                Err((Failure { error, passing: true }, None))
            }
            _ => Ok(()),
        }
    }
}

/// Where a part begins, and the length of the whole: `bytes 5-9/10`, `bytes */10`.
fn range(answer: &Answer) -> Option<(u64, Option<u64>)> {
    let (part, total) = answer.header("content-range")?.trim().strip_prefix("bytes ")?.split_once('/')?;
    let start = part.split('-').next().and_then(|start| start.parse().ok()).unwrap_or(0);
    Some((start, total.parse().ok()))
}

/// Bytes that tell a page from data.
const BEGIN: usize = 512;

/// Reads at least `least` bytes, unless the body ends or breaks off before: a server may send its
/// first bytes alone.
fn fill(body: &mut impl Read, buffer: &mut [u8], least: usize) -> (usize, Option<std::io::Error>) {
    let mut have = 0;
    while have < least {
        match body.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return (have, Some(e)),
        }
    }
    (have, None)
}

/// Whether the bytes begin a page.
fn is_page(bytes: &[u8]) -> bool {
    let begin = bytes.trim_ascii_start();
    let begins =
        |tag: &str| begin.get(..tag.len()).is_some_and(|bytes| bytes.eq_ignore_ascii_case(tag.as_bytes()));
    begins("<!doctype html") || begins("<html")
}

fn refused(url: &str, status: u16) -> Error {
    match status {
        404 | 410 => Error::not_found(format_args!("{url}: there is no such file")).help("check the address"),
        401 | 403 => Error::input(format_args!("{url}: the server refuses ({status})"))
            .help("the file may need an account: fetch it with a browser and open it from the disk"),
        status => Error::format(format_args!("{url}: the server answers {status}")).help("try again later"),
    }
}
