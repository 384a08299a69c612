//! What a run trains of rows with tools, of empty tools and of empty system texts.

use crate::common::tiny::{Bench, CHATML, Tiny, config, finding};
use lorascope::analysis::Preflight;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::format::ProblemKind;
use lorascope::run::Run;
use lorascope::text::Training;
use lorascope::train::Severity;

/// An empty system text and empty tools are none when a model is asked.
#[test]
fn what_is_there_and_empty_is_not_asked() -> Result<()> {
    let bench = Bench::new();
    let with_default = format!(
        "{{% if messages[0].role != 'system' %}}<|im_start|>system\nBe kind.<|im_end|>\n{{% endif %}}{CHATML}"
    );
    let model = bench.model(Tiny { template: Some(&with_default), ..Tiny::default() })?;
    let data = bench.data("rows.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}], \"tools\": \"[]\"}\n")?;
    let found = Preflight::of(&data, &model, &config())?;
    assert_eq!(finding(&found, "prompt").severity, Severity::Fine, "{}", found.show().text);
    assert_eq!(finding(&found, "prompt").what, "1 rows begin with the prompt that generation uses");
    Ok(())
}

#[test]
fn a_template_without_tools_is_said() -> Result<()> {
    let bench = Bench::new();
    let call = r#"{"id": "call00001", "type": "function", "function": {"name": "f", "arguments": {}}}"#;
    let calling = format!(
        r#"{{"messages": [{{"role": "user", "content": "q"}}, {{"role": "assistant", "content": "so", "tool_calls": [{call}]}}, {{"role": "tool", "tool_call_id": "call00001", "content": "r"}}, {{"role": "assistant", "content": "a"}}]}}"#
    );
    let rows = [r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#, r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}], "tools": [{"type": "function", "function": {"name": "f"}}]}"#, &calling].join("\n");
    let data = bench.data("tools.jsonl", &rows)?;
    let model = bench.model(Tiny::default())?;
    let found = Preflight::of(&data, &model, &config())?;
    let tools = finding(&found, "tools");
    assert_eq!(
        tools.what,
        "the chat template does not write the tools, in 1 row; the chat template does not write the calls of tools, \
         in 1 row"
    );
    assert_eq!((tools.severity, tools.line), (Severity::Warning, Some(2)));
    let report = data.for_model(&model).report()?;
    let counts = report.problems.iter().find(|p| p.kind == ProblemKind::NotWritten).unwrap();
    assert_eq!((counts.count, &counts.places[0].lines[..]), (2, &[2, 3][..]));
    // One that writes both, and one that refuses calls.
    let writes = "{{ tools | tojson if tools else '' }}{% for m in messages %}{{ m.role }}{{ m.content or '' }}{{ m.tool_calls | tojson if m.tool_calls else '' }}{% endfor %}";
    let row = r#"{"messages": [{"role": "system", "content": "", "tools": [1]}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}"#;
    let system = bench.data("system.jsonl", row)?;
    assert_eq!(finding(&Preflight::of(&system, &model, &config())?, "prompt").severity, Severity::Fine);
    // One that joins texts refuses calls without one, and drops the others.
    let joins = "{% for m in messages %}{{ m.role + m.content }}{% endfor %}";
    let t = model.tokenizer().with_template(joins)?;
    let problems = data.for_tokenizer(&t).report()?.problems;
    assert_eq!(problems.iter().find(|p| p.kind == ProblemKind::NotWritten).unwrap().count, 2);
    let refuses = "{% for m in messages %}{% if m.tool_calls %}{{ raise_exception('no') }}{% endif %}{{ m.content }}{% endfor %}{{ tools | tojson if tools else '' }}";
    for template in [writes, refuses] {
        let t = model.tokenizer().with_template(template)?;
        let problems = data.for_tokenizer(&t).report()?.problems;
        assert!(problems.iter().all(|p| p.kind != ProblemKind::NotWritten), "{template}");
    }
    Ok(())
}

/// A template that takes tools for tools unless they are none.
#[test]
fn rows_with_empty_tools_are_trained_as_rows_without() -> Result<()> {
    let bench = Bench::new();
    let strict = "{%- if tools is not none %}TOOLS {{ tools | tojson }} {% endif %}{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant {% endif %}";
    let model = bench.model(Tiny { template: Some(strict), ..Tiny::default() })?;
    let talk = r#""conversations": [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hi."}]"#;
    let turns =
        r#""messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi."}]"#;
    let rows = [
        format!("{{{talk}}}"),
        format!(r#"{{{talk}, "tools": ""}}"#),
        format!(r#"{{{talk}, "tools": "[]"}}"#),
        format!(r#"{{{talk}, "tools": []}}"#),
        format!(r#"{{{talk}, "tools": "null"}}"#),
        format!(r#"{{{turns}, "tools": " [ ] "}}"#),
        r#"{"prompt": "Hello?", "completion": "Hi.", "tools": "null"}"#.to_string(),
    ];
    let data = bench.data("tools.jsonl", &rows.join("\n"))?;
    assert_eq!(data.len(), rows.len());
    let t = model.tokenizer();
    let first = data.example(0, t, &Training::default())?;
    // "user Hello?", "assistant Hi.", and two tokens round each.
    assert_eq!(first.len(), 11 + 2 + 13 + 2);
    let bound = data.for_tokenizer(t);
    for (row, text) in rows.iter().enumerate() {
        assert_eq!(data.example(row, t, &Training::default())?, first, "{text}");
        assert_eq!(bound.slice(row, 1)?.report()?.tokens.unwrap().total, first.len() as u64, "{text}");
    }
    let run = Run::new("tools", &model, &data, config().batch(rows.len()).eval(&data))?;
    let step = run.step()?;
    assert_eq!((step.rows.len(), step.trained_tokens), (rows.len(), rows.len() * first.trained_tokens()));
    assert_eq!(run.evaluate()?.rows, rows.len());
    assert!(run.left_out()?.rows.is_empty(), "{}", run.left_out()?.show().text);
    let found = Preflight::of(&data, &model, &config())?;
    assert_eq!(finding(&found, "prompt").severity, Severity::Fine, "{}", found.show().text);
    Ok(())
}
