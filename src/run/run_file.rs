//! A run as a TOML file, for `lorascope train run.toml`.

use super::disk::folder::Folder;
use super::handle::Run;
use crate::dataset::{Dataset, Recipe};
use crate::devices::agree_on;
use crate::display::Text;
use crate::error::{Error, Result};
use crate::files::{Existing, write_whole};
use crate::format::{OnFault, ReadOptions};
use crate::model::{Model, OpenOptions, WeightDtype};
use crate::train::{RunConfig, Until};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

/// A run as a TOML file: its name, model, rows and end, and all settings of [`RunConfig`]. What is left out has its
/// default.
///
/// Paths are relative to the file's folder. `clip = inf` does not clip.
///
/// # Examples
/// ```
/// use lorascope::run::RunFile;
///
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("run.toml");
/// let text = "name = 'school'\nmodel = 'smollm2.gguf'\nsteps = 200\nlr = 1e-4\n[lora]\nrank = 8\n";
/// std::fs::write(&path, text).unwrap();
/// let file = RunFile::open(&path)?;
/// assert_eq!((file.steps, file.config.lr, file.config.lora.rank), (Some(200), 1e-4, 8));
///
/// std::fs::write(&path, "lr = 1e-4\nbatches = 8\n").unwrap();
/// let error = RunFile::open(&path).unwrap_err().to_string();
/// assert!(error.contains("run.toml, line 2: unknown field `batches`"), "{error}");
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct RunFile {
    /// The run's name.
    pub name: Option<String>,
    /// A `.gguf` file or a Hugging Face folder.
    pub model: Option<PathBuf>,
    /// The dtype of the model's weights in memory.
    pub weights: WeightDtype,
    /// Rows to train on.
    pub data: Option<RowsFrom>,
    /// Which list of rows is trained on, in a file that holds several: `train`, `test`.
    pub list: Option<String>,
    /// Rows to evaluate on.
    pub eval: Option<RowsFrom>,
    /// Which list of rows is evaluated on; without `eval`, one of the file of `data`.
    pub eval_list: Option<String>,
    /// Steps to train, from the run's beginning.
    pub steps: Option<u64>,
    /// Times that all rows are seen, from the run's beginning; what is reached first, they or the steps, counts.
    pub epochs: Option<u64>,
    /// What else ends the training.
    pub until: Option<Until>,
    /// All settings.
    pub config: RunConfig,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RowsFrom {
    /// All rows of a file, a folder or a pattern.
    Path(PathBuf),
    /// What was opened, and what was done to it.
    Recipe(Box<Recipe>),
}

impl RowsFrom {
    /// The rows.
    ///
    /// # Errors
    /// When they cannot be read, or a recipe's file is no longer what it was.
    pub fn open(&self) -> Result<Dataset> {
        self.open_with(OnFault::List, None)
    }

    /// The same, of the list of this name where there are several; a record that is no row is an error where
    /// faults are to fail.
    fn open_with(&self, faults: OnFault, list: Option<&String>) -> Result<Dataset> {
        let list = list.cloned();
        match self {
            Self::Path(path) => {
                Dataset::open_with(path, &ReadOptions { faults, list, ..ReadOptions::default() })
            }
            Self::Recipe(recipe) => {
                let mut recipe = recipe.clone();
                recipe.options.list = list.or(recipe.options.list);
                if faults == OnFault::Fail {
                    recipe.options.faults = faults;
                }
                Dataset::from_recipe(&recipe)
            }
        }
    }

    /// A path where that says it all: no rows were chosen or changed.
    fn of(recipe: &Recipe) -> Self {
        let plain =
            recipe.steps.is_empty() && recipe.files.is_empty() && recipe.options == Default::default();
        match plain {
            true => Self::Path(recipe.path.clone()),
            false => Self::Recipe(Box::new(recipe.clone())),
        }
    }
}

impl<'de> Deserialize<'de> for RowsFrom {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RowsFrom;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path or a table that describes rows")
            }

            fn visit_str<E>(self, path: &str) -> Result<RowsFrom, E> {
                Ok(RowsFrom::Path(path.into()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<RowsFrom, M::Error> {
                Recipe::deserialize(MapAccessDeserializer::new(map))
                    .map(|recipe| RowsFrom::Recipe(Box::new(recipe)))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// What stands in the file beside the settings.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    name: Option<String>,
    model: Option<PathBuf>,
    weights: Option<WeightDtype>,
    data: Option<RowsFrom>,
    list: Option<String>,
    eval: Option<RowsFrom>,
    eval_list: Option<String>,
    steps: Option<u64>,
    epochs: Option<u64>,
    until: Option<Until>,
}

/// The whole file, as it is written.
#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    head: Head,
    #[serde(flatten)]
    config: RunConfig,
}

const HEAD: [&str; 10] =
    ["name", "model", "weights", "data", "list", "eval", "eval_list", "steps", "epochs", "until"];

impl RunFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is no TOML, or holds what is not known; the error names the line.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        let wrong = |error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = 1 + before.matches('\n').count() as u64;
            Error::format(error.message()).path(path).line(line)
        };
        let table = DeTable::parse(&text).map_err(wrong)?;
        let span = table.span();
        let (mut head, mut rest) = (DeTable::new(), DeTable::new());
        for (key, value) in table.into_inner() {
            let part = if HEAD.contains(&key.get_ref().as_ref()) { &mut head } else { &mut rest };
            part.insert(key, value);
        }
        let head = Head::deserialize(Deserializer::from(Spanned::new(span.clone(), head))).map_err(wrong)?;
        let mut config = RunConfig::deserialize(Deserializer::from(Spanned::new(span, rest)))
            .map_err(|error| wrong(error).help(format!("beside settings there are {}", HEAD.join(", "))))?;
        config.clip = config.clip.filter(|norm| *norm != f64::INFINITY);
        let folder = std::path::absolute(path).map_err(|e| Error::io(path, e))?;
        let folder = folder.parent().unwrap_or(Path::new("/"));
        config.init_from = config.init_from.map(|path| folder.join(path));
        let rows = |rows: Option<RowsFrom>| match rows {
            // An address stays what it is.
            Some(RowsFrom::Path(path)) if !path.to_string_lossy().contains("://") => {
                Some(RowsFrom::Path(folder.join(path)))
            }
            other => other,
        };
        Ok(Self {
            name: head.name,
            model: head.model.map(|path| folder.join(path)),
            weights: head.weights.unwrap_or_default(),
            data: rows(head.data),
            list: head.list,
            eval: rows(head.eval),
            eval_list: head.eval_list,
            steps: head.steps,
            epochs: head.epochs,
            until: head.until,
            config,
        })
    }

    /// Writes the file; it appears whole or not at all.
    ///
    /// # Errors
    /// When it exists, or cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<Text> {
        self.write(path.as_ref(), Existing::Refuse)
    }

    /// As [`save`](Self::save), but replaces a file that exists.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn overwrite(&self, path: impl AsRef<Path>) -> Result<Text> {
        self.write(path.as_ref(), Existing::Replace)
    }

    fn write(&self, path: &Path, existing: Existing) -> Result<Text> {
        let absolute = |path: &PathBuf| std::path::absolute(path).map_err(|e| Error::io(path, e));
        let rows = |rows: &Option<RowsFrom>| match rows {
            Some(RowsFrom::Path(path)) if !path.to_string_lossy().contains("://") => {
                absolute(path).map(|path| Some(RowsFrom::Path(path)))
            }
            other => Ok(other.clone()),
        };
        let head = Head {
            name: self.name.clone(),
            model: self.model.as_ref().map(absolute).transpose()?,
            weights: Some(self.weights).filter(|weights| *weights != WeightDtype::default()),
            data: rows(&self.data)?,
            list: self.list.clone(),
            eval: rows(&self.eval)?,
            eval_list: self.eval_list.clone(),
            steps: self.steps,
            epochs: self.epochs,
            until: self.until,
        };
        let mut config = self.config.clone();
        config.init_from = config.init_from.as_ref().map(absolute).transpose()?;
        config.clip = config.clip.or(Some(f64::INFINITY)); // TOML has no null
        let text = toml::to_string(&Whole { head, config }).map_err(|e| Error::input(e).path(path))?;
        write_whole(path, text.as_bytes(), existing)?;
        Ok(Text::new(format!("settings written to {}: lorascope train {0}", path.display())))
    }

    /// The settings, with the rows to evaluate on.
    ///
    /// # Errors
    /// When these rows cannot be read.
    pub fn config(&self) -> Result<RunConfig> {
        let list = self.eval_list.as_ref();
        let rows = self.eval.as_ref().or(self.data.as_ref().filter(|_| list.is_some()));
        let eval = rows.map(|rows| rows.open_with(self.config.faults, list)).transpose()?;
        Ok(RunConfig { eval: eval.or(self.config.eval.clone()), ..self.config.clone() })
    }

    /// What ends the training: `until`, and `steps` at most.
    pub fn goal(&self) -> Option<Until> {
        let until = self.until.unwrap_or_default();
        let until = Until { steps: until.steps.into_iter().chain(self.steps).min(), ..until };
        Some(until).filter(|until| *until != Until::default())
    }

    /// The same where the run is known, with the steps in which its rows are seen as often as `epochs` says.
    ///
    /// # Errors
    /// When the run's data cannot be read.
    pub fn goal_of(&self, run: &Run) -> Result<Option<Until>> {
        let epochs = self.epochs.map(|epochs| run.steps_of(epochs)).transpose()?;
        let steps = self.steps.into_iter().chain(epochs).min();
        Ok(Self { steps, ..self.clone() }.goal())
    }

    /// Makes the run, as [`Run::new`] does.
    ///
    /// # Errors
    /// When the file says no name, model or rows, and as [`Run::new`].
    pub fn new_run(&self) -> Result<Run> {
        let (Some(name), Some(model), Some(data)) = (&self.name, &self.model, &self.data) else {
            return Err(Error::input("a run needs a name, a model and data"));
        };
        Run::check_free(name, self.config.existing)?;
        let config = self.config()?;
        config.check()?;
        if let Some(until) = self.goal() {
            until.check()?;
            if until.eval_loss.is_some() && (config.eval.is_none() || config.eval_every.is_none()) {
                return Err(Error::input("stopping at a loss in evaluation needs evaluations")
                    .help("say eval = \"PATH\" and eval_every = 20"));
            }
        }
        agree_on(&config.devices)?;
        let options = OpenOptions { weights: self.weights, ..OpenOptions::default() };
        let data = data.open_with(self.config.faults, self.list.as_ref())?;
        Run::new(name, &Model::open_with(model, &options)?, &data, config)
    }
}

impl RunConfig {
    /// Writes the settings into a file that [`RunFile::open`] and `lorascope train` take: model and data
    /// are said beside it. Rows to evaluate on are not written.
    ///
    /// # Errors
    /// When the file exists, or cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<Text> {
        RunFile { config: self.clone(), ..RunFile::default() }.save(path)
    }
}

impl Run {
    /// Writes the run as it was made into a file that `lorascope train` takes: its name, model, rows and
    /// settings. [`changes`](Self::changes) are not among them.
    ///
    /// # Errors
    /// When the file exists, or cannot be written.
    pub fn save_config(&self, path: impl AsRef<Path>) -> Result<Text> {
        self.file()?.save(path)
    }

    /// As [`save_config`](Self::save_config), but replaces a file that exists.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn overwrite_config(&self, path: impl AsRef<Path>) -> Result<Text> {
        self.file()?.overwrite(path)
    }

    fn file(&self) -> Result<RunFile> {
        let identity = Folder::identity(self.folder())?;
        Ok(RunFile {
            name: Some(self.name().to_string()),
            model: Some(identity.model.clone()),
            weights: identity.weights(),
            data: Some(RowsFrom::of(&identity.rows.data)),
            eval: identity.eval_recipe().map(RowsFrom::of),
            config: self.config().clone(),
            ..RunFile::default()
        })
    }
}
