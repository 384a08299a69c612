//! What is found before the first step: the model's tokenizer with good and bad chat templates, tiny data.

use crate::common;
use crate::common::clock;
use crate::common::llama::Sizes;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{self, Value};
use lorascope::analysis::Preflight;
use lorascope::candle_core;
use lorascope::dataset::Dataset;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::model::Model;
use lorascope::train::RunConfig;
use lorascope::train::{Finding, Severity};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CHAT: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// A small model with the real tokenizer and this chat template.
    fn model(&self, template: &str) -> Result<Model> {
        let mut real = std::fs::File::open(common::model_path()).unwrap();
        let metadata = gguf_file::Content::read(&mut real)?.metadata;
        let more = metadata.into_iter().filter(|(name, _)| name.starts_with("tokenizer."));
        let template = ("tokenizer.chat_template".to_string(), Value::String(template.to_string()));
        let context = ("llama.context_length".to_string(), Value::U32(512));
        let more = more.chain([template, context]).collect();
        let sizes = Sizes {
            vocabulary: 49_152,
            width: 32,
            heads: 2,
            kv_heads: 1,
            head: 16,
            intermediate: 48,
            layers: 1,
        };
        let path = self.0.path().join("small.gguf");
        sizes.write_gguf_with(&path, &sizes.tensors(), GgmlDType::F16, more);
        Model::open(path)
    }

    fn data(&self, name: &str, rows: &[(&str, &str, f64)]) -> Result<Dataset> {
        let path = self.0.path().join(name);
        let lines: Vec<String> = rows
            .iter()
            .map(|(question, answer, weight)| {
                let answer = json!({"role": "assistant", "content": answer, "weight": weight});
                json!({"messages": [{"role": "user", "content": question}, answer]}).to_string()
            })
            .collect();
        std::fs::write(&path, lines.join("\n")).unwrap();
        Dataset::open(path)
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.0.path().join(name))
    }
}

const ROWS: [(&str, &str, f64); 4] = [
    ("3 + 5?", "8", 1.0),
    ("4 + 5?", "9", 1.0),
    (
        "Name a colour.",
        "Blue, like the sky on a clear day, and like the sea below it when the wind is still.",
        1.0,
    ),
    ("5 + 5?", "10", 1.0),
];

fn severities(found: &Preflight) -> Vec<(&'static str, Severity)> {
    found.findings.iter().map(|finding| (finding.check, finding.severity)).collect()
}

fn finding<'a>(found: &'a Preflight, check: &str) -> &'a Finding {
    found.findings.iter().find(|finding| finding.check == check).unwrap()
}

#[test]
fn nothing_is_wrong_with_the_real_model_and_rows() -> Result<()> {
    let model = Model::open(common::model_path())?;
    let data = Dataset::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/school_math.jsonl"))?;
    let (train, test) = data.split(0.9, 42)?;
    let config = RunConfig::default().context(1024).eval(&test);
    let found = Preflight::of(&train, &model, &config)?;
    let fine = [
        "records",
        "evaluation records",
        "tokens",
        "end of turn",
        "begin of text",
        "answers",
        "prompt",
        "context",
        "evaluation",
    ];
    // The file has one record that is no row, and a part says so.
    let severity = |check| (check, if check == "records" { Severity::Warning } else { Severity::Fine });
    assert_eq!(severities(&found), fine.map(severity), "{}", found.show().text);
    let told = "run.left_out() lists what is left out; trained on all 1,799 rows; the reader rejected 1 record of the file";
    assert_eq!(finding(&found, "records").what, told);
    assert!(found.fatal().is_none());
    assert!(finding(&found, "end of turn").what.contains("<|im_end|>"));
    assert_eq!(finding(&found, "prompt").what, "200 rows begin with the prompt that generation uses");
    Ok(())
}

#[test]
fn rows_that_are_left_out_or_leak_are_named() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(CHAT)?;
    let mut rows = ROWS.to_vec();
    rows.insert(1, ("<b>What</b> is context only?", "This.", 0.0));
    let data = bench.data("rows.jsonl", &rows)?;
    let eval = bench.data("eval.jsonl", &[("6 + 6?", "12", 1.0), ("4 + 5?", "9", 1.0)])?;
    let found = Preflight::of(&data, &model, &RunConfig::default().context(24).eval(&eval))?;
    use Severity::{Fine, Warning};
    assert_eq!(
        severities(&found),
        [
            ("records", Warning),
            ("evaluation records", Fine),
            ("tokens", Fine),
            ("end of turn", Fine),
            ("begin of text", Fine),
            ("answers", Warning),
            ("prompt", Fine),
            ("context", Warning),
            ("evaluation", Warning)
        ],
        "{}",
        found.show().text
    );
    let answers = finding(&found, "answers");
    assert_eq!((answers.row, answers.line, &answers.file), (Some(1), Some(2), &bench.file("rows.jsonl")));
    assert_eq!(answers.what, "1 rows have no token to train on and are left out, on the lines 2");
    assert_eq!(
        finding(&found, "records").what,
        "run.left_out() lists what is left out; RunConfig::default().context(n) takes longer rows; trained on 3 of 5 records: 1 longer than 24 tokens, 1 without an answer to train on"
    );
    let context = finding(&found, "context");
    assert_eq!((context.row, context.words.as_str()), (Some(3), "Name a colour."));
    assert!(context.what.starts_with("1 rows are longer than 24 tokens and left out, the longest has "));
    let evaluation = finding(&found, "evaluation");
    assert_eq!((evaluation.row, evaluation.line), (Some(2), Some(3)));
    assert_eq!(evaluation.what, "1 of 2 rows are trained on as well");
    assert!(found.fatal().is_none());
    let shown = found.show();
    assert!(
        shown.html.contains("&lt;b&gt;What&lt;/b&gt;") && !shown.html.contains("<b>What"),
        "{}",
        shown.html
    );
    assert!(shown.text.contains("the longest has"), "{}", shown.text);
    Ok(())
}

#[test]
fn an_answer_without_its_end_is_fatal_when_no_row_has_it() -> Result<()> {
    let bench = Bench::new();
    let data = bench.data("rows.jsonl", &ROWS)?;
    let never = CHAT.replace("<|im_end|>", "");
    let found = Preflight::of(&data, &bench.model(&never)?, &RunConfig::default().context(64))?;
    assert_eq!(finding(&found, "end of turn").severity, Severity::Fatal);
    let error = found.fatal().unwrap();
    assert!(error.is_input());
    let said = error.to_string();
    let begin = format!(
        "{}, line 1: end of turn: none of 4 rows learns",
        bench.file("rows.jsonl").unwrap().display()
    );
    assert!(said.starts_with(&begin), "{said}");
    assert!(said.contains("(it begins \"3 + 5?\"); take the model's own chat template"), "{said}");

    let at_times = CHAT.replace(
        "m.content + '<|im_end|>\\n'",
        "m.content + ('\\n' if 'sky' in m.content else '<|im_end|>\\n')",
    );
    assert_ne!(at_times, CHAT);
    let found = Preflight::of(&data, &bench.model(&at_times)?, &RunConfig::default().context(64))?;
    let some = finding(&found, "end of turn");
    assert_eq!((some.severity, some.row, some.line), (Severity::Warning, Some(2), Some(3)));
    assert!(some.what.starts_with("1 of 4 rows have an answer without"), "{}", some.what);
    assert!(found.fatal().is_none());
    Ok(())
}

#[test]
fn two_begins_and_another_prompt() -> Result<()> {
    let bench = Bench::new();
    let data = bench.data("rows.jsonl", &ROWS)?;
    let twice = format!("{{{{ '<|im_start|>' }}}}{CHAT}");
    let model = bench.model(&twice)?;
    assert_eq!(model.tokenizer().bos(), model.tokenizer().id("<|im_start|>"));
    let found = Preflight::of(&data, &model, &RunConfig::default().context(64))?;
    let said = found.fatal().unwrap().to_string();
    assert!(
        said.contains("line 1: begin of text: 4 rows begin with <|im_start|> twice (it begins"),
        "{said}"
    );

    let thinks = CHAT.replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant\\n<think>\\n'");
    assert_ne!(thinks, CHAT);
    let found = Preflight::of(&data, &bench.model(&thinks)?, &RunConfig::default().context(64))?;
    let prompt = finding(&found, "prompt");
    assert_eq!((prompt.severity, prompt.row), (Severity::Warning, Some(0)));
    assert_eq!(prompt.what, "4 of 4 rows do not begin with the prompt that generation uses");
    Ok(())
}

#[test]
fn equal_rows_are_found_quickly() -> Result<()> {
    let bench = Bench::new();
    let rows: Vec<(String, String)> =
        (0..100_000).map(|i| (format!("{i} + 1?"), format!("{}", i + 1))).collect();
    let rows: Vec<(&str, &str, f64)> = rows.iter().map(|(q, a)| (q.as_str(), a.as_str(), 1.0)).collect();
    let data = bench.data("many.jsonl", &rows)?;
    let eval = bench.data("eval.jsonl", &[("none", "of them", 1.0), ("99999 + 1?", "100000", 1.0)])?;
    assert_eq!(data.len(), 100_000);
    let begun = Instant::now();
    assert_eq!(data.equal_rows(&eval)?, [(1, 99_999)]);
    clock::within(begun, Duration::from_secs(3));
    Ok(())
}
