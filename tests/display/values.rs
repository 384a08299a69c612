//! What a cell shows that ends in a plain value: results and options, settings, adapters, columns, tensors;
//! and what `{:?}` says of a value that holds much.

use crate::common::tiny;
use crate::common::tiny::{Bench, Tiny};
use lorascope::candle_core::{Device, Tensor};
use lorascope::display::{Bundle, Show, Table};
use lorascope::error::{Error, Result};
use lorascope::lora::LoraConfig;
use lorascope::plot;
use lorascope::polars::prelude::{Column, IntoColumn, NamedFrom, PolarsError, Series};
use lorascope::prelude::*;

const ROWS: &str = "{\"instruction\":\"1 + 1 = ?\",\"output\":\"2\"}\n{\"instruction\":\"2 + 2 = ?\",\"output\":\"4\"}\n\
                    {\"instruction\":\"3 + 3 = ?\",\"output\":\"6\"}\n{\"instruction\":\"4 + 4 = ?\",\"output\":\"8\"}\n";

/// HTML and text that both have these words.
#[track_caller]
fn says(shown: &Bundle, words: &[&str]) {
    for word in words {
        assert!(shown.html.contains(word), "no {word:?} in {}", shown.html);
        assert!(shown.text.contains(word), "no {word:?} in {}", shown.text);
    }
}

#[test]
fn a_result_shows_its_value_or_the_error_in_red_with_the_way_on() {
    let mut table = Table::new([("rank", lorascope::display::Align::Right)]);
    table.row(["8"]);
    let good: Result<Table> = Ok(table.clone());
    assert_eq!(good.show(), table.show());

    let bad: Result<Table> = Err(Error::format("no closing <brace>").path("rows.jsonl").line(7));
    let shown = bad.show();
    assert!(shown.html.contains("color:#e5534b"), "{}", shown.html);
    assert!(shown.html.contains("rows.jsonl, line 7: no closing &lt;brace&gt;"), "{}", shown.html);
    assert!(shown.html.contains("add `?`") && shown.text.contains("add `?`"));
    assert!(shown.text.starts_with("error: rows.jsonl, line 7: no closing <brace>\n"), "{}", shown.text);

    // Of others' errors as well, and of references in it.
    let column: std::result::Result<&Column, PolarsError> =
        Err(PolarsError::ColumnNotFound("no such column".into()));
    says(&column.show(), &["no such column", "add `?`"]);
}

#[test]
fn an_option_shows_its_value_or_none() {
    assert_eq!(Some(Text::new("3 < 5")).show(), Text::new("3 < 5").show());
    says(&None::<Text>.show(), &["none"]);
    says(&Some(0.4636).show(), &["0.4636"]);
    let nested: Result<Option<f64>> = Ok(None);
    says(&nested.show(), &["none"]);
}

#[test]
fn plain_values_and_lists_of_them_are_shown_and_cut() {
    says(&2.5f64.show(), &["2.5"]);
    says(&vec![1u32, 2, 3].show(), &["[1, 2, 3]"]);
    says(&[true, false].show(), &["[true, false]"]);
    let many: Vec<f64> = (0..100_000).map(f64::from).collect();
    let shown = many.show();
    says(&shown, &["[0.0, 1.0, ", ", …, ", "99999.0] (100,000 in all)"]);
    assert!(shown.html.len() < 2000, "{}", shown.html.len());
    says(&vec!["one".to_string(), "two $".to_string()].show(), &["one", "2 texts"]);
    let texts: Vec<Text> = (0..1000).map(|n| Text::new(format!("text {n}"))).collect();
    says(&texts.show(), &["text 0", "… and 976 more"]);
    assert!(!texts.show().text.contains("text 24"), "{}", texts.show().text);
    assert_eq!(().show().printed(), "");
}

#[test]
fn a_conversation_shows_who_says_what() {
    let messages = vec![Message::system("be brief"), Message::user("3 < 5?"), Message::assistant("yes")];
    let shown = messages.show();
    assert_eq!(shown.text, "[system] be brief\n[user] 3 < 5?\n[assistant] yes");
    assert!(shown.html.contains("<b>user</b></small>\n3 &lt; 5?</div>"), "{}", shown.html);
}

#[test]
fn columns_and_tensors_show_their_numbers() -> Result<()> {
    let series = Series::new("loss".into(), (0..1000).map(f64::from).collect::<Vec<_>>());
    says(&series.show(), &["loss", "f64", "1,000 rows", "999.0"]);
    assert_eq!(series.clone().into_column().show(), series.show());

    let tensor = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((2, 3))?;
    says(&tensor.show(), &["[3., 4., 5.]", "Tensor[[2, 3], f32]"]);
    let large = Tensor::zeros((512, 512), lorascope::candle_core::DType::F32, &Device::Cpu)?;
    assert!(large.show().html.len() < 2000 && large.show().text.contains("..."), "{}", large.show().text);
    let result: std::result::Result<Tensor, lorascope::candle_core::Error> = tensor.matmul(&tensor);
    says(&result.show(), &["add `?`", "shape mismatch"]);
    assert!(!result.show().text.contains("backtrace"), "{}", result.show().text);
    Ok(())
}

#[test]
fn settings_show_as_tables() {
    let lora = LoraConfig { rank: 4, dora: true, ..LoraConfig::default() };
    says(&lora.show(), &["rank r", "alpha α", "target modules", "all linear layers of the blocks", "DoRA"]);
    assert!(!lora.show().text.contains("biases"), "{}", lora.show().text);
    let matching = LoraConfig { target_modules: TargetModules::Matching(".*q_proj".into()), ..lora };
    says(&matching.show(), &["paths that match .*q_proj"]);

    let config = RunConfig::default().rank(8).lr(1e-3).targets(["q_proj", "v_proj"]).eval_every(20);
    says(
        &config.show(),
        &[
            "rank r",
            "q_proj, v_proj",
            "1e-3",
            "10 steps of warm-up",
            "16 rows",
            "every 20 steps",
            "AdamW",
            "seed",
            "42",
        ],
    );
    assert!(RunConfig::default().full().show().text.contains("all weights"));
}

#[test]
fn what_a_run_trains_with_is_in_its_table() -> Result<()> {
    let bench = Bench::new();
    let (model, data) = (bench.model(Tiny::default())?, bench.data("rows.jsonl", ROWS)?);
    let config = tiny::config().targets(["q_proj", "down_proj"]).eval(&data).eval_every(5);
    let run = Run::new("table", &model, &data, config)?;
    says(
        &run.show(),
        &["target modules", "q_proj, down_proj", "schedule", "1 step of warm-up", "4 rows, every 5 steps"],
    );
    run.set_eval_every(None)?;
    says(&run.show(), &["4 rows, when asked"]);
    Ok(())
}

#[test]
fn adapters_and_their_spectra_are_tables_and_short_in_debug() -> Result<()> {
    let bench = Bench::new();
    let (model, data) = (bench.model(Tiny::default())?, bench.data("rows.jsonl", ROWS)?);
    let run = Run::new("shown", &model, &data, tiny::config().rank(4))?;
    let step = run.step();
    says(&step.show(), &["gradient norm", "loss"]);
    run.steps(3)?;
    let adapters = run.adapters();
    says(&adapters.show(), &["model.layers.0.self_attn.q_proj", "LoRA", "7 adapters of rank 4", "32×32"]);
    let spectra = run.spectra()?;
    let name = "model.layers.0.self_attn.q_proj";
    says(&spectra.get(name)?.show(), &[name, "singular values", "effective", "‖ΔW‖"]);
    let vectors = adapters.vectors(name)?;
    says(&vectors.show(), &["4 directions", "[32, 4]"]);
    let weight = model.base_weight(name)?;
    says(&weight.show(), &[name, "32×32", "‖W₀‖"]);
    says(&plot::Series::line("mine", [(1.0, 2.0), (2.0, 1.0)]).show(), &["mine"]);

    let large = BaseWeight::new(
        "large",
        &Tensor::ones((256, 256), lorascope::candle_core::DType::F32, &Device::Cpu)?,
    )?;
    let figure = spectra.plot()?;
    let history = run.history();
    let debug = [
        format!("{step:?}"),
        format!("{history:?}"),
        format!("{adapters:?}"),
        format!("{:?}", model.adapter_status(&adapters)),
        format!("{spectra:?}"),
        format!("{:?}", run.spectra_history()),
        format!("{:?}", spectra.get(name)?),
        format!("{vectors:?}"),
        format!("{large:?}"),
        format!("{figure:?}"),
        format!("{:?}", figure.show()),
        format!("{:?}", history.show()),
        format!("{:?}", run.gradients()),
        format!("{:?}", run.inspect(name)),
        format!("{:?}", run.batch()),
        format!("{:?}", run.worst(4)),
        format!("{:?}", run.left_out()),
        format!("{:?}", run.status()),
        format!("{run:?}"),
        format!("{model:?}"),
        format!("{data:?}"),
        format!("{:?}", data.report()),
        format!("{:?}", data.losses(RowSchema::ShareGpt)),
        format!("{:?}", compare_runs(&[&run, &run])),
        format!("{:?}", Preflight::of(&data, &model, &tiny::config())),
        format!("{:?}", SubspaceOverlap::of(&vectors, &vectors, Side::Right, (4, 4), 1)),
        format!("{:?}", Amplification::of(&weight, &vectors, 4, 1)),
        format!("{:?}", spectra.advise(0.9)),
    ];
    for debug in debug {
        assert!(debug.len() < 1000 && debug.lines().count() <= 4, "{} bytes: {debug}", debug.len());
        assert!(!debug.starts_with("Err"), "{debug}");
    }
    Ok(())
}

#[test]
fn an_error_in_debug_is_its_message() {
    let error: Result<Table> = Err(Error::input("rank is 0").help("give at least 1"));
    assert_eq!(format!("{error:?}"), "Err(rank is 0; give at least 1)");
}

#[test]
fn what_is_shown_may_print_while_it_is_worked_out() -> Result<()> {
    use lorascope::display::EvcxrDisplay as _;
    // polars works this out on threads of its own.
    let frame = lorascope::polars::prelude::df!("a" => [1i32, 2], "b" => [3i32, 4])?;
    let told = |column: lorascope::polars::prelude::Column| {
        println!("{} values", column.len());
        Ok(column)
    };
    let same =
        |_: &lorascope::polars::prelude::Schema, field: &lorascope::polars::prelude::Field| Ok(field.clone());
    frame.lazy().with_columns([col("a").map(told, same), col("b").map(told, same)]).evcxr_display();
    Ok(())
}
