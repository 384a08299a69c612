//! What a run trains: report, preflight, run and evaluation see the same tokens.

use crate::common::tiny::{Bench, LABELLED, Tiny, config, finding};
use lorascope::analysis::Preflight;
use lorascope::dataset::Dataset;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::format::{Fix, Map, ReadOptions, RowSchema};
use lorascope::run::Run;
use lorascope::text::{PromptAnswers, SpecialTokens, Tokenizer, Trained, Training};
use lorascope::train::RunConfig;
use lorascope::train::Severity;
use std::path::Path;

fn tokenizer(tiny: Tiny) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    tiny.write(folder.path());
    Tokenizer::from_folder(folder.path()).unwrap()
}

/// One row or more of every schema; of those labelled bad there is one.
const EVERY_SCHEMA: &str = r#"{"instruction": "2 + 3?", "input": "", "output": "5"}
{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}
{"conversations": [{"from": "human", "value": "Hi"}, {"from": "assistant", "value": "Hey."}]}
{"messages": [{"role": "system", "content": "Brief."}, {"role": "user", "content": "a"}, {"role": "assistant", "content": "one", "weight": 0}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "two"}]}
{"conversation": [{"human": "x", "assistant": "yes"}, {"human": "y", "assistant": "no"}]}
{"prompt": "Name a colour.", "completion": "Blue."}
{"text": "Bread is flour, water, salt and time."}
{"text": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"}
{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "before"}, {"role": "user", "content": "b"}], "chosen": [{"role": "assistant", "content": "good"}], "rejected": [{"role": "assistant", "content": "worse"}]}
{"prompt": "2 + 2?", "completion": "4", "label": true}
{"prompt": "2 + 2?", "completion": "5 is it.", "label": false}
"#;

#[test]
fn report_preflight_run_and_evaluation_agree() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny::default())?;
    let data = bench.data("every.jsonl", EVERY_SCHEMA)?;
    assert_eq!(data.len(), 11);
    let t = model.tokenizer();
    for (n, trained) in [Trained::Assistant, Trained::LastAssistant, Trained::All].into_iter().enumerate() {
        let training = Training { trained, ..Training::default() };
        let config = config().batch(10).trained(trained).eval(&data);
        let run = Run::new(&format!("agree-{n}"), &model, &data, config.clone())?;
        let bound = data.for_training(t, &training);
        let mut sum = 0;
        for row in 0..data.len() {
            let example = data.example(row, t, &training)?;
            let one = bound.slice(row, 1)?;
            let report = one.report()?;
            let counted = report.spreads.iter().find(|spread| spread.of == "trained").unwrap();
            assert_eq!(counted.lengths.total, example.trained_tokens() as u64, "{trained}, row {row}");
            assert_eq!(report.tokens.unwrap().total, example.len() as u64, "{trained}, row {row}");
            let shaded = bound.row(row)?.pieces;
            let shaded: usize = shaded.iter().filter(|(.., shaded)| *shaded).map(|(_, n, _)| n).sum();
            // The first token of a row is never trained: nothing comes before it.
            let first = usize::from(example.trained[0]);
            assert_eq!(shaded, example.trained_tokens() + first, "{trained}, row {row}");
            match run.batch_of(&data.slice(row, 1)?) {
                Ok(batch) => {
                    let tokens: usize = batch.packs.iter().map(|pack| pack.trained_tokens()).sum();
                    assert_eq!(
                        (tokens, batch.tokens()),
                        (example.trained_tokens(), example.len()),
                        "row {row}"
                    );
                }
                Err(error) => assert!(row == 10 && error.to_string().contains("labelled bad"), "{error}"),
            }
            sum += example.trained_tokens();
        }
        let report = bound.report()?;
        let counted = report.spreads.iter().find(|spread| spread.of == "trained").unwrap();
        assert_eq!(counted.lengths.total, sum as u64);
        assert_eq!(report.rendered, 1);
        let step = run.step()?;
        assert_eq!((step.trained_tokens, step.rows.len()), (sum, 10), "{trained}");
        assert_eq!((run.evaluate()?.tokens, run.evaluate()?.rows), (sum, 10), "{trained}");
        let found = Preflight::of(&data, &model, &config)?;
        let said = &finding(&found, "tokens").what;
        assert!(said.starts_with(&format!("{sum} of ")), "{said}");
        assert!(said.contains(&format!("(trained: {trained}); 2 rows are plain texts")), "{said}");
        assert!(said.contains("1 of them as rendered chats"), "{said}");
        assert!(found.fatal().is_none(), "{}", found.show().text);
        assert_eq!(
            finding(&found, "end of turn").severity,
            Severity::Fine,
            "{trained}: {}",
            found.show().text
        );
        run.close()?;
    }
    Ok(())
}

#[test]
fn what_is_trained_can_be_chosen_and_is_kept() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny::default())?;
    let talk = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "one"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "two"}]}"#;
    let data = bench.data("talk.jsonl", talk)?;
    let trained = |name: &str, config: RunConfig| -> Result<String> {
        let run = Run::new(name, &model, &data, config.batch(1))?;
        run.step()?;
        let shown = run.batch()?.0.remove(0);
        run.close()?;
        let run = Run::open(Path::new("runs").join(name))?;
        run.step()?;
        assert_eq!(run.batch()?.0[0], shown, "after it was opened");
        run.close()?;
        Ok(shown.pieces.iter().filter(|(.., trained)| *trained).map(|(text, ..)| text.as_str()).collect())
    };
    assert_eq!(trained("usual", config())?, "one<|im_end|>two<|im_end|>");
    assert_eq!(trained("last", config().trained(Trained::LastAssistant))?, "two<|im_end|>");
    let all = trained("all", config().trained(Trained::All))?;
    assert!(all.starts_with("<|im_start|>user\na<|im_end|>\n") && all.ends_with("two<|im_end|>\n"), "{all}");

    // A fork cannot change it, and a file of settings has it.
    let run = Run::open("runs/last")?;
    let error = run.fork("other", |config| config.trained = Trained::All).unwrap_err().to_string();
    assert!(error.contains("a fork cannot have another choice of trained tokens"), "{error}");
    run.save_config("last.toml")?;
    let text = std::fs::read_to_string("last.toml").unwrap();
    assert!(text.contains("trained = \"last-assistant\""), "{text}");
    assert_eq!(lorascope::run::RunFile::open("last.toml")?.config.trained, Trained::LastAssistant);
    Ok(())
}

#[test]
fn earlier_answers_in_a_prompt_are_context() -> Result<()> {
    let bench = Bench::new();
    let t = tokenizer(Tiny::default());
    let rows = r#"{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "before"}, {"role": "user", "content": "b"}], "chosen": [{"role": "assistant", "content": "good"}], "rejected": [{"role": "assistant", "content": "worse"}]}
{"system": "Brief.", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "before"}, {"from": "human", "value": "b"}], "chosen": {"from": "gpt", "value": "good"}, "rejected": {"from": "gpt", "value": "worse"}}
{"prompt": "a", "chosen": "good", "rejected": "worse"}
"#;
    let data = bench.data("preferences.jsonl", rows)?;
    let said = |row: usize, answers: PromptAnswers, trained: Trained| -> Result<String> {
        let training = Training { prompt_answers: answers, trained, ..Training::default() };
        let example = data.example(row, &t, &training)?;
        let trained = example.ids.iter().zip(&example.trained).filter(|(_, trained)| **trained);
        t.decode(&trained.map(|(id, _)| *id).collect::<Vec<_>>())
    };
    use PromptAnswers::{Context, Train};
    for row in 0..2 {
        assert_eq!(said(row, Context, Trained::Assistant)?, "good<|im_end|>", "row {row}");
        assert_eq!(said(row, Train, Trained::Assistant)?, "before<|im_end|>good<|im_end|>", "row {row}");
        assert_eq!(said(row, Train, Trained::LastAssistant)?, "good<|im_end|>", "row {row}");
        assert!(said(row, Context, Trained::All)?.contains("before<|im_end|>"), "row {row}");
    }
    assert_eq!(said(2, Context, Trained::Assistant)?, "good<|im_end|>");
    for answers in [Context, Train] {
        assert_eq!(answers.to_string().parse::<PromptAnswers>()?, answers);
    }
    Ok(())
}

#[test]
fn earlier_answers_are_context_in_every_form_of_prompt() -> Result<()> {
    let bench = Bench::new();
    let t = tokenizer(Tiny::default());
    let prompt = r#"[{"role": "user", "content": "a"}, {"role": "assistant", "content": "before"}, {"role": "user", "content": "b"}]"#;
    let with_system = prompt.replacen('[', r#"[{"role": "system", "content": "Brief."}, "#, 1);
    let rows = [
        (format!(r#"{{"prompt": {prompt}, "completion": "good", "label": true}}"#), "good<|im_end|>"),
        (
            format!(
                r#"{{"prompt": {with_system}, "completion": [{{"role": "assistant", "content": "good"}}], "label": 1}}"#
            ),
            "good<|im_end|>",
        ),
        (
            format!(r#"{{"prompt": {prompt}, "completion": [{{"role": "assistant", "content": "good"}}]}}"#),
            "good<|im_end|>",
        ),
        (
            format!(
                r#"{{"id": 7, "prompt": {with_system}, "completion": [{{"role": "assistant", "content": "good"}}, {{"role": "user", "content": "c"}}, {{"role": "assistant", "content": "more"}}]}}"#
            ),
            "good<|im_end|>more<|im_end|>",
        ),
        (
            r#"{"prompt": "Human: a\n\nAssistant: before\n\nHuman: b\n\nAssistant:", "completion": "good"}"#
                .into(),
            "good<|im_end|>",
        ),
        (
            format!(r#"{{"messages": {prompt}, "label": true}}"#)
                .replace("}], ", r#"}, {"role": "assistant", "content": "good"}], "#),
            "good<|im_end|>",
        ),
        // Conversations without a border: all answers are trained on.
        (
            r#"{"prompt": "b", "history": [["a", "before"]], "response": "good"}"#.into(),
            "before<|im_end|>good<|im_end|>",
        ),
        (
            r#"{"instruction": "b", "history": [["a", "before"]], "output": "good"}"#.into(),
            "before<|im_end|>good<|im_end|>",
        ),
    ];
    let text: Vec<&str> = rows.iter().map(|(row, _)| row.as_str()).collect();
    let data = bench.data("prompts.jsonl", &text.join("\n"))?;
    assert_eq!(data.len(), rows.len());
    let said = |row: usize, answers: PromptAnswers| -> Result<String> {
        let training = Training { prompt_answers: answers, ..Training::default() };
        let example = data.example(row, &t, &training)?;
        let trained = example.ids.iter().zip(&example.trained).filter(|(_, trained)| **trained);
        t.decode(&trained.map(|(id, _)| *id).collect::<Vec<_>>())
    };
    for (row, (_, right)) in rows.iter().enumerate() {
        assert_eq!(said(row, PromptAnswers::Context)?, *right, "row {row}: {}", text[row]);
        assert!(said(row, PromptAnswers::Train)?.starts_with("before<|im_end|>good"), "row {row}");
    }
    // What a map calls a label judges the last answer as well, and repairs do not move the border.
    let log = r#"{"log": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "before"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "good"}], "ok": 1}"#;
    let mapped = Dataset::open_as(bench.put("log.jsonl", log), Map::new().messages("log").label("ok"))?;
    let trained = |data: &Dataset| -> Result<String> {
        let example = data.example(0, &t, &Training::default())?;
        let trained = example.ids.iter().zip(&example.trained).filter(|(_, trained)| **trained);
        t.decode(&trained.map(|(id, _)| *id).collect::<Vec<_>>())
    };
    assert_eq!(trained(&mapped)?, "good<|im_end|>");
    let trailing = r#"{"prompt": "a", "completion": [{"role": "assistant", "content": "one"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "two"}, {"role": "user", "content": "c"}]}"#;
    let options = ReadOptions { fixes: Fix::DropTrailingUser.into(), ..Default::default() };
    let repaired = Dataset::open_with(bench.put("trailing.jsonl", trailing), &options)?;
    assert_eq!(trained(&repaired)?, "one<|im_end|>two<|im_end|>");
    // Conversations have no border of prompts, and prompts no other answers: that is said, and counted.
    let border = "whether the answers before the last are trained on";
    assert_eq!(data.losses(RowSchema::OpenAi)?.lost.get(border), Some(&6));
    assert_eq!(data.slice(6, 2)?.losses(RowSchema::PromptCompletion)?.lost.get(border), Some(&1));
    // Its own rows that cannot be laid out in the usual way keep theirs.
    let out = bench.put("own.jsonl", "");
    std::fs::remove_file(&out).unwrap();
    data.slice(3, 4)?.write(&out, RowSchema::PromptCompletion)?;
    let again = Dataset::open(&out)?;
    for row in [0, 3] {
        let training = Training::default();
        assert_eq!(again.example(row, &t, &training)?.trained, data.example(3 + row, &t, &training)?.trained);
    }
    assert_eq!(data.slice(2, 3)?.losses(RowSchema::PromptCompletion)?.lost.get(border), None);
    Ok(())
}

#[test]
fn a_document_begins_once_and_ends_once() -> Result<()> {
    let t = tokenizer(Tiny { eos: "</s>", bos: true, ..Tiny::default() });
    let count = |ids: &[u32], name: &str| ids.iter().filter(|id| Some(**id) == t.id(name)).count();
    let rendered = "<s><|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n</s>";
    let row = t.document(rendered)?;
    assert_eq!((count(&row.ids, "<s>"), count(&row.ids, "<|im_end|>"), count(&row.ids, "</s>")), (1, 2, 1));
    assert_eq!(row.len(), 1 + 1 + 7 + 1 + 1 + 1 + 12 + 1 + 1 + 1); // "user\nhi", "\n", "assistant\nyo", "\n"
    assert!(row.trained.iter().all(|trained| *trained));
    // What stands around it, and a begin token that was written twice, change nothing.
    for same in
        [format!("<s>{rendered}"), format!("\n {rendered}\n\n"), rendered.trim_start_matches("<s>").into()]
    {
        assert_eq!(t.document(&same)?, row, "{same:?}");
    }
    // A text that ends with another token at which generation stops has ended.
    let turn = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n";
    let ended = t.document(turn)?;
    assert_eq!((ended.ids.last().copied(), count(&ended.ids, "</s>")), (t.id("<|im_end|>"), 0));

    // An ordinary text, also one that speaks of such tokens.
    let plain = t.document("The river rose.")?;
    assert_eq!((plain.len(), plain.ids[0], plain.ids.last().copied()), (17, 256, t.eos()));
    for text in
        ["A <|im_end|> ends a turn.", "Price: <s>10</s> 8", "`</s>`, `<s>` and <|im_end|>!", "<unk> is rare."]
    {
        let row = t.document(text)?;
        assert_eq!(row.len(), text.len() + 2, "{text}");
        assert_eq!(t.decode(&row.ids)?, format!("<s>{text}</s>"));
        let tokens = t.document_with(text, SpecialTokens::Tokens)?;
        assert!(tokens.len() < row.len(), "{text}");
        assert_eq!((count(&tokens.ids[..1], "<s>"), tokens.ids.last().copied()), (1, t.eos()), "{text}");
    }
    let letters = t.document_with(rendered, SpecialTokens::Text)?;
    assert_eq!((letters.len(), count(&letters.ids, "<|im_end|>")), (rendered.len() + 2, 0));
    // Texts that follow each other, and one that only ends.
    assert_eq!(count(&t.document("One.</s>Two.")?.ids, "</s>"), 2);
    assert_eq!(t.document("### Response:\nyes</s> \n")?.ids.last().copied(), t.eos());
    assert_eq!(count(&t.document("### Response:\nyes</s> \n")?.ids, "</s>"), 1);

    // What tutorials render for Llama 2.
    for text in [
        "<s>[INST] q [/INST] a </s>",
        "<s>[INST] q [/INST] a",
        "<s><s>[INST] q [/INST] a</s>\n",
        "<s>[INST] <<SYS>>\nBrief.\n<</SYS>>\n\nq [/INST] a </s>",
        "[INST] q [/INST] a</s>",
    ] {
        let row = t.document(text)?;
        assert_eq!((row.ids[0], row.ids.last().copied()), (256, t.eos()), "{text}");
        assert_eq!((count(&row.ids, "<s>"), count(&row.ids, "</s>")), (1, 1), "{text}");
    }
    // Without a token in front there is none; an empty text is its ends.
    let bare = tokenizer(Tiny { eos: "</s>", ..Tiny::default() });
    assert_eq!(bare.document("ab")?.ids, [97, 98, 257]);
    assert_eq!(t.document("")?.ids, [256, 257]);
    for special in [SpecialTokens::Auto, SpecialTokens::Tokens, SpecialTokens::Text] {
        assert_eq!(special.to_string().parse::<SpecialTokens>()?, special);
    }
    Ok(())
}

#[test]
fn a_base_model_learns_plain_text() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny { template: None, eos: "</s>", bos: true, context: 512 })?;
    let text = "{\"text\": \"The river rose in the night and took the old bridge.\"}\n{\"text\": \"Bread is flour, water, salt and time.\"}\n";
    let data = bench.data("plain.jsonl", text)?;
    let found = Preflight::of(&data, &model, &config())?;
    assert!(found.findings.iter().all(|finding| finding.severity == Severity::Fine), "{}", found.show().text);
    let run = Run::new("plain", &model, &data, config().batch(2).eval(&data))?;
    let step = run.step()?;
    assert_eq!(step.trained_tokens, 52 + 1 + 37 + 1);
    assert_eq!(run.evaluate()?.tokens, step.trained_tokens);

    let seen = run.batch()?;
    let texts: Vec<&str> = seen.0.iter().filter_map(|chat| chat.text.as_deref()).collect();
    assert_eq!(texts.len(), 2);
    let shown = seen.show();
    assert!(shown.text.contains("The river rose") && shown.html.contains("<mark"), "{}", shown.text);
    assert!(shown.html.contains("&lt;s&gt;The river rose in the night and took the old bridge.&lt;/s&gt;"));
    assert_eq!(run.worst(2)?.0.len(), 2);
    assert!(run.worst(1)?.show().text.contains(
        if run.worst(1)?.0[0].chat.text.as_deref().unwrap().starts_with('T') { "The river" } else { "Bread" }
    ));
    let losses = run.example_losses()?;
    assert_eq!(losses.height(), 2);
    run.close()?;
    let run = Run::open("runs/plain")?;
    assert_eq!(run.step()?.trained_tokens, step.trained_tokens);

    // Conversations need a template, and the error says what does not.
    let talk = bench.data("talk.jsonl", "{\"instruction\": \"1 + 1?\", \"output\": \"2\"}\n")?;
    let error = Run::new("talk", &model, &talk, config()).unwrap_err().to_string();
    assert!(error.contains("talk.jsonl, line 1: no row can be trained on"), "{error}");
    assert!(error.contains("this tokenizer has no chat template"), "{error}");
    // Of both kinds the texts are trained on.
    let mixed =
        bench.data("mixed.jsonl", &format!("{{\"instruction\": \"1 + 1?\", \"output\": \"2\"}}\n{text}"))?;
    let run = Run::new("mixed", &model, &mixed, config())?;
    assert_eq!(
        run.left_out()?.counts[0].to_string(),
        "trained on 2 of 3 records: 1 refused by the chat template"
    );
    Ok(())
}

#[test]
fn the_usual_context_keeps_rows_that_are_a_little_longer() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny { context: 4096, ..Tiny::default() })?;
    let row = |n: usize| format!("{{\"instruction\": \"1?\", \"output\": \"{}\"}}\n", "a".repeat(n));
    let mut text: String = (0..200).map(|_| row(50)).collect();
    text += &(0..3).map(|_| row(53)).collect::<String>();
    let data = bench.data("rows.jsonl", &text)?;
    let run = Run::new("rows", &model, &data, config())?;
    assert_eq!(run.left_out()?.counts[0].used, 203);
    assert_eq!(run.left_out()?.counts[0].context, 2048);
    let few = Run::new("few", &bench.model(Tiny { context: 256, ..Tiny::default() })?, &data, config())?;
    assert_eq!(few.left_out()?.counts[0].context, 256, "the model's");

    // Micro-batches are of the tokens that the config says, not of the context.
    let run = Run::new("packs", &model, &data, config().batch(40).micro_batch(300))?;
    let batch = run.next_batch()?;
    assert!(
        batch.packs.iter().all(|pack| pack.len() <= 300),
        "{:?}",
        batch.packs.iter().map(|p| p.len()).collect::<Vec<_>>()
    );
    assert!(batch.packs.len() >= 10);

    // A row that is far longer is trained on, and its price is said.
    let data = bench.data("long.jsonl", &(text + &row(1500)))?;
    let found = Preflight::of(&data, &model, &config().micro_batch(300))?;
    let long = finding(&found, "long rows");
    assert_eq!((long.severity, long.line), (Severity::Warning, Some(204)));
    assert!(long.what.starts_with("1 row is far longer than the others: 1,5"), "{}", long.what);
    assert!(
        long.what.contains("takes the memory of 1,5") && long.what.ends_with("at a time instead of 300"),
        "{}",
        long.what
    );
    let run = Run::new("long", &model, &data, config().batch(204).micro_batch(300))?;
    assert_eq!(run.next_batch()?.rows.len(), 204);
    Ok(())
}

/// A folder that was written before there were these settings.
#[test]
fn an_older_run_goes_on_as_it_was() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny { context: 4096, ..Tiny::default() })?;
    let rows: String = (0..12)
        .map(|n| format!("{{\"instruction\": \"{n}?\", \"output\": \"{}\"}}\n", "a".repeat(60 + n)))
        .collect();
    let data = bench.data("rows.jsonl", &rows)?;
    let run = Run::new("old", &model, &data, config().batch(12).context(1500).micro_batch(200))?;
    let packs = run.next_batch()?.packs.len();
    run.close()?;
    let path = Path::new("runs/old/run.json");
    let mut identity: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for name in ["trained", "prompt_answers", "special_tokens", "faults"] {
        assert!(identity["config"].as_object_mut().unwrap().remove(name).is_some(), "{name}");
    }
    identity["config"]["context"] = serde_json::Value::Null;
    assert!(identity["rows"].as_object_mut().unwrap().remove("filling").is_some());
    std::fs::write(path, identity.to_string()).unwrap();
    let run = Run::open("runs/old")?;
    assert_eq!(run.left_out()?.counts[0].context, 1500, "the one that it was trained with");
    assert_eq!(run.next_batch()?.packs.len(), 1, "filled up to the context, as then");
    assert!(packs > 1);
    assert_eq!(run.config().trained, Trained::Assistant);
    run.step()?;
    run.close()?;

    // One that learned what is not learned any longer says so.
    let data = bench.data("kto.jsonl", LABELLED)?;
    Run::new("kto", &model, &data, config())?.close()?;
    let path = Path::new("runs/kto/run.json");
    let text = std::fs::read_to_string(path).unwrap();
    let mut identity: serde_json::Value = serde_json::from_str(&text).unwrap();
    identity["rows"]["tokens"] = "0".into();
    std::fs::write(path, identity.to_string()).unwrap();
    let told = Run::open("runs/kto").unwrap_err().to_string();
    assert!(told.contains("an earlier version, which trained on rows that are labelled bad"), "{told}");
    Ok(())
}
