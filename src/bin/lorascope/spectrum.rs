//! `lorascope spectrum`: shows the singular values of an adapter on disk, and truncates it to smaller ranks.

use clap::Args;
use lorascope::candle_core::Device;
use lorascope::display::Table;
use lorascope::error::{Error, Result};
use lorascope::lora::{Adapters, Factors, Truncation};
use lorascope::plot::Figure;
use lorascope::run::Run;
use lorascope::spectrum::{Advice, LayerPlace, Spectra, Spectrum};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct Arguments {
    /// Adapter: a folder with adapter_config.json and adapter_model.safetensors or .bin, or the folder of a run (uses
    /// its newest snapshot)
    adapter: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Plot the spectra into this .svg or .png file
    #[arg(long, value_name = "FILE", alias = "plot")]
    svg: Option<PathBuf>,
    /// Plot a heat map of the effective ranks into this .svg or .png file
    #[arg(long, value_name = "FILE")]
    heat_map: Option<PathBuf>,
    /// Truncate each module to the smallest rank that keeps this share of its energy, such as 0.95
    #[arg(long, value_name = "ENERGY", requires = "out")]
    truncate: Option<f64>,
    /// Folder to write the truncated adapter to
    #[arg(long, value_name = "DIR", requires = "truncate")]
    out: Option<PathBuf>,
    /// Replace existing files
    #[arg(long)]
    overwrite: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let run = format!("{}/", arguments.adapter.display());
    let folder = if arguments.adapter.is_dir() && Run::exists(&run)? {
        Run::saved(&run)?.snapshot
    } else {
        arguments.adapter.clone()
    };
    let Factors { adapters, initialisation: changed, left_alone } =
        Adapters::open_factors(&folder, &Device::Cpu)?;
    if arguments.truncate.is_some() {
        Adapters::open(&folder, &Device::Cpu)?; // fails for adapters that no model can use
    }
    let spectra = adapters.spectra()?;
    let figures = figures(arguments, &spectra)?;
    let cut = arguments.truncate.map(|energy| {
        Ok::<_, Error>((spectra.advise(energy)?, adapters.truncate(&Truncation::Energy(energy))?))
    });
    let cut = cut.transpose()?;
    // If one output exists, write none.
    let targets = || figures.iter().map(|(path, _)| *path).chain(arguments.out.as_deref());
    if let Some((_, path)) =
        targets().enumerate().find(|(n, path)| targets().take(*n).any(|other| same(other, path)))
    {
        return Err(Error::input("two outputs have this path")
            .path(path)
            .help("give each output its own name"));
    }
    if let Some(path) = targets().find(|path| path.exists() && !arguments.overwrite) {
        return Err(Error::input("this exists already")
            .path(path)
            .help("choose another name, or say --overwrite"));
    }
    for (path, figure) in figures {
        if arguments.overwrite { figure.overwrite(path)? } else { figure.save(path)? }
    }
    let mut answer = json!({ "adapters": measures(&spectra)? });
    let mut tables = vec![spectra.table()];
    let mut notes = Vec::new();
    if !left_alone.is_empty() {
        answer["left_alone"] = json!(left_alone);
        notes.extend(left_alone.into_iter().map(|what| format!("note: {what}")));
    }
    if spectra.iter().all(|spectrum| spectrum.spectral_norm() == 0.0) {
        notes.push("note: every singular value is 0: this adapter changes nothing".to_string());
    }
    if let Some(by) = changed {
        notes.push(format!(
            "The adapter was initialised with {by}, which subtracts a part from each weight: these are the spectra of B·A, not of the change of the weights."
        ));
        answer["initialisation"] = by.into();
    }
    if let (Some((advice, cut)), Some(out)) = (cut, &arguments.out) {
        let base = Adapters::base_of(&folder)?.unwrap_or_default();
        let folder = if arguments.overwrite { cut.overwrite(out, &base)? } else { cut.save(out, &base)? };
        answer["truncated"] = truncated(&advice, &cut, &folder.to_string_lossy());
        tables.push(advice.table());
        notes.push(format!(
            "cut adapter in {}: {} numbers instead of {}",
            folder.display(),
            cut.parameters(),
            adapters.parameters()
        ));
    }
    if arguments.json {
        crate::print(serde_json::to_string_pretty(&answer).map_err(Error::compute)?);
        return Ok(());
    }
    tables.into_iter().for_each(|table: Table| crate::print(table));
    notes.into_iter().for_each(crate::print);
    Ok(())
}

/// Whether two paths name the same file.
fn same(one: &Path, other: &Path) -> bool {
    let whole = |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).ok();
    whole(one) == whole(other)
}

/// Makes the requested figures, each with its path.
fn figures<'a>(arguments: &'a Arguments, spectra: &Spectra) -> Result<Vec<(&'a Path, Figure)>> {
    let footer =
        arguments.adapter.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
    let mut figures = Vec::new();
    if let Some(path) = &arguments.svg {
        figures.push((path.as_path(), spectra.plot()?.with_footer(&footer)));
    }
    if let Some(path) = &arguments.heat_map {
        figures.push((path.as_path(), spectra.heat_map()?.with_footer(&footer)));
    }
    Ok(figures)
}

/// Returns the spectra with their measures; an infinite condition number is left out.
fn measures(spectra: &Spectra) -> Result<Vec<Value>> {
    spectra.iter().zip(spectra.places()).map(|(spectrum, place)| measured(spectrum, place)).collect()
}

fn measured(spectrum: &Spectrum, place: &LayerPlace) -> Result<Value> {
    let mut measured = json!({
        "name": spectrum.name,
        "layer": place.layer,
        "module": place.module,
        "in_features": spectrum.in_features,
        "out_features": spectrum.out_features,
        "rank": spectrum.rank,
        "scale": spectrum.scale,
        "singular_values": spectrum.singular_values,
        "effective_rank": spectrum.effective_rank(),
        "stable_rank": spectrum.stable_rank(),
        "participation_ratio": spectrum.participation_ratio(),
        "numerical_rank": spectrum.numerical_rank(None),
        "energy_rank_90": spectrum.energy_rank(0.9)?,
        "energy_rank_99": spectrum.energy_rank(0.99)?,
        "spectral_norm": spectrum.spectral_norm(),
        "frobenius_norm": spectrum.frobenius_norm(),
        "nuclear_norm": spectrum.nuclear_norm(),
        "first_share": spectrum.first_share(),
    });
    let condition = spectrum.condition();
    if condition.is_finite() {
        measured["condition"] = condition.into();
    }
    Ok(measured)
}

fn truncated(advice: &Advice, cut: &Adapters, folder: &str) -> Value {
    let ranks: serde_json::Map<String, Value> =
        cut.iter().map(|(path, pair)| (path.to_string(), json!(pair.rank()))).collect();
    json!({ "energy": advice.energy, "folder": folder, "ranks": ranks, "parameters": cut.parameters() })
}
