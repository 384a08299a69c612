//! What a notebook's first cell brings in: `use lorascope::prelude::*;`
//!
//! No name of it stands for a `Result`, an `Error` or a schema, so polars' prelude fits beside it.

pub use crate::dataset::{Dataset, Order};
pub use crate::display::{EvcxrDisplay, Table, Text, dashboard};
pub use crate::format::{
    Extra, Fix, Join, Layout, Map, Misfits, OnFault, ReadOptions, RowSchema, WriteOptions,
};
pub use crate::lora::{AdapterSets, Adapters, Biases, Combine, Cut, Init, LoraConfig, TargetModules};
pub use crate::model::{ExportOptions, ExportType, GenerateConfig, Model, OpenOptions, WeightsAs};
pub use crate::plot::{Figure, Theme};
pub use crate::spectrum::{
    Amplification, BaseWeight, IntruderConfig, Intruders, Overlap, Scaling, Side, Spectra, SpectralMeasure,
    Spectrum, Vectors,
};
pub use crate::text::{Message, NamedTemplate, PromptAnswers, SpecialTokens, Tokenizer, Trained};
#[cfg(feature = "tensorboard")]
pub use crate::train::{
    AdamWConfig, Adaptation, Changed, Ending, Evaluation, EventFile, History, OpenRun, OptimizerConfig, Plan,
    Preflight, Recompute, Reports, Run, RunConfig, RunFile, Schedule, SgdConfig, Shape, Snapshots, State,
    Status, StepReport, Until, Within, compare_runs, runs, spread_ranks,
};
pub use polars::prelude::{IntoLazy, col, lit};
