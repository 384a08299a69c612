//! The names that a notebook's first cell brings in. It says `use lorascope::prelude::*;`
//!
//! No name of it stands for a `Result`, an `Error` or a schema, so polars' prelude fits beside it.

pub use crate::analysis::{LivePanel, Plan, Preflight, Within, compare_runs, spread_ranks};
pub use crate::dataset::{Dataset, Order};
pub use crate::display::{EvcxrDisplay, Table, Text, dashboard, show};
pub use crate::format::{
    Extra, Fix, Join, Layout, Map, Misfits, OnFault, ReadOptions, RowSchema, WriteOptions,
};
pub use crate::lora::{AdapterSets, Adapters, Biases, Combine, Init, LoraConfig, TargetModules, Truncation};
pub use crate::model::{
    ExportOptions, ExportType, GenerateConfig, Model, OpenOptions, Recompute, WeightDtype,
};
pub use crate::ops::Precision;
pub use crate::plot::{Figure, Theme};
#[cfg(feature = "tensorboard")]
pub use crate::run::EventFile;
pub use crate::run::{Changed, Ending, History, OpenRun, Reports, Run, RunFile, State, Status, runs};
pub use crate::spectrum::{
    Amplification, BaseWeight, IntruderConfig, Intruders, Scaling, Side, Spectra, SpectralMeasure, Spectrum,
    SubspaceOverlap, Vectors,
};
pub use crate::text::{Message, NamedTemplate, PromptAnswers, SpecialTokens, Tokenizer, Trained};
pub use crate::train::{
    AdamWConfig, Adaptation, Devices, Evaluation, OptimizerConfig, Placement, Reduction, RunConfig, Schedule,
    SgdConfig, Shape, Snapshots, StepReport, Until,
};
pub use polars::prelude::{IntoLazy, col, lit};
