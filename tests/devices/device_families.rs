//! Losses and gradients of one batch on several virtual devices, for each family: those of one device to the bit.

use crate::common::devices::{all, first};
pub use crate::common::reference::file;
use lorascope::candle_core::{DType, Device, Tensor};
use lorascope::devices::DeviceGroup;
use lorascope::error::Result;
use lorascope::lora::{Adapters, Biases, Gradients, Init, LoraConfig, TargetModules};
use lorascope::model::{Decoder, Recompute};
use lorascope::ops::Kernels;
use lorascope::text::{Example, pack};
use lorascope::train::step::{Accumulated, Learned, evaluate, forward_backward, update};
use lorascope::train::{Batch, OptimizerConfig, Placement};

pub const FAMILIES: [&str; 7] = ["tiny", "llama3", "qwen2", "qwen3", "gpt2", "baichuan2", "tied"];

/// Seven rows of different lengths in packs of at most 24 tokens; the first row of all is not trained on.
pub fn batch() -> Batch {
    let row = |length: usize, seed: u32| Example {
        ids: (0..length as u32).map(|i| (seed * 31 + i * 7) % 40).collect(),
        trained: (0..length).map(|i| seed > 0 && i * 3 > length).collect(),
    };
    let rows: Vec<Example> = [9, 17, 12, 5, 21, 8, 14].into_iter().zip(0..).map(|(n, i)| row(n, i)).collect();
    Batch::of(pack(&rows.iter().collect::<Vec<_>>(), 24).unwrap())
}

pub fn bits(gradients: &Gradients) -> Vec<(String, Vec<u32>)> {
    let values = gradients.tensors().map(|(name, tensor)| {
        let values = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (name.to_string(), values.into_iter().map(f32::to_bits).collect())
    });
    values.collect()
}

/// So many devices, in groups of so many stages.
fn arrangements(layers: usize) -> Vec<(usize, Placement)> {
    let all = [(2, 1), (3, 1), (4, 1), (2, 2), (4, 2), (6, 2), (3, 3)];
    let fit = all.into_iter().filter(|(_, stages)| *stages <= layers);
    fit.map(|(devices, stages)| match stages {
        1 => (devices, Placement::Replicate),
        _ => (devices, Placement::Split(stages)),
    })
    .collect()
}

fn check(name: &str, model: &Decoder, adapters: &Adapters) -> Result<()> {
    let batch = batch();
    assert!(batch.packs.len() >= 4);
    let learned = Learned::new(adapters.clone(), 7);
    let mut alone = Accumulated::default();
    forward_backward(model, &learned, &batch, &mut alone, &|| true)?;
    assert!(!alone.gradients.is_empty() && alone.sum > 0.0);
    let evaluated = evaluate(model, adapters, &batch, &|| true)?;
    for (devices, placement) in arrangements(model.config().layers) {
        let context = format!("{name} on {devices} devices, {placement:?}");
        let mut group = DeviceGroup::new(model, &all(devices), placement, 24)?;
        // A second pass on the same threads, too: dropout goes on to be drawn by the numbers of the packs.
        for _ in 0..2 {
            let mut together = Accumulated::default();
            group.forward_backward(model, &learned, &batch, &mut together, &|| true)?;
            assert_eq!(together.sum.to_bits(), alone.sum.to_bits(), "{context}");
            assert_eq!(together.rows, alone.rows, "{context}");
            assert_eq!(
                (together.tokens, together.trained_tokens),
                (alone.tokens, alone.trained_tokens),
                "{context}"
            );
            assert!(bits(&together.gradients) == bits(&alone.gradients), "{context}");
        }
        assert_eq!(group.evaluate(adapters, &batch, &|| true)?, evaluated, "{context}");
        let tokens: u64 = group.status().iter().map(|device| device.tokens).sum();
        assert_eq!(tokens, 3 * (alone.tokens * placement.stages()) as u64, "{context}");
    }
    Ok(())
}

#[test]
fn device_families_give_the_same_bits() -> Result<()> {
    for name in FAMILIES {
        let model = Decoder::open(file(name), &first())?;
        let adapters = Adapters::open(file(&format!("{name}-adapter")), &first())?;
        check(name, &model, &adapters)?;
        check(name, &model.with_recompute(Recompute::Blocks), &adapters)?;
    }
    Ok(())
}

/// f32 in candle's operations, on these devices, is what the processor's own kernels give: the losses of ten steps
/// within 1e-5, the gradients of the first within 1e-4 of their norm.
#[test]
fn device_numbers_are_those_of_the_processor() -> Result<()> {
    for name in FAMILIES {
        let open = |device: &Device| -> Result<(Decoder, Learned)> {
            let adapters = Adapters::open(file(&format!("{name}-adapter")), device)?;
            Ok((Decoder::open(file(name), device)?, Learned::new(adapters, 7)))
        };
        let (here, mut truth) = open(&Device::Cpu)?;
        let (there, mut ours) = open(&first())?;
        let there = there.with_kernels(Kernels::Candle);
        for step in 0..10 {
            let (mut sums, mut others) = (Accumulated::default(), Accumulated::default());
            forward_backward(&here, &truth, &batch(), &mut sums, &|| true)?;
            forward_backward(&there, &ours, &batch(), &mut others, &|| true)?;
            let off = (others.loss() / sums.loss() - 1.0).abs();
            assert!(off < 1e-5, "{name}, step {step}: {} and {}", others.loss(), sums.loss());
            for (tensor, gradient) in sums.gradients.tensors().filter(|_| step == 0) {
                let other = others.gradients.get(tensor).unwrap().to_device(&Device::Cpu)?;
                let size = |x: &Tensor| -> Result<f32> { Ok(x.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt()) };
                let off = size(&(gradient - other)?)? / size(gradient)?;
                assert!(off < 1e-4, "{tensor} of {name}: {off:e}");
            }
            let config = OptimizerConfig::default();
            truth = update(&here, &truth, sums, 1e-3, Some(1.0), &config, &|_| false)?.0;
            ours = update(&there, &ours, others, 1e-3, Some(1.0), &config, &|_| false)?.0;
        }
    }
    Ok(())
}

/// Dropout, DoRA, an adapter beside the embedding and beside a tied head, one layer in the last block only, and more.
pub fn kinds() -> Vec<(&'static str, LoraConfig)> {
    let named = |names: &[&str]| TargetModules::Named(names.iter().map(|name| name.to_string()).collect());
    let plain = LoraConfig { rank: 3, alpha: 5.0, ..LoraConfig::default() };
    vec![
        ("dropout", LoraConfig { dropout: 0.3, ..plain.clone() }),
        ("dora", LoraConfig { dora: true, dropout: 0.2, ..plain.clone() }),
        ("head", LoraConfig { target_modules: named(&["lm_head", "q_proj"]), ..plain.clone() }),
        ("embedding", LoraConfig { target_modules: named(&["embed_tokens", "down_proj"]), ..plain.clone() }),
        (
            "last block",
            LoraConfig {
                target_modules: named(&["v_proj"]),
                layers_to_transform: Some(vec![1]),
                ..plain.clone()
            },
        ),
        ("whole head", LoraConfig { modules_to_save: vec!["lm_head".to_string()], ..plain.clone() }),
        ("pissa", LoraConfig { init: Init::Pissa, dropout: 0.1, ..plain.clone() }),
        ("biases", LoraConfig { bias: Biases::All, rank_stabilised: true, ..plain }),
    ]
}

/// Adapters of a kind after some training: B is zero in the beginning, and with it the gradient of A.
pub fn moved(model: &Decoder, config: &LoraConfig) -> Result<Adapters> {
    model.new_adapters(config, 3)?.map(|_, tensor| Ok((tensor + 0.01)?))
}

#[test]
fn device_kinds_of_adapters_give_the_same_bits() -> Result<()> {
    for family in ["tiny", "tied"] {
        let model = Decoder::open(file(family), &first())?;
        for (name, config) in kinds() {
            check(&format!("{name} of {family}"), &model, &moved(&model, &config)?)?;
        }
    }
    Ok(())
}

/// All weights of a tied model: the embedding's gradient is that of the embedding and of the head. On several
/// devices each micro-batch sums the two before it is added, or after: the last bit may differ.
#[test]
fn device_full_training_gives_the_same_numbers() -> Result<()> {
    let model = Decoder::open(file("tied"), &first())?;
    let learned = Learned::new(model.all_trained()?, 7);
    let batch = batch();
    let mut alone = Accumulated::default();
    forward_backward(&model, &learned, &batch, &mut alone, &|| true)?;
    for (devices, placement) in arrangements(model.config().layers) {
        let mut group = DeviceGroup::new(&model, &all(devices), placement, 24)?;
        let mut together = Accumulated::default();
        group.forward_backward(&model, &learned, &batch, &mut together, &|| true)?;
        assert_eq!(together.sum.to_bits(), alone.sum.to_bits());
        assert_eq!(together.gradients.len(), alone.gradients.len());
        for (name, gradient) in alone.gradients.tensors() {
            let other = together.gradients.get(name).unwrap().to_device(&Device::Cpu)?;
            let off = (gradient.to_device(&Device::Cpu)? - other)?.abs()?.max_all()?.to_scalar::<f32>()?;
            let largest = gradient.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(off <= 1e-6 * largest, "{name} on {devices} devices: {off:e} of {largest:e}");
        }
    }
    Ok(())
}

#[test]
fn device_arrangements_that_do_not_fit_are_refused() -> Result<()> {
    let model = Decoder::open(file("tiny"), &first())?;
    let refused = |devices: usize, placement| {
        let group = DeviceGroup::new(&model, &all(devices), placement, 24);
        group.map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(
        refused(3, Placement::Split(2)),
        "3 devices for a model split over 2; take 2 devices or a multiple of that, or split it over another number"
    );
    assert_eq!(
        refused(3, Placement::Split(3)),
        "a model of 2 blocks split over 3 devices; split it over at most 2"
    );
    assert!(refused(0, Placement::Replicate).starts_with("0 devices for a model split over 1"));
    Ok(())
}
