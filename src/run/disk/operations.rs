//! Every operation by which a run reaches the disk. What is written appears whole or not at all:
//! under a temporary name beside its place, flushed, then renamed.

use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::OnceLock;
use xxhash_rust::xxh3::Xxh3;

/// The prefix of files and folders that are not complete yet.
pub(crate) const PARTIAL: &str = ".partial-";

/// An operation on the disk.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Write,
    /// A look at how much room there is.
    Room,
    Sync,
    Rename,
    Remove,
}

/// What a test does before each operation: ends the process, or reports a full disk.
type Hook = fn(Operation, &Path) -> io::Result<()>;

static HOOK: OnceLock<Hook> = OnceLock::new();

/// Sets what is done before each operation; for tests, once in a process.
#[doc(hidden)]
pub fn before_each_operation(hook: Hook) {
    let _ = HOOK.set(hook); // the first one stays
}

fn before(operation: Operation, path: &Path) -> io::Result<()> {
    HOOK.get().map_or(Ok(()), |hook| hook(operation, path))
}

fn write(file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    // In two parts, so that a test can stop between them.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for part in [first, second] {
        before(Operation::Write, path)?;
        file.write_all(part)?;
    }
    Ok(())
}

fn sync(file: &File, path: &Path) -> io::Result<()> {
    before(Operation::Sync, path)?;
    file.sync_all()
}

/// A new file while it is written, piece by piece.
pub(crate) struct Writing<'a> {
    file: File,
    path: &'a Path,
    /// Bytes that it will have, and bytes that it has.
    length: u64,
    done: u64,
    hash: Xxh3,
}

impl Writing<'_> {
    /// Writes a piece.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let after = self.done + bytes.len() as u64;
        // At the begin and in the middle, so that a test can stop there.
        let part = self.done == 0 || (self.done < self.length / 2 && after >= self.length / 2);
        let put = if part { before(Operation::Write, self.path) } else { Ok(()) };
        put.and_then(|()| self.file.write_all(bytes)).map_err(|e| Error::io(self.path, e))?;
        self.hash.update(bytes);
        self.done = after;
        Ok(())
    }
}

/// Writes a new file of this many bytes, flushed to the disk, and returns its checksum.
pub(crate) fn written(
    path: &Path,
    length: u64,
    content: impl FnOnce(&mut Writing) -> Result<()>,
) -> Result<String> {
    let file = File::create_new(path).map_err(|e| Error::io(path, e))?;
    let mut writing = Writing { file, path, length, done: 0, hash: Xxh3::new() };
    content(&mut writing)?;
    sync(&writing.file, path).map_err(|e| Error::io(path, e))?;
    Ok(format!("{:032x}", writing.hash.digest128()))
}

/// The checksum of a file: XXH3, 128 bits in hexadecimal. It is read in pieces.
pub(crate) fn checksum(path: &Path) -> Result<String> {
    let mut piece = vec![0; 1 << 20];
    let summed = File::open(path).and_then(|mut file| {
        let mut hash = Xxh3::new();
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Ok(hash.digest128()),
                Ok(read) => hash.update(&piece[..read]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    });
    summed.map(|sum| format!("{sum:032x}")).map_err(|e| Error::io(path, e))
}

/// Writes a new file, flushed to the disk, and returns its checksum.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<String> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    written(path, bytes.len() as u64, |file| file.put(first).and_then(|()| file.put(second)))
}

/// The free bytes on the disk of this folder; `u64::MAX` where the system does not tell.
pub(crate) fn room(folder: &Path) -> io::Result<u64> {
    before(Operation::Room, folder)?;
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt as _;
        let path = std::ffi::CString::new(folder.as_os_str().as_bytes())?;
        let mut found = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
        // SAFETY: the path ends in a zero, and the structure is as large as the system expects.
        if unsafe { libc::statvfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: zeroed before, and filled by the call.
        let found = unsafe { found.assume_init() };
        #[allow(clippy::unnecessary_cast, reason = "of 32 bits on some systems")]
        let (blocks, size) = (found.f_bavail as u64, found.f_frsize as u64);
        Ok(blocks.saturating_mul(size))
    }
    #[cfg(not(unix))]
    Ok(u64::MAX)
}

/// Replaces a file: it has the old content until it has the new one.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = partial(0o666).tempfile_in(folder).and_then(|mut file| {
        write(file.as_file_mut(), path, bytes)?;
        sync(file.as_file(), path)?;
        before(Operation::Rename, path)?;
        file.persist(path)?;
        sync_folder(folder)
    });
    written.map_err(|e| Error::io(path, e))
}

/// Makes temporary files and folders with the permissions of others: the user's umask decides who may read them.
pub(crate) fn partial(mode: u32) -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    builder.prefix(PARTIAL);
    builder
}

/// Appends to a file, which stays as it was where that fails. It is not flushed.
pub(crate) fn append(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::options().create(true).append(true).open(path).and_then(|mut file| {
        let before = file.metadata()?.len();
        write(&mut file, path, bytes).inspect_err(|_| {
            let _ = file.set_len(before);
        })
    });
    written.map_err(|e| Error::io(path, e))
}

/// Flushes a file that may not be there.
pub(crate) fn flush(path: &Path) -> Result<()> {
    match File::options().append(true).open(path).and_then(|file| sync(&file, path)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    }
}

/// Moves a complete folder to its place.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(Path::new("."));
    let moved =
        before(Operation::Rename, to).and_then(|()| fs::rename(from, to)).and_then(|()| sync_folder(folder));
    moved.map_err(|e| Error::io(to, e))
}

/// Flushes the names in a folder to the disk, where the system can.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    before(Operation::Sync, path)?;
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Removes a file or a folder, if it is there. A folder is renamed first, so that it never stands
/// half empty under its name.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = before(Operation::Remove, path).and_then(|()| {
        if !path.is_dir() {
            return fs::remove_file(path);
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let hidden = name.starts_with(PARTIAL);
        let aside = if hidden { path.to_path_buf() } else { folder.join(format!("{PARTIAL}{name}")) };
        if !hidden {
            if aside.exists() {
                fs::remove_dir_all(&aside)?;
            }
            fs::rename(path, &aside)?;
        }
        before(Operation::Remove, &aside)?;
        fs::remove_dir_all(aside)
    });
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    }
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
    serde_json::from_str(&text).map_err(|e| Error::format(&e).path(path).line(e.line() as u64))
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    replace_file(path, &json(value)?)
}

pub(crate) fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec_pretty(value).map_err(Error::compute)
}
