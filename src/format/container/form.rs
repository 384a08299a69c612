//! How the records of a file stand one after the other, and how the file is packed.

use std::fmt;
use std::path::Path;

use crate::display::cut;

/// What a file is: how its records stand in it, and how it is packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Container {
    pub form: Form,
    pub packing: Packing,
}

/// How the records of a file stand one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// One JSON value a line.
    Lines,
    /// One JSON array.
    Array,
    /// One JSON object; the rows are the array under this key.
    Field(String),
    /// JSON objects over several lines each.
    Values,
    /// A header and rows of cells.
    Csv {
        /// What stands between two cells.
        delimiter: u8,
    },
    Parquet,
}

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// What the first bytes of a file say.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or a skippable frame before it.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The file name without the ending of its packing, in lower case, and that packing.
pub(super) fn stem(path: &Path) -> (String, Packing) {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    for (ending, packing) in [(".gz", Packing::Gzip), (".zst", Packing::Zstd)] {
        if let Some(stem) = name.strip_suffix(ending) {
            return (stem.to_string(), packing);
        }
    }
    (name, Packing::Plain)
}

impl Container {
    /// The container that a file's name asks for.
    pub fn of_name(path: &Path) -> Option<Self> {
        let (stem, packing) = stem(path);
        let form = match stem.rsplit_once('.')?.1 {
            "jsonl" | "ndjson" => Form::Lines,
            "json" => Form::Array,
            "csv" => Form::Csv { delimiter: b',' },
            "tsv" => Form::Csv { delimiter: b'\t' },
            "parquet" => Form::Parquet,
            _ => return None,
        };
        Some(Self { form, packing })
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.form {
            Form::Lines => f.write_str("JSON lines"),
            Form::Array => f.write_str("JSON array"),
            Form::Field(key) => write!(f, "JSON object with the rows under `{}`", cut(key, 40)),
            Form::Values => f.write_str("JSON objects"),
            Form::Csv { delimiter: b'\t' } => f.write_str("tab-separated values"),
            Form::Csv { delimiter: b',' } => f.write_str("CSV"),
            Form::Csv { delimiter } => write!(f, "CSV with `{}`", char::from(*delimiter)),
            Form::Parquet => f.write_str("Parquet"),
        }?;
        match self.packing {
            Packing::Plain => Ok(()),
            packing => write!(f, ", {}", packing.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "hub")]
    #[test]
    fn the_hub_fetches_the_files_that_hold_rows() {
        let names =
            ["a.jsonl", "a.ndjson.gz", "A.JSON", "a.csv.zst", "a.tsv", "a.parquet", "a.txt", "a", "a.gz"];
        for name in names {
            let rank = crate::hub::names::form_rank(name);
            assert_eq!(rank.is_some(), Container::of_name(Path::new(name)).is_some(), "{name}");
        }
    }
}
