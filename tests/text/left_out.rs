//! Rows that are left out of training and of evaluation: counted, named and said.

use crate::common::tiny::{Bench, LABELLED, Tiny, config, finding};
use lorascope::analysis::Preflight;
use lorascope::dataset::Dataset;
use lorascope::display::Show;
use lorascope::error::{Error, Result};
use lorascope::format::{OnFault, ReadOptions};
use lorascope::run::Run;
use lorascope::text::Trained;
use lorascope::train::Severity;
use lorascope::train::{RowLeftOut, RowsFor, RunConfig, Why};

#[test]
fn answers_that_are_labelled_bad_are_not_learned() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny::default())?;
    let data = bench.data("kto.jsonl", LABELLED)?;
    assert_eq!((data.label(0)?, data.label(1)?), (Some(true), Some(false)));
    let run = Run::new("kto", &model, &data, config().eval(&data))?;
    let step = run.step()?;
    // Two epochs of two rows.
    let rows: Vec<u32> = step.rows.iter().map(|row| row.row).collect();
    assert!(rows.iter().all(|row| [0, 2].contains(row)), "{rows:?}");
    assert_eq!(run.evaluate()?.tokens, "11".len() + 1 + "Eight.".len() + 1);
    let left_out = run.left_out()?;
    let lines: Vec<(u64, Why)> = left_out.rows.iter().map(|row| (row.line, row.why.clone())).collect();
    let twice = [(2, Why::LabelledBad), (4, Why::LabelledBad)];
    assert_eq!(lines, [twice.clone(), twice].concat(), "of training and of evaluation");
    let note = "run.left_out() lists what is left out; trained on 2 of 4 records: 2 labelled bad";
    assert!(run.status().about_rows.iter().any(|said| said == note), "{:?}", run.status().about_rows);
    assert_eq!(run.show().text.matches(note).count(), 1, "{}", run.show().text);
    let found = Preflight::of(&data, &model, &config())?;
    let labels = finding(&found, "labels");
    assert_eq!((labels.severity, labels.line, labels.row), (Severity::Warning, Some(2), Some(1)));
    assert_eq!(labels.what, "2 rows are labelled bad and left out, on the lines 2, 4");
    assert_eq!(found.left_out.frame()?.height(), 2);

    // The report counts none of their tokens as trained.
    let report = data.report_with(model.tokenizer())?;
    assert_eq!(report.spreads.iter().find(|spread| spread.of == "trained").unwrap().lengths.total, 3 + 7);

    let bad: String =
        LABELLED.lines().filter(|line| line.contains("false")).map(|line| format!("{line}\n")).collect();
    let bad = bench.data("bad.jsonl", &bad)?;
    let told = Run::new("bad", &model, &bad, config()).unwrap_err().to_string();
    assert!(told.ends_with("bad.jsonl: no row can be trained on: of 2, 2 are labelled bad; a run learns answers that are labelled good: give it rows with the label true, or rows without a label"), "{told}");
    let told = Run::new("bad", &model, &data, config().eval(&bad)).unwrap_err().to_string();
    assert!(told.contains("no row can be evaluated on: of 2, 2 are labelled bad"), "{told}");

    // An evaluation takes the first rows that are good, however many bad ones stand before them.
    let sorted: String = (0..500)
        .map(|n| format!("{{\"prompt\": \"{n}?\", \"completion\": \"{n}\", \"label\": {}}}\n", n >= 250))
        .collect();
    let sorted = bench.data("sorted.jsonl", &sorted)?;
    let run = Run::new("sorted", &model, &sorted, config().eval(&sorted))?;
    assert_eq!(run.evaluate()?.rows, 200);
    Ok(())
}

/// Refuses system texts as Gemma's does, and roles that do not alternate as many do.
const ALTERNATE: &str = "{% if messages and messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}\
    {% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}\
    {{ raise_exception('roles must alternate user/assistant') }}{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

const TWICE: &str = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]}"#;
const SYSTEM: &str = r#"{"messages": [{"role": "system", "content": "Brief."}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]}"#;

/// Writes tools before the last user's turn, as Mistral's does.
const LATE_TOOLS: &str = "{% set users = messages | selectattr('role', 'equalto', 'user') | list %}\
    {% for m in messages %}{% if m.role == 'user' and tools and m == users[-1] %}TOOLS {{ tools | tojson }}{% endif %}\
    <|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[test]
fn one_refused_row_ends_nothing() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny { template: Some(ALTERNATE), ..Tiny::default() })?;
    let good = "{\"instruction\": \"1 + 1?\", \"output\": \"2\"}\n";
    let data = bench.data("rows.jsonl", &format!("{good}{TWICE}\n{good}"))?;
    let test = bench.data("test.jsonl", &format!("{TWICE}\n{good}"))?;
    let run = Run::new("rows", &model, &data, config().eval(&test))?;
    run.step()?;
    assert_eq!(run.evaluate()?.rows, 1);
    let left_out = run.left_out()?;
    let places: Vec<(String, u64)> = left_out
        .rows
        .iter()
        .map(|row| (row.file.file_name().unwrap().to_string_lossy().to_string(), row.line))
        .collect();
    assert_eq!(places, [("rows.jsonl".to_string(), 2), ("test.jsonl".to_string(), 1)]);
    assert!(left_out.rows.iter().all(
        |row| matches!(&row.why, Why::Refused(why) if why.contains("roles must alternate user/assistant"))
    ));
    assert!(left_out.show().text.contains("roles must alternate"), "{}", left_out.show().text);
    let notes = run.status().about_rows.join("\n");
    for said in [
        "trained on 2 of 3 records: 1 refused by the chat template",
        "evaluated on 1 of 2 records: 1 refused by the chat template",
        "makes the first an error: 1 row is refused by the chat template and left out, on the lines 2; the first: chat template, line 1: roles must alternate user/assistant (for example line 2 of rows.jsonl)",
        "(for example line 1 of test.jsonl)",
    ] {
        assert!(notes.contains(said), "{said:?} in {notes}");
    }
    // It can be looked at.
    let chat = data.for_model(&model).row(1)?;
    assert!(
        chat.pieces.is_empty() && chat.show().text.contains("roles must alternate"),
        "{}",
        chat.show().text
    );

    // Strict, by the run's settings and by how the data was opened.
    let strict =
        |name: &str, data: &Dataset, config: RunConfig| Run::new(name, &model, data, config).unwrap_err();
    let data = bench.data("strict.jsonl", &format!("{good}{SYSTEM}\n"))?;
    let fail = ReadOptions { faults: OnFault::Fail, ..ReadOptions::default() };
    let failing = Dataset::open_with("strict.jsonl", &fail)?;
    let wrong = |error: Error, place: &str| {
        let said = error.to_string();
        assert!(said.contains(&format!("{place}: chat template, line 1: ")), "{said}");
    };
    wrong(strict("strict", &data, config().strict()), "strict.jsonl, line 2");
    wrong(strict("strict", &failing, config()), "strict.jsonl, line 2");
    wrong(strict("strict", &data.head(1)?, config().eval(&test).strict()), "test.jsonl, line 1");

    // All of them: the first one's words and line.
    let all = bench.data("all.jsonl", &format!("{TWICE}\n{TWICE}\n"))?;
    let told = Run::new("all", &model, &all, config()).unwrap_err().to_string();
    assert!(told.contains("all.jsonl, line 1: no row can be trained on: of 2, 2 are refused by the chat template; the first: chat template, line 1: roles must alternate user/assistant"), "{told}");
    Ok(())
}

#[test]
fn a_template_that_rewrites_an_earlier_turn_loses_that_row_alone() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny { template: Some(LATE_TOOLS), ..Tiny::default() })?;
    let tools = r#""tools": [{"type": "function", "function": {"name": "weather", "description": "", "parameters": {"type": "object", "properties": {}}}}]"#;
    let turns = |n: usize| {
        let pair = |n| {
            format!(
                r#"{{"role": "user", "content": "Town {n}?"}}, {{"role": "assistant", "content": "Cold."}}"#
            )
        };
        (0..n).map(pair).collect::<Vec<_>>().join(", ")
    };
    let broken = r#""tools": "[{\"type\": ""#;
    let rows = format!(
        "{{\"messages\": [{}], {tools}}}\n{{\"messages\": [{}], {tools}}}\n{{\"messages\": [{}]}}\n{{\"messages\": [{}], {broken}}}\n",
        turns(1),
        turns(2),
        turns(2),
        turns(1)
    );
    let data = bench.data("rows.jsonl", &rows)?;
    let run = Run::new("mistral", &model, &data, config())?;
    let step = run.step()?;
    assert!(step.rows.iter().all(|row| [0, 2].contains(&row.row)), "{:?}", step.rows);
    let left_out = run.left_out()?;
    let lines: Vec<u64> = left_out.rows.iter().map(|row| row.line).collect();
    assert_eq!(lines, [2, 4], "{}", left_out.show().text);
    Ok(())
}

#[test]
fn one_line_says_what_is_left_out() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny { template: Some(ALTERNATE), ..Tiny::default() })?;
    let row = |question: &str, answer: &str| {
        format!("{{\"prompt\": \"{question}\", \"completion\": \"{answer}\"}}\n")
    };
    let mut text: String = (0..5).map(|n| row(&format!("{n}?"), "yes")).collect();
    text += "{\"prompt\": \"broken\n";
    text += &row(&"long ".repeat(40), "yes");
    text += &format!("{TWICE}\n");
    text += "{\"prompt\": \"x\", \"completion\": \"y\", \"label\": false}\n";
    text += "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\", \"weight\": 0}]}\n";
    let data = bench.data("rows.jsonl", &text)?;
    assert_eq!((data.len(), data.rejected()?), (9, 1));
    let line = "trained on 5 of 10 records: 1 rejected by the reader, 1 longer than 100 tokens, 1 refused by the chat \
                template, 1 without an answer to train on, 1 labelled bad";
    let run = Run::new("rows", &model, &data, config().context(100))?;
    let left_out = run.left_out()?;
    assert_eq!(left_out.counts[0].to_string(), line);
    let note = format!(
        "run.left_out() lists what is left out; RunConfig::default().context(n) takes longer rows; {line}"
    );
    assert_eq!(run.status().about_rows[0], note, "what to do comes first");
    let lines: Vec<u64> = left_out.rows.iter().map(|row| row.line).collect();
    assert_eq!(lines, [6, 7, 8, 9, 10]);
    let frame = left_out.frame()?;
    let why: Vec<&str> = frame.column("why")?.str()?.iter().flatten().collect();
    assert_eq!(
        why,
        [
            "rejected by the reader",
            "too long",
            "refused by the chat template",
            "labelled bad",
            "without an answer to train on"
        ]
    );
    let found = Preflight::of(&data, &model, &config().context(100))?;
    assert_eq!(finding(&found, "records").what, note);
    assert_eq!((finding(&found, "records").severity, &found.left_out), (Severity::Warning, &left_out));

    // A part has no rejected records of its own, and they are not forgotten.
    let part = Run::new("part", &model, &data.head(5)?, config())?;
    let said = "trained on all 5 rows; the reader rejected 1 record of the file";
    assert_eq!(part.left_out()?.counts[0].to_string(), said);
    assert!(part.status().about_rows[0].ends_with(said), "{:?}", part.status().about_rows);
    assert_eq!(part.left_out()?.rows.len(), 1);
    let whole = bench.data("whole.jsonl", &row("1?", "yes"))?;
    let found = Preflight::of(&whole, &model, &config())?;
    assert_eq!(finding(&found, "records").what, "trained on the only row");
    assert_eq!(finding(&found, "records").severity, Severity::Fine);
    Ok(())
}

/// A person sees it once, in whichever comes first, and again in the run when they look.
#[test]
fn what_is_left_out_is_said_once_and_is_still_there() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny { template: Some(ALTERNATE), ..Tiny::default() })?;
    let row = |n: usize| format!("{{\"prompt\": \"{n}?\", \"completion\": \"yes\"}}\n");
    let long = format!("{{\"prompt\": \"{}\", \"completion\": \"yes\"}}\n", "long ".repeat(40));
    let rows: String = (0..5).map(row).chain([long.clone(), format!("{TWICE}\n"), long]).collect();
    let data = bench.data("rows.jsonl", &rows)?;
    let note = "run.left_out() lists what is left out; RunConfig::default().context(n) takes longer rows; trained on 5 \
                of 8 records: 2 longer than 100 tokens, 1 refused by the chat template";
    let run = Run::new("once", &model, &data, config().context(100).batch(1))?;
    let started = run.start(1)?.show().text;
    assert!(started.contains(note), "{started}");
    let waited = run.wait()?.show().text;
    assert!(!waited.contains("left out") && !waited.contains("refused"), "{waited}");
    for _ in 0..2 {
        let shown = run.show();
        assert!(shown.text.contains(note) && shown.html.contains(note), "{}", shown.text);
        assert_eq!(shown.text.matches("5 of 8 records").count(), 1, "{}", shown.text);
        assert!(!shown.text.contains("line 6:"), "no line stands for all of them: {}", shown.text);
    }
    run.close()?;
    let run = Run::open("runs/once")?;
    assert!(run.show().text.contains(note), "{}", run.show().text);
    assert!(!run.status().show().text.contains("left out"), "the run has said it");

    // Other rows are another matter.
    let part = run.set_data(&data.head(6)?)?.show().text;
    assert!(part.contains("trained on 5 of 6 records: 1 longer than 100 tokens"), "{part}");
    Ok(())
}

#[cfg(feature = "cli")]
#[test]
fn the_command_line_says_it_too() -> Result<()> {
    let bench = Bench::new();
    bench.model(Tiny { template: Some(ALTERNATE), ..Tiny::default() })?;
    let good = "{\"instruction\": \"1 + 1?\", \"output\": \"2\"}\n";
    bench.put("rows.jsonl", &format!("{good}{{broken\n{TWICE}\n{good}{LABELLED}"));
    bench.put("plain.jsonl", "{\"text\": \"Bread is flour, water, salt and time.\"}\n");
    let train = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lorascope"));
        command.arg("train").args(arguments).current_dir(bench.folder.path());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let new = ["--model", "model", "--data", "rows.jsonl", "--steps", "1", "--batch", "2"];
    let (code, out, err) = train(&[&["rows"], &new[..], &["--trained", "last-assistant"]].concat());
    assert_eq!(code, Some(0), "{out}{err}");
    let line =
        "trained on 4 of 8 records: 1 rejected by the reader, 1 refused by the chat template, 2 labelled bad";
    assert!(out.contains(line), "{out}");
    assert!(out.contains("1 row is refused by the chat template") && !out.contains("line 3: chat"), "{out}");
    assert_eq!(Run::open("runs/rows")?.config().trained, Trained::LastAssistant);
    let (code, _, err) = train(&[&["strict"], &new[..], &["--strict"]].concat());
    assert_eq!(code, Some(2));
    assert!(err.contains("rows.jsonl, line 2: broken JSON"), "{err}");
    bench.put("rows.jsonl", &format!("{good}{SYSTEM}\n"));
    let (code, _, err) = train(&[&["strict"], &new[..], &["--strict"]].concat());
    assert_eq!(code, Some(2));
    assert!(err.contains("rows.jsonl, line 2: chat template, line 1: System role not supported"), "{err}");
    let (code, _, err) = train(&[&["odd"], &new[..], &["--trained", "user"]].concat());
    assert_eq!(code, Some(2));
    assert!(err.contains("say assistant, last-assistant or all"), "{err}");
    let (code, out, err) = train(&["plain", "--model", "model", "--data", "plain.jsonl", "--steps", "2"]);
    assert_eq!(code, Some(0), "{out}{err}");
    Ok(())
}

#[test]
fn plain_texts_that_are_left_out_are_not_trained_on() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny::default())?;
    let text = |text: &str| format!("{}\n", serde_json::json!({ "text": text }));
    let rendered = "<|im_start|>user\nhi<|im_end|>\n";
    let rows =
        [text("Short."), text(&"long ".repeat(200)), text(&rendered.repeat(60)), text(rendered)].concat();
    let found = Preflight::of(&bench.data("texts.jsonl", &rows)?, &model, &config())?;
    let said = &finding(&found, "tokens").what;
    assert!(
        said.contains("2 rows are plain texts") && said.contains("1 of them as rendered chats"),
        "{said}"
    );
    Ok(())
}

/// A folder below the one that is read and a file of something else are said by preflight and run, of a part
/// of the rows too, and once for both sides.
#[test]
fn what_was_not_read_is_said() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny::default())?;
    let folder = bench.folder.path().join("rows");
    std::fs::create_dir_all(folder.join("more")).unwrap();
    let rows: String = ["a", "b", "c"]
        .map(|word| format!("{{\"prompt\": \"{word}?\", \"completion\": \"yes\"}}\n"))
        .concat();
    std::fs::write(folder.join("rows.jsonl"), rows).unwrap();
    std::fs::write(folder.join("cards.jsonl"), "{\"card\": 1}\n").unwrap();
    std::fs::write(folder.join("more/rows.jsonl"), "{\"prompt\": \"d?\", \"completion\": \"yes\"}\n")
        .unwrap();
    let data = Dataset::open(&folder)?;
    let (train, test) = data.split(0.6, 1)?;
    for (n, (train, test)) in [(data.clone(), data), (train, test)].into_iter().enumerate() {
        let run = Run::new(&format!("folder-{n}"), &model, &train, config().batch(1).eval(&test))?;
        let left_out = run.left_out()?;
        let names: Vec<_> =
            left_out.not_read.iter().map(|(path, _)| path.file_name().unwrap().to_string_lossy()).collect();
        assert_eq!(names, ["cards.jsonl", "more"], "{n}");
        let shown = left_out.show().text;
        assert!(
            shown.contains("none of its 1 record") || shown.contains("its one record is no row"),
            "{shown}"
        );
        assert!(shown.contains("files in folders below are not read"), "{shown}");
        let found = Preflight::of(&train, &model, &config())?;
        assert!(finding(&found, "files").what.contains("and 1 more"), "{}", found.show().text);
    }
    Ok(())
}

/// Of an evaluation that is a part of another file than the training's, nobody said what the reader had rejected.
#[test]
fn what_the_reader_rejected_of_another_file_is_said_of_the_evaluation() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny::default())?;
    let good = |n: usize| format!("{{\"prompt\": \"{n}?\", \"completion\": \"yes\"}}\n");
    let rows: String = (0..6).map(good).collect();
    let train = bench.data("rows.jsonl", &format!("{rows}{{broken\n"))?;
    let few = bench.data("few.jsonl", &format!("{}{{broken\n{}", good(1), good(2)))?;
    let many: String = (0..250).map(good).collect();
    let many = bench.data("many.jsonl", &format!("{}{{broken\n{many}", good(1)))?;
    let (left, right) = few.split(0.5, 1)?;
    let both = bench.data("both.jsonl", &format!("{{broken\n{}", good(3)))?;
    let (ours, held_out) = train.split(0.5, 1)?;
    let one = "; the reader rejected 1 record of the file";
    for (n, (train, eval, said, places)) in [
        (
            &train,
            &few,
            "evaluated on 2 of 3 records: 1 rejected by the reader".to_string(),
            &[("few.jsonl", 2)][..],
        ),
        (&train, &few.head(1)?, format!("evaluated on the only row{one}"), &[("few.jsonl", 2)]),
        (&left, &many.slice(3, 5)?, format!("evaluated on all 5 rows{one}"), &[("many.jsonl", 2)]),
        (&train, &many, format!("evaluated on all 200 rows{one}"), &[("many.jsonl", 2)]),
        (
            &left,
            &right.concat(&both.head(1)?)?,
            format!("evaluated on all 2 rows{one}"),
            &[("both.jsonl", 1)],
        ),
        // The training says it.
        (&ours, &held_out, "evaluated on all 3 records".to_string(), &[]),
    ]
    .into_iter()
    .enumerate()
    {
        let run = Run::new(&format!("run-{n}"), &model, train, config().batch(1).eval(eval))?;
        let check = |run: &Run| -> Result<()> {
            let left_out = run.left_out()?;
            assert_eq!(left_out.counts[1].to_string(), said, "{n}");
            let evaluated = left_out.rows.iter().filter(|row| row.rows_for == RowsFor::Evaluation);
            let name = |row: &RowLeftOut| row.file.file_name().unwrap().to_string_lossy().into_owned();
            let found: Vec<(String, u64)> = evaluated.map(|row| (name(row), row.line)).collect();
            let places: Vec<(String, u64)> =
                places.iter().map(|(name, line)| (name.to_string(), *line)).collect();
            assert_eq!(found, places, "{n}");
            Ok(())
        };
        check(&run)?;
        let notes = run.status().about_rows;
        assert_eq!(notes.iter().any(|note| note.contains(&said)), !places.is_empty(), "{n}: {notes:?}");
        let found = Preflight::of(train, &model, &config().eval(eval))?;
        assert_eq!(found.left_out, run.left_out()?, "{n}");
        run.step()?;
        // Rows that are no part of its config are said with their loss.
        let shown = run.evaluate_on(&both.head(1)?)?.show().text;
        let said =
            format!("evaluated on the only row{one}; problems() of the rows lists what the reader rejected");
        assert!(shown.contains(&said), "{shown}");
        run.close()?;
        check(&Run::open(run.folder())?)?;
        // Another evaluation of a fork is looked at in the same way.
        let fork = Run::get(&format!("run-{n}"))?
            .fork(&format!("fork-{n}"), |config| config.eval = Some(few.clone()))?;
        assert!(fork.left_out()?.counts[1].to_string().starts_with("evaluated on 2 of 3 records"), "{n}");
    }
    Ok(())
}

/// The same at the command line: the file and the line, of a list of rows and of many rows too.
#[cfg(feature = "cli")]
#[test]
fn the_command_line_says_it_of_the_evaluation() -> Result<()> {
    let bench = Bench::new();
    bench.model(Tiny::default())?;
    let good = |n: usize| format!("{{\"prompt\": \"{n}?\", \"completion\": \"yes\"}}\n");
    bench.put("rows.jsonl", &good(1));
    bench.put("few.jsonl", &format!("{}{{broken\n{}", good(1), good(2)));
    bench.put("many.jsonl", &format!("{{broken\n{}", (0..250).map(good).collect::<String>()));
    let lists = format!("{{\"train\": [{}], \"test\": [{}, {{\"card\": 1}}]}}", good(1), good(2));
    bench.put("lists.json", &lists);
    for (n, (arguments, place)) in [
        (&["--data", "rows.jsonl", "--eval", "few.jsonl"][..], "few.jsonl, line 2: broken JSON"),
        (&["--data", "rows.jsonl", "--eval", "many.jsonl"], "many.jsonl, line 1: broken JSON"),
        (&["--data", "lists.json", "--list", "train", "--eval-list", "test"], "lists.json, line 3: "),
    ]
    .into_iter()
    .enumerate()
    {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lorascope"));
        command.args(["train", &format!("run-{n}"), "--model", "model", "--steps", "1", "--batch", "1"]);
        let output = command.args(arguments).current_dir(bench.folder.path()).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{err}");
        assert!(
            err.contains("1 record was rejected or refused, and left out") && err.contains(place),
            "{n}: {err}"
        );
    }
    Ok(())
}
