//! The bytes of a file, unpacked where it is packed; what passes is hashed as it is stored.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use xxhash_rust::xxh3::Xxh3;

use super::form::Packing;

use crate::error::{Error, Result};

/// 128 bits in hexadecimal.
pub(crate) fn hex(hash: u128) -> String {
    format!("{hash:032x}")
}

/// Reads a file through a buffer that its user takes records from.
pub(super) struct Source {
    path: PathBuf,
    reader: Reader,
    /// Size of the file as it is stored.
    total: u64,
    /// Read, but not yet handed out.
    pub rest: Vec<u8>,
    /// All that can be read has been.
    pub ended: bool,
    /// What is wrong with the archive at its end.
    pub damage: Option<String>,
}

enum Reader {
    Plain(Box<Counted>),
    Gzip(Box<MultiGzDecoder<BufReader<Counted>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Counted>>>),
}

/// The stored bytes: counted, hashed, and its failures kept apart from those of unpacking.
struct Counted {
    file: File,
    /// `None` where nobody asks for it.
    hash: Option<Xxh3>,
    size: u64,
    failed: Option<io::Error>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer).inspect_err(|e| {
            if e.kind() != io::ErrorKind::Interrupted {
                self.failed = Some(e.kind().into());
            }
        })?;
        self.passed(&buffer[..read]);
        Ok(read)
    }
}

impl Counted {
    fn passed(&mut self, bytes: &[u8]) {
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        self.size += bytes.len() as u64;
    }
}

impl Source {
    pub fn open(path: &Path) -> Result<Self> {
        let io = |e| Error::io(path, e);
        let about = std::fs::metadata(path).map_err(io)?;
        if about.is_dir() {
            return Err(Error::input("this is a folder").path(path).help("name one file in it"));
        }
        if !about.is_file() {
            return Err(Error::input("this is not a file").path(path).help("write the rows to a file first"));
        }
        let mut file = File::open(path).map_err(io)?;
        let mut magic = Vec::new();
        (&mut file).take(4).read_to_end(&mut magic).map_err(io)?;
        file.rewind().map_err(io)?;
        let counted = Counted { file, hash: Some(Xxh3::new()), size: 0, failed: None };
        let reader = match Packing::of(&magic) {
            Packing::Plain => Reader::Plain(Box::new(counted)),
            Packing::Gzip => {
                Reader::Gzip(Box::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 16, counted))))
            }
            Packing::Zstd => {
                let buffered = BufReader::with_capacity(1 << 16, counted);
                Reader::Zstd(Box::new(zstd::stream::read::Decoder::with_buffer(buffered).map_err(io)?))
            }
        };
        Ok(Self {
            path: path.to_path_buf(),
            reader,
            total: about.len(),
            rest: Vec::new(),
            ended: false,
            damage: None,
        })
    }

    pub fn packing(&self) -> Packing {
        match self.reader {
            Reader::Plain(_) => Packing::Plain,
            Reader::Gzip(_) => Packing::Gzip,
            Reader::Zstd(_) => Packing::Zstd,
        }
    }

    fn counted(&self) -> &Counted {
        match &self.reader {
            Reader::Plain(counted) => counted,
            Reader::Gzip(decoder) => decoder.get_ref().get_ref(),
            Reader::Zstd(decoder) => decoder.get_ref().get_ref(),
        }
    }

    /// Bytes of the file that have been read, and its size.
    pub fn progress(&self) -> (u64, u64) {
        (self.counted().size, self.total)
    }

    /// The size and the hash of what was read: of the whole file once it is [drained](Self::drain).
    pub fn fingerprint(&self) -> (u64, String) {
        let counted = self.counted();
        (counted.size, counted.hash.as_ref().map_or_else(String::new, |hash| hex(hash.digest128())))
    }

    /// Gives up the hash, which takes a twentieth of the time of rewriting a file.
    pub fn unhashed(&mut self) {
        match &mut self.reader {
            Reader::Plain(counted) => counted.hash = None,
            Reader::Gzip(decoder) => decoder.get_mut().get_mut().hash = None,
            Reader::Zstd(decoder) => decoder.get_mut().get_mut().hash = None,
        }
    }

    /// Reads until `rest` holds `wanted` bytes or no more can be read.
    pub fn fill(&mut self, wanted: usize) -> Result<()> {
        let from = self.rest.len();
        let missing = wanted.saturating_sub(from) as u64;
        let read = match &mut self.reader {
            // Straight from the file into the buffer; hashed there.
            Reader::Plain(counted) => {
                let read = (&mut counted.file).take(missing).read_to_end(&mut self.rest);
                counted.passed(&self.rest[from..]);
                read.map_err(|e| Error::io(&self.path, e))? as u64
            }
            Reader::Gzip(decoder) => match decoder.as_mut().take(missing).read_to_end(&mut self.rest) {
                Ok(read) => read as u64,
                Err(e) => return self.damaged(&e),
            },
            Reader::Zstd(decoder) => match decoder.as_mut().take(missing).read_to_end(&mut self.rest) {
                Ok(read) => read as u64,
                Err(e) => return self.damaged(&e),
            },
        };
        self.ended = read < missing;
        Ok(())
    }

    /// Notes that unpacking failed: what was unpacked before stands in `rest`.
    fn damaged(&mut self, error: &io::Error) -> Result<()> {
        let counted = match &mut self.reader {
            Reader::Plain(counted) => counted,
            Reader::Gzip(decoder) => decoder.get_mut().get_mut(),
            Reader::Zstd(decoder) => decoder.get_mut().get_mut(),
        };
        if let Some(failed) = counted.failed.take() {
            return Err(Error::io(&self.path, failed));
        }
        let name = self.packing().name();
        self.damage = Some(match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("the {name} archive is cut off here"),
            _ => format!("the {name} archive is damaged here: {error}"),
        });
        self.ended = true;
        Ok(())
    }

    /// Reads what is left of the file for its hash: bytes after the end of the rows or of the archive.
    pub fn drain(&mut self) -> Result<()> {
        let counted = match &mut self.reader {
            Reader::Plain(counted) => counted,
            Reader::Gzip(decoder) => decoder.get_mut().get_mut(),
            Reader::Zstd(decoder) => decoder.get_mut().get_mut(),
        };
        let mut counted = BufReader::with_capacity(1 << 18, counted);
        io::copy(&mut counted, &mut io::sink()).map(drop).map_err(|e| Error::io(&self.path, e))
    }
}
