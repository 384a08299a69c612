//! LoRA fine-tuning in a notebook: look at the data, train a little, look inside, decide, go on.
//!
//! Made for Jupyter on the evcxr kernel. In one notebook a person explores an instruction-tuning
//! dataset, fine-tunes a language model with LoRA one step at a time, sees the singular values of
//! B·A of every layer at every step, and decides which rank the task needs.
//!
//! # The types, in the order that data flows
//! - [`hub`]: datasets and models from the Hugging Face hub, files from addresses on the web.
//! - [`format::RowSchema`], [`format::Map`]: how the rows of a file are laid out. Files are JSON, CSV or Parquet;
//!   [`format::convert`] rewrites one in another schema, and counts what that has no place for.
//! - [`dataset::Dataset`]: the rows of files in one canonical polars table, whatever their schema; its verbs, its
//!   report, its problems.
//! - [`model::Model`]: frozen weights (GGUF or a Hugging Face folder), [`text::Tokenizer`] and chat
//!   template. Weights stay in memory as they are stored, or become what [`model::OpenOptions`] says;
//!   [`model::Model::export`] writes a Hugging Face folder.
//! - [`lora::LoraConfig`], [`lora::Adapters`]: what is trained, ΔW = (alpha / r)·B·A, in files that
//!   PEFT reads and writes; [`lora::Adapters::open_for`] also reads kohya's and mlx-lm's.
//! - [`run::Run`]: trains in a thread of its own and saves itself; paused, looked into, sampled,
//!   changed, rewound to any step, forked, resumed, opened again from its folder. All of it is exact to
//!   the bit on one model of processor. [`run::RunFile`] is a run as a file that `lorascope train` takes.
//! - [`train::Devices`]: a run trains on one device or many, and its numbers stay the same; [`devices::DeviceGroup`]
//!   is what makes its passes there.
//! - [`run::History`]: the numbers of every step, as a data frame and as a picture.
//! - [`spectrum::Spectra`]: singular values, effective rank and energy of every adapter, computed
//!   from the factors without forming B·A.
//!   [`analysis::SpectraHistory`] has them along the steps, [`analysis::RankCurve`] says which rank held-out rows
//!   ask for, [`spectrum::SubspaceOverlap`] whether two adapters found the same directions.
//! - [`plot::Figure`]: a picture that a notebook shows on light and dark pages, as SVG or PNG, with its
//!   numbers as a data frame.
//!
//! ```no_run
//! use lorascope::prelude::*;
//!
//! let data = Dataset::open("datasets/school_math.jsonl")?;
//! let model = Model::open("models/smollm2-135m.gguf")?;
//! let (train, test) = data.split(0.98, 42)?;
//! let run = Run::new("school-math", &model, &train, RunConfig::default().eval(&test).rank(8))?;
//! run.steps(20)?;
//! run.spectra()?.plot()?.save("spectra.svg")?;
//! run.save_adapter("adapter")?;
//! # Ok::<(), lorascope::error::Error>(())
//! ```
//!
//! # In a notebook
//! The first cell holds `:dep lorascope = { path = ".." }` and `use lorascope::prelude::*;`. Use
//! candle and polars as `lorascope::candle_core` and `lorascope::polars`: a `:dep` of your own would
//! be a second copy, whose tensors ours cannot tell apart ([`image`] says more).
//!
//! In the lorascope kernel [`display::show`] puts values into a cell while it runs, and [`run::Run::live`] a panel that
//! follows a run from cell to cell; the stop button pauses the run that a cell waits for. In the stock kernel, which shows
//! what a cell prints when it has ended, both show what there is then.
//!
//! A plot of your own needs no `:dep` either: [`plot::lines`] and [`plot::bars`] draw numbers as the figures
//! here are drawn, and `lorascope::plotters` has all its series and elements:
//!
//! ```
//! use lorascope::plotters::prelude::*;
//!
//! evcxr_figure((640, 480), |root| {
//!     let mut chart = ChartBuilder::on(&root).margin(20).build_cartesian_2d(0f64..10.0, -1f64..1.0)?;
//!     chart.draw_series(LineSeries::new((0..100).map(|i| (f64::from(i) / 10.0, f64::from(i).sin())), &BLUE))?;
//!     Ok(())
//! });
//! ```
//!
//! # What is not supported yet
//! Architectures other than those of [`model::Family`]; attention in a sliding window; rotary scaling
//! other than `llama3` and `linear`.
#![deny(missing_docs)]

pub mod analysis;
pub mod dataset;
pub mod devices;
pub mod display;
pub mod error;
mod files;
pub mod format;
#[cfg(feature = "hub")]
pub mod hub;
pub mod image;
pub mod lora;
pub mod model;
pub mod ops;
pub mod plot;
pub mod prelude;
pub mod run;
pub mod spectrum;
pub mod text;
pub mod train;

pub use candle_core;
pub use candle_nn;
pub use plotters;
pub use polars;
pub use tokenizers;
