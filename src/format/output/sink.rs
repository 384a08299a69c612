//! A temporary file, packed on the way where its name says so.

use std::io::{self, BufWriter, IoSlice, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::NamedTempFile;

use crate::format::container::Packing;

/// A file whose pages go to the disk while more are written, not all of them when it takes another's place:
/// of 140 MB that took 0.1 s.
pub(super) struct WriteBehind {
    file: NamedTempFile,
    written: u64,
    /// Up to here the disk has been asked for.
    begun: u64,
}

impl WriteBehind {
    /// Bytes of one request.
    const PIECE: u64 = 4 << 20;
    /// Bytes at the end that are not asked for: while the disk takes a page, writing more into it waits.
    const TAIL: u64 = 1 << 20;

    fn new(file: NamedTempFile) -> Self {
        Self { file, written: 0, begun: 0 }
    }

    fn wrote(&mut self, count: usize) {
        self.written += count as u64;
        let whole = self.written.saturating_sub(Self::TAIL) / Self::PIECE * Self::PIECE;
        if whole > self.begun {
            self.begin(self.begun, whole - self.begun);
            self.begun = whole;
        }
    }

    /// Asks the system to begin with a part of the file, and does not wait for it. A wish: where it is
    /// refused, the system writes when it likes.
    #[cfg(target_os = "linux")]
    fn begin(&self, from: u64, bytes: u64) {
        use std::os::fd::AsRawFd as _;
        if let (Ok(from), Ok(bytes)) = (i64::try_from(from), i64::try_from(bytes)) {
            // SAFETY: takes numbers only; the file is open.
            unsafe {
                libc::sync_file_range(
                    self.file.as_file().as_raw_fd(),
                    from,
                    bytes,
                    libc::SYNC_FILE_RANGE_WRITE,
                );
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn begin(&self, _from: u64, _bytes: u64) {}
}

impl Write for WriteBehind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The file itself: `tempfile` would put its temporary name into what the system says.
        let count = self.file.as_file_mut().write(bytes)?;
        self.wrote(count);
        Ok(count)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = self.file.as_file_mut().write_vectored(parts)?;
        self.wrote(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_file_mut().flush()
    }
}

pub(super) enum Sink {
    Plain(BufWriter<WriteBehind>),
    Gzip(GzEncoder<BufWriter<WriteBehind>>),
    Zstd(zstd::stream::write::Encoder<'static, BufWriter<WriteBehind>>),
}

impl Sink {
    pub fn new(file: NamedTempFile, packing: Packing) -> io::Result<Self> {
        let file = BufWriter::with_capacity(1 << 20, WriteBehind::new(file));
        Ok(match packing {
            Packing::Plain => Self::Plain(file),
            Packing::Gzip => Self::Gzip(GzEncoder::new(file, Compression::default())),
            Packing::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// Writes two parts, a large one after a small one, where it can be at once.
    pub fn put(&mut self, between: &[u8], rows: &[u8]) -> io::Result<()> {
        let written = match self {
            Self::Plain(file) => match file.write_vectored(&[IoSlice::new(between), IoSlice::new(rows)]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                written => written?,
            },
            _ => 0,
        };
        let left = written.min(between.len());
        self.write_all(&between[left..])?;
        self.write_all(&rows[written - left..])
    }

    /// Writes what is left.
    pub fn finish(self) -> io::Result<NamedTempFile> {
        let file = match self {
            Self::Plain(file) => file,
            Self::Gzip(encoder) => encoder.finish()?,
            Self::Zstd(encoder) => encoder.finish()?,
        };
        file.into_inner().map(|behind| behind.file).map_err(io::IntoInnerError::into_error)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Gzip(encoder) => encoder.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}
