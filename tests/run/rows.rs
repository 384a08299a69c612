//! What runs say of rows that they do not use: lists that are not read, rejected and refused records by their
//! lines, whole sentences.

use crate::common::tiny::{Bench, Tiny, config, finding};
use lorascope::analysis::Preflight;
use lorascope::dataset::Dataset;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::format::ReadOptions;
use lorascope::run::{Run, RunFile};
use lorascope::train::Severity;

/// Refuses a second turn of the user in a row, in many words.
const WORDY: &str = "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}\
    {{ raise_exception('the roles of a conversation must alternate, user and assistant in turn, as this model \
    has never seen two questions one after the other; leave the row out or join its two questions into one, and \
    then begin anew with all the rows that are there, the last word of which is OMEGA') }}{% endif %}\
    <|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
const TWICE: &str = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]}"#;

fn row(question: &str) -> String {
    format!("{{\"instruction\": \"{question}\", \"output\": \"yes\"}}")
}

/// `{"train": 2 rows, "validation": 1 row, "test": 3 rows}`.
fn three() -> String {
    let list =
        |texts: &[&str]| format!("[{}]", texts.iter().map(|text| row(text)).collect::<Vec<_>>().join(", "));
    let (train, valid, test) = (list(&["a?", "b?"]), list(&["c?"]), list(&["d?", "e?", "f?"]));
    format!("{{\"train\": {train}, \"validation\": {valid}, \"test\": {test}}}")
}

fn list(name: &str) -> ReadOptions {
    ReadOptions { list: Some(name.to_string()), ..Default::default() }
}

const TEST: &str = "the file has a second list of rows, `test` (3 rows), which is not read";
const VALIDATION: &str = "the file has a second list of rows, `validation` (1 row), which is not read";

#[test]
fn runs_say_which_lists_of_a_file_are_not_read() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny::default())?;
    let data = bench.data("x.json", &three())?;
    let found = Preflight::of(&data, &model, &config())?;
    let lists = finding(&found, "lists");
    assert_eq!((lists.severity, lists.what.as_str()), (Severity::Warning, &*format!("{VALIDATION}; {TEST}")));
    assert!(lists.file.as_ref().is_some_and(|file| file.ends_with("x.json")), "{lists:?}");
    let run = Run::new("x", &model, &data, config())?;
    let notes = run.status().about_rows.join("\n");
    assert!(notes.contains(VALIDATION) && notes.contains(TEST), "{notes}");
    let left_out = run.left_out()?;
    assert_eq!(left_out, found.left_out);
    let whats: Vec<&str> = left_out.lists.iter().map(|(_, what)| what.as_str()).collect();
    assert_eq!(whats, [VALIDATION, TEST]);
    assert!(left_out.show().text.contains(TEST), "{}", left_out.show().text);

    // Of a part of the rows, too; what is evaluated on is read.
    let test = Dataset::open_with("x.json", &list("test"))?;
    let run = Run::new("part", &model, &data.head(1)?, config().eval(&test))?;
    let whats: Vec<String> = run.left_out()?.lists.into_iter().map(|(_, what)| what).collect();
    assert_eq!(whats, [VALIDATION]);
    // Those of the file to evaluate on.
    let plain = bench.data("plain.jsonl", &format!("{}\n", row("z?")))?;
    let found = Preflight::of(&plain, &model, &config().eval(&data))?;
    assert_eq!(finding(&found, "lists").what, format!("{VALIDATION}; {TEST}"));
    let found = Preflight::of(&plain, &model, &config().eval(&test))?;
    assert!(found.findings.iter().all(|finding| finding.check != "lists"));
    Ok(())
}

#[test]
fn a_file_of_settings_names_its_lists() -> Result<()> {
    let bench = Bench::new();
    bench.model(Tiny::default())?;
    bench.put("x.json", &three());
    let settings = |name: &str, more: &str| -> Result<Run> {
        let text = format!("name = {name:?}\nmodel = 'model'\ndata = 'x.json'\nbatch = 2\n{more}");
        let file = bench.put(&format!("{name}.toml"), &text);
        let again = bench.folder.path().join(format!("{name}-again.toml"));
        RunFile::open(&file)?.save(&again)?;
        let (file, again) = (RunFile::open(file)?, RunFile::open(again)?);
        assert_eq!((&file.list, &file.eval_list), (&again.list, &again.eval_list));
        file.new_run()
    };
    let rows = |run: &Run| -> Result<usize> { Ok(run.left_out()?.counts[0].records) };
    let run = settings("test", "list = 'test'\neval_list = 'validation'\n")?;
    assert_eq!((rows(&run)?, run.evaluate()?.rows), (3, 1));
    let run = settings("both", "eval = 'x.json'\neval_list = 'test'\n")?;
    assert_eq!((rows(&run)?, run.evaluate()?.rows), (2, 3));
    // What a run writes of itself makes the same again.
    run.save_config("saved.toml")?;
    let saved = RunFile { name: Some("again".into()), ..RunFile::open("saved.toml")? };
    let again = saved.new_run()?;
    assert_eq!((rows(&again)?, again.evaluate()?.rows), (2, 3));
    let error = settings("dev", "list = 'dev'\n").unwrap_err().to_string();
    assert!(error.contains("there are `train`, `validation`, `test`"), "{error}");
    Ok(())
}

#[test]
fn rows_left_out_say_all_of_their_reason() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny { template: Some(WORDY), ..Tiny::default() })?;
    let data = bench.data("rows.jsonl", &format!("{}\n{TWICE}\n", row("a?")))?;
    let run = Run::new("rows", &model, &data, config())?;
    let found = run.preflight()?;
    for shown in [run.left_out()?.show(), run.status().show(), run.show(), found.show()] {
        assert!(shown.text.contains("OMEGA") && shown.html.contains("OMEGA"), "{}", shown.text);
    }
    Ok(())
}

/// Which of the rejected records stand between the first 200 rows nobody asks: they are the file's.
#[test]
fn an_evaluation_of_some_rows_counts_no_rejected_record_of_the_others() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny::default())?;
    let rows: String = (0..230).map(|n| row(&format!("{n}?")) + "\n").collect();
    let test = bench.data("test.jsonl", &format!("{rows}{{broken\n{{broken\n"))?;
    let data = bench.data("rows.jsonl", &format!("{}\n", row("a?")))?;
    let run = Run::new("some", &model, &data, config().eval(&test))?;
    let counts = run.left_out()?.counts[1];
    assert_eq!((counts.used, counts.records, counts.rejected, counts.rejected_of_files), (200, 200, 0, 2));
    assert_eq!(counts.to_string(), "evaluated on all 200 rows; the reader rejected 2 records of the file");
    // All rows and all records, where all are used; a part has none of its own, and the file's are not forgotten.
    let test = bench.data("few.jsonl", &format!("{}\n{{broken\n", row("b?")))?;
    let said = |name: &str, test: &Dataset| -> Result<String> {
        let run = Run::new(name, &model, &data, config().eval(test))?;
        Ok(run.left_out()?.counts[1].to_string())
    };
    assert_eq!(said("few", &test)?, "evaluated on 1 of 2 records: 1 rejected by the reader");
    let part = "evaluated on the only row; the reader rejected 1 record of the file";
    assert_eq!(said("head", &test.head(1)?)?, part);
    Ok(())
}

#[cfg(feature = "cli")]
mod command {
    use super::*;

    fn train(bench: &Bench, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lorascope"));
        command.args(arguments).current_dir(bench.folder.path());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    const NEW: [&str; 8] = ["--model", "model", "--steps", "1", "--batch", "2", "--rank", "2"];

    #[test]
    fn names_and_chooses_lists() -> Result<()> {
        let bench = Bench::new();
        bench.model(Tiny::default())?;
        bench.put("x.json", &three());
        let all = |more: &[&str]| {
            let (code, out, err) =
                train(&bench, &[&["train"], more, &NEW[..], &["--data", "x.json"]].concat());
            assert_eq!(code, Some(0), "{out}{err}");
            out
        };
        let out = all(&["x"]);
        assert!(out.contains(VALIDATION) && out.contains(TEST), "{out}");
        assert!(
            out.contains("--list NAME") && out.contains("--eval-list NAME") && !out.contains('…'),
            "{out}"
        );
        let out = all(&["y", "--list", "test", "--eval-list", "validation"]);
        assert!(out.contains("3 to train on") && !out.contains("second list"), "{out}");
        let run = Run::open("runs/y")?;
        assert_eq!(run.evaluate()?.rows, 1);
        let map = "user=instruction,assistant=output";
        let out = all(&["z", "--list", "test", "--map", map, "--eval", "x.json", "--eval-list", "train"]);
        assert!(out.contains("3 to train on") && out.contains("2 rows"), "{out}");
        Ok(())
    }

    #[test]
    fn names_rejected_and_refused_rows() -> Result<()> {
        let bench = Bench::new();
        bench.model(Tiny { template: Some(WORDY), ..Tiny::default() })?;
        let good = row("a?");
        bench.put("rows.jsonl", &format!("{good}\n{}{TWICE}\n{good}\n", "{broken\n".repeat(24)));
        let (code, out, err) =
            train(&bench, &[&["train", "rows"], &NEW[..], &["--data", "rows.jsonl"]].concat());
        // It has trained.
        assert_eq!(code, Some(0), "{out}{err}");
        assert!(out.contains("OMEGA") && !out.contains('…'), "{out}");
        let lines: Vec<&str> = err.lines().collect();
        let said = |line: &str| lines.iter().filter(|found| **found == line).count();
        assert_eq!(said("25 records were rejected or refused, and left out"), 2, "{err}");
        assert_eq!((said("and 5 more"), said("and 20 more")), (1, 1), "{err}");
        let named = |line: u32| {
            lines
                .iter()
                .filter(|said| said.contains(&format!("rows.jsonl, line {line}: broken JSON: ")))
                .count()
        };
        assert_eq!((named(2), named(6), named(7), named(21), named(22)), (2, 2, 1, 1, 0), "{err}");

        bench.put("few.jsonl", &format!("{good}\n{TWICE}\n"));
        let few = [&NEW[..], &["--data", "few.jsonl"]].concat();
        let (code, _, err) = train(&bench, &[&["train", "few"], &few[..]].concat());
        assert_eq!(code, Some(0));
        let start = "few.jsonl, line 2: refused by the chat template: ";
        let line = err.lines().find(|line| line.contains(start)).unwrap_or_default();
        assert!(line.ends_with("OMEGA"), "{err}");
        let (code, _, err) = train(&bench, &[&["train", "strict", "--strict"], &few[..]].concat());
        assert_eq!((code, err.contains("few.jsonl, line 2")), (Some(2), true), "{err}");
        Ok(())
    }

    #[test]
    fn reads_the_format_that_is_named() -> Result<()> {
        let bench = Bench::new();
        bench.model(Tiny::default())?;
        // A class is no verdict on the answer.
        let row = r#"{"instruction": "a?", "output": "yes", "label": "sport"}"#;
        bench.put("classes.jsonl", &format!("{row}\n{row}\n"));
        let rows = ["--data", "classes.jsonl"];
        let (code, _, err) = train(&bench, &[&["train", "none"], &NEW[..], &rows].concat());
        assert_eq!((code, err.contains("as in --from prompt-completion")), (Some(2), true), "{err}");
        let named = [&["train", "named"], &NEW[..], &rows, &["--from", "alpaca"]].concat();
        let (code, out, err) = train(&bench, &named);
        assert_eq!((code, out.contains("2 to train on")), (Some(0), true), "{out}{err}");
        Ok(())
    }

    #[test]
    fn sets_the_context() -> Result<()> {
        let bench = Bench::new();
        bench.model(Tiny::default())?;
        bench.put("rows.jsonl", &format!("{}\n{}\n", row("a?"), row(&"long ".repeat(30))));
        let rows = ["--data", "rows.jsonl", "--context", "100"];
        let (code, out, err) = train(&bench, &[&["train", "short"], &NEW[..], &rows].concat());
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("trained on 1 of 2 records: 1 longer than 100 tokens"), "{out}");
        assert!(out.contains("--context N takes longer rows"), "{out}");
        let (code, _, err) =
            train(&bench, &[&["train", "none"], &NEW[..], &rows[..2], &["--context", "9"]].concat());
        assert_eq!(code, Some(2));
        assert!(err.contains("raise the context with --context N"), "{err}");
        let report = ["data", "report", "rows.jsonl", "--tokenizer", "model", "--context", "100,7", "--json"];
        let (code, out, err) = train(&bench, &report);
        assert_eq!(code, Some(0), "{err}");
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        let cuts: Vec<u64> = report["contexts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cut| cut["context"].as_u64().unwrap())
            .collect();
        assert_eq!(cuts, [100, 7], "{report}");
        Ok(())
    }
}
