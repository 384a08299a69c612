//! An adapter that PEFT saved, read and saved again, is the same adapter. `golden/check_peft.py`
//! loads what this test leaves in `target/tmp` with the real PEFT.

use candle_core::{Device, Tensor};
use lorascope::candle_core;
use lorascope::error::{Error, Result};
use lorascope::lora::Adapters;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

fn tensors(folder: &Path) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder.join("adapter_model.safetensors"), &Device::Cpu).unwrap()
}

fn config(folder: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(folder.join("adapter_config.json")).unwrap()).unwrap()
}

#[test]
fn golden_adapters_survive_reading_and_saving() -> Result<()> {
    for (name, scale) in [("tiny", 7.0 / 3.0), ("tied", 7.0 / 3f64.sqrt())] {
        let theirs = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}-adapter"));
        let ours: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-adapter"));
        if ours.exists() {
            std::fs::remove_dir_all(&ours).map_err(|e| Error::io(&ours, e))?;
        }
        let adapters = Adapters::open(&theirs, &Device::Cpu)?;
        assert!(adapters.iter().all(|(_, pair)| pair.scale() == scale && pair.rank() == 3));
        adapters.save(&ours, name)?;

        let (before, after) = (tensors(&theirs), tensors(&ours));
        assert_eq!(before.len(), after.len());
        for (name, tensor) in &before {
            assert_eq!(tensor.to_vec2::<f32>()?, after[name].to_vec2::<f32>()?, "{name}");
        }
        let (before, after) = (config(&theirs), config(&ours));
        for key in ["peft_type", "task_type", "r", "use_rslora", "fan_in_fan_out", "bias", "target_modules"] {
            assert_eq!(before[key], after[key], "{key}");
        }
        assert_eq!(before["lora_alpha"].as_f64(), after["lora_alpha"].as_f64());
    }
    Ok(())
}
