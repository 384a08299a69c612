//! The prelude beside polars' prelude: no name of ours is ambiguous, and a cell's types are shown.

use lorascope::polars::prelude::*;
use lorascope::prelude::*;

/// Every name of our prelude, used where both are in scope: an ambiguous one would not compile.
#[test]
fn fits_beside_polars() {
    fn owned<T: Send + 'static>() -> usize {
        size_of::<T>()
    }
    let sizes = [
        owned::<Dataset>(),
        owned::<RowSchema>(),
        owned::<Table>(),
        owned::<Text>(),
        owned::<Adapters>(),
        owned::<LoraConfig>(),
        owned::<GenerateConfig>(),
        owned::<Model>(),
        owned::<ExportOptions>(),
        owned::<ExportType>(),
        owned::<OpenOptions>(),
        owned::<WeightDtype>(),
        owned::<Figure>(),
        owned::<Spectra>(),
        owned::<Spectrum>(),
        owned::<Message>(),
        owned::<Tokenizer>(),
        owned::<Evaluation>(),
        owned::<History>(),
        owned::<Run>(),
        owned::<RunConfig>(),
        owned::<Status>(),
        owned::<State>(),
        owned::<Ending>(),
        owned::<Reports>(),
        owned::<RunFile>(),
        owned::<Schedule>(),
        owned::<Shape>(),
        owned::<Snapshots>(),
        owned::<OptimizerConfig>(),
        owned::<AdamWConfig>(),
        owned::<SgdConfig>(),
        owned::<Recompute>(),
        owned::<Trained>(),
        owned::<PromptAnswers>(),
        owned::<SpecialTokens>(),
        owned::<StepReport>(),
    ];
    assert!(sizes.iter().all(|size| *size > 0));
    assert!(runs().is_empty());

    // `?` on polars' results and a frame as the last expression of a cell.
    let frame = df!("rank" => [1, 2], "loss" => [2.5, 1.5]).unwrap();
    let low = frame.lazy().filter(col("loss").lt(lit(2.0))).collect().unwrap();
    assert_eq!(low.height(), 1);
    low.evcxr_display();
}

/// What the settings of runs, of reading and of writing are built of, with nothing else in scope.
#[test]
fn has_what_its_own_builders_need() {
    let lora = LoraConfig {
        target_modules: TargetModules::Named(vec!["q_proj".to_string()]),
        init: Init::default(),
        bias: Biases::default(),
        ..LoraConfig::default()
    };
    let schedule = Schedule { shape: Shape::Cosine, total: Some(200), ..Schedule::default() };
    let settings = RunConfig { adaptation: Adaptation::Lora, faults: OnFault::Fail, ..RunConfig::default() }
        .lora(lora)
        .rank(8)
        .schedule(schedule)
        .optimizer(OptimizerConfig::Sgd(SgdConfig::default()))
        .recompute(Recompute::Blocks)
        .precision(Precision::Bf16)
        .snapshots(Snapshots { keep: 5, ..Snapshots::default() })
        .trained(Trained::All)
        .prompt_answers(PromptAnswers::default())
        .special_tokens(SpecialTokens::default());
    settings.check().unwrap();
    assert_eq!((settings.lora.rank, settings.schedule.total, settings.faults), (8, Some(200), OnFault::Fail));
    let reading = ReadOptions {
        schema: Some(RowSchema::OpenAi),
        join: Join::Nothing,
        faults: OnFault::List,
        fixes: vec![Fix::Trim].into(),
        ..ReadOptions::default()
    };
    let writing = WriteOptions {
        extra: Extra::Keep,
        layout: Layout::Keep,
        misfits: Misfits::LeaveOut,
        ..WriteOptions::default()
    };
    assert!(reading != ReadOptions::default() && writing != WriteOptions::default());
}

/// A frame is filtered with nothing but our prelude: in a notebook of its own polars' is seldom brought in.
mod alone {
    use lorascope::prelude::*;

    #[test]
    fn has_what_a_filter_needs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        let row = |n: u32| format!("{{\"instruction\":\"{n} + 1 = ?\",\"output\":\"{}\"}}\n", n + 1);
        std::fs::write(&path, (0..5).map(row).collect::<String>()).unwrap();
        let data = Dataset::open(&path).unwrap();
        let columns = data.columns().unwrap().lazy().filter(col("row").gt(lit(2))).collect().unwrap();
        assert_eq!((columns.height(), data.filter(col("row").lt(lit(2))).unwrap().len()), (2, 2));
    }
}
