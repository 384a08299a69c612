//! Runs whose products are in a half type: they go on to the bit as others do, on any number of devices, and keep their
//! precision.

use crate::common::devices::devices;
use crate::common::runs::{Bench, bits, config, losses};
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::model::GenerateConfig;
use lorascope::model::generate::generate;
use lorascope::ops::Precision;
use lorascope::run::Run;
use lorascope::text::Message;
use lorascope::train::{Devices, Placement, RunConfig};

fn half() -> RunConfig {
    config().batch(5).micro_batch(40).devices(devices(1)).precision(Precision::F16)
}

/// Paused, closed, opened, rewound and on three devices: the steps of an undisturbed run, which are not those of f32.
#[test]
fn device_f16_run_goes_on_to_the_bit() -> Result<()> {
    let bench = Bench::new()?;
    let eval = bench.data.head(4)?;
    let small = || half().eval(&eval).eval_every(3);
    let straight = bench.run("straight", small())?;
    straight.steps(8)?;
    let full = bench.run("full", small().precision(Precision::F32))?;
    full.steps(8)?;
    let (ours, truth) = (straight.history(), full.history());
    for (ours, truth) in ours.steps().iter().zip(truth.steps()) {
        assert!(ours.loss != truth.loss, "step {} was made in f32", ours.step);
        assert!((ours.loss / truth.loss - 1.0).abs() < 2e-3, "{} and {}", ours.loss, truth.loss);
    }

    let run = bench.run("moving", small())?;
    run.start(8)?;
    run.pause()?;
    let folder = run.folder().to_path_buf();
    run.close()?;
    let run = Run::open(&folder)?;
    assert_eq!(run.config().precision, Precision::F16);
    assert!(run.config().show().text.contains("products in f16, the rest in f32"));
    let left = 8 - run.status().step;
    run.steps(left.min(2))?;
    run.set_devices(devices(3), Placement::Replicate)?;
    run.steps(left - left.min(2))?;
    assert_eq!(losses(&run), losses(&straight));
    assert!(bits(&run.adapters()) == bits(&straight.adapters()));
    let evaluated = |run: &Run| run.history().steps().iter().map(|s| s.eval_loss).collect::<Vec<_>>();
    assert_eq!(evaluated(&run), evaluated(&straight));
    assert_eq!(run.evaluate()?.loss.to_bits(), straight.evaluate()?.loss.to_bits());
    run.rewind(4)?;
    run.steps(4)?;
    assert!(bits(&run.adapters()) == bits(&straight.adapters()));
    // By hand, too.
    let (by_hand, whole) = (straight.fork("by-hand", |_| ())?, straight.fork("whole", |_| ())?);
    by_hand.forward_backward(&by_hand.next_batch()?)?;
    by_hand.optimizer_step()?;
    whole.step()?;
    assert!(bits(&by_hand.adapters()) == bits(&whole.adapters()));
    Ok(())
}

#[test]
fn device_precision_belongs_to_a_run() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("half", half())?;
    run.step()?;
    let refused = run.fork("other", |c| c.precision = Precision::F32).map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        refused,
        "a fork cannot have another precision; the run keeps its own: begin a new run from its adapters with init_from"
    );
    let fork = run.fork("same", |c| c.lr = 1e-3)?;
    fork.step()?;
    assert_eq!(fork.config().precision, Precision::F16);
    let error = bench
        .run("bf16", half().devices(Devices::cpu(1)).precision(Precision::Bf16))
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "precision bf16 on the CPU, where it cannot be multiplied; take f16 or f32 there, or train on a GPU"
    );
    assert!(!bench.folder().join("runs/bf16").exists());
    Ok(())
}

/// What a run says and what is watched is computed as its steps are: a sign of f32 would show in some of these texts.
#[test]
fn device_f16_run_generates_in_f16() -> Result<()> {
    let bench = Bench::new()?;
    let run = bench.run("half", half())?;
    run.steps(2)?;
    let (messages, tokenizer) = ([Message::user("2 + 2 = ?")], bench.model.tokenizer());
    let ids = tokenizer.prompt(&messages, None)?;
    let in_type = |precision, config: &GenerateConfig| {
        let decoder = bench.model.decoder().with_precision(precision);
        let made = generate(&decoder, &run.adapters(), &ids, tokenizer.stop_ids(), config)?;
        tokenizer.decode(&made)
    };
    let mut other = 0;
    for seed in 0..2 {
        let config = GenerateConfig { max_tokens: 24, temperature: 1.0, seed, ..Default::default() };
        let said = run.chat(&messages, &config)?.to_string();
        assert_eq!(said, in_type(Precision::F16, &config)?);
        other += usize::from(said != in_type(Precision::F32, &config)?);
    }
    assert!(other > 0, "f16 and f32 say the same");
    run.watch(&["2 + 2 = ?"], 1)?;
    run.step()?;
    let config = GenerateConfig { max_tokens: 64, ..Default::default() };
    let watched = run.answers().0.last().map(|answer| answer.answer.clone());
    assert_eq!(watched, Some(in_type(Precision::F16, &config)?));
    Ok(())
}
