//! Whether files can be written, before the first of them is.

use std::path::{Path, PathBuf};

use crate::dataset::Dataset;
use crate::dataset::container::{real, refuse_inside};
use crate::dataset::output;
use crate::error::{Error, Result};

impl Dataset {
    /// Looks whether the parts of these rows can be written to these files, before the first of them is:
    /// whether each name says a container, and no two names are one file, or a file that the rows come
    /// from. Links and dots in the paths are resolved.
    ///
    /// # Errors
    /// If one cannot, with its name.
    ///
    /// # Examples
    /// ```
    /// # let folder = tempfile::tempdir().map_err(|e| lorascope::error::Error::io("tmp", e))?;
    /// # let path = folder.path().join("rows.jsonl");
    /// # std::fs::write(&path, r#"{"instruction": "1 + 1 = ?", "output": "2"}"#).unwrap();
    /// use lorascope::dataset::Dataset;
    ///
    /// let data = Dataset::open(&path)?;
    /// let of = |name: &str| folder.path().join(name);
    /// data.check_targets(&[of("train.jsonl"), of("test.jsonl")])?;
    /// assert!(data.check_targets(&[of("train.jsonl"), of("./train.jsonl")]).is_err());
    /// assert!(data.check_targets(&[of("train.jsonl"), path]).is_err());
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn check_targets<P: AsRef<Path>>(&self, targets: &[P]) -> Result<()> {
        let inputs: Vec<PathBuf> = self.0.sources.iter().map(|source| real(&source.path)).collect();
        let mut taken: Vec<PathBuf> = Vec::with_capacity(targets.len());
        for path in targets.iter().map(AsRef::as_ref) {
            if path.is_dir() {
                return Err(Error::input("this is a folder").path(path).help("name a file in it"));
            }
            output::container(path)?;
            let target = real(path);
            if inputs.contains(&target) {
                return Err(Error::input("this is the file that the rows come from")
                    .path(path)
                    .help("give each part another name"));
            }
            refuse_inside(&self.0.origin.path, path)?;
            if taken.contains(&target) {
                return Err(Error::input("both parts were to be written to one file")
                    .path(path)
                    .help("give each part a name of its own"));
            }
            taken.push(target);
        }
        Ok(())
    }
}
