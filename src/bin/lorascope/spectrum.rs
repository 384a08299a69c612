//! `lorascope spectrum`: the singular values of an adapter on disk.

use clap::Args;
use lorascope::candle_core::Device;
use lorascope::error::Result;
use lorascope::lora::Adapters;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// A folder with adapter_config.json and adapter_model.safetensors
    adapter: PathBuf,
    /// Draw the spectra into this .svg
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Draw the effective ranks into this .svg
    #[arg(long, value_name = "FILE")]
    heat_map: Option<PathBuf>,
    /// Replace existing files
    #[arg(long)]
    overwrite: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let adapters = Adapters::open(&arguments.adapter, &Device::Cpu)?;
    let spectra = adapters.spectra()?;
    let footer =
        arguments.adapter.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned());
    for (path, figure) in [(&arguments.plot, spectra.plot()?), (&arguments.heat_map, spectra.heat_map()?)] {
        let Some(path) = path else { continue };
        let figure = figure.with_footer(&footer);
        if arguments.overwrite { figure.overwrite(path)? } else { figure.save(path)? }
    }
    crate::print(spectra.table());
    Ok(())
}
