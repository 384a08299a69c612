//! Rows of public bug reports, with the templates of their models' kind: rendered as Hugging Face does.

use crate::common::tiny::{Bench, Tiny};
use lorascope::dataset::Dataset;
use lorascope::error::Result;
use lorascope::format::RowSchema;
use lorascope::text::{GenerationPrompt, Tokenizer, Training};

/// A tokenizer with a template of its own.
fn like(template: &str) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    Tiny { template: Some(template), eos: "</s>", bos: true, ..Tiny::default() }.write(folder.path());
    Tokenizer::from_folder(folder.path()).unwrap()
}

#[test]
fn rows_of_bug_reports_render_as_in_hugging_face() -> Result<()> {
    let bench = Bench::new();
    let rendered = |t: &Tokenizer, data: &Dataset| -> Result<String> {
        t.render(&data.conversation(0)?, data.tools(0)?.as_deref(), GenerationPrompt::Omit)
    };
    let question = r#"{"role": "user", "content": "Oslo on Tuesday?"}"#;
    let rest = r#"{"role": "tool", "tool_call_id": "call_0001", "content": "snow"}, {"role": "assistant", "content": "Snow."}"#;
    let call = |arguments: &str| {
        format!(
            r#"{{"role": "assistant", "content": null, "tool_calls": [{{"id": "call_0001", "type": "function", "function": {{"name": "weather", "arguments": {arguments}}}}}]}}"#
        )
    };
    let (text, object) =
        (call(r#""{\"town\": \"Oslo\", \"day\": 2}""#), call(r#"{"town": "Oslo", "day": 2}"#));

    // Arguments as a string where the template dumps them.
    let tool = r#"{"type": "function", "function": {"name": "weather", "description": "Weather of a town", "parameters": {"type": "object", "properties": {"town": {"type": "string"}, "day": {"type": "integer"}}}}}"#;
    let qwen25 = like(
        r#"{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\n' + messages[0].content }}{%- else %}{{- '<|im_start|>system\nDefault persona.' }}{%- endif %}{%- if tools %}{{- '\n\nTools:' }}{%- for tool in tools %}{{- '\n' }}{{- tool | tojson }}{%- endfor %}{%- endif %}{{- '<|im_end|>\n' }}{%- for m in messages %}{%- if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- elif m.role == 'assistant' %}{{- '<|im_start|>assistant' }}{%- if m.content %}{{- '\n' + m.content }}{%- endif %}{%- for call in m.tool_calls %}{%- set f = call.function %}{{- '\n<call>{"name": "' + f.name + '", "arguments": ' }}{{- f.arguments | tojson }}{{- '}</call>' }}{%- endfor %}{{- '<|im_end|>\n' }}{%- elif m.role == 'tool' %}{{- '<|im_start|>user\n<result>' + m.content + '</result><|im_end|>\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"#,
    );
    let right = format!(
        "<|im_start|>system\nDefault persona.\n\nTools:\n{tool}<|im_end|>\n<|im_start|>user\nOslo on Tuesday?<|im_end|>\n<|im_start|>assistant\n<call>{{\"name\": \"weather\", \"arguments\": {{\"town\": \"Oslo\", \"day\": 2}}}}</call><|im_end|>\n<|im_start|>user\n<result>snow</result><|im_end|>\n<|im_start|>assistant\nSnow.<|im_end|>\n"
    );
    // The same as the older key, and as ShareGPT has it.
    let function = r#"{"name": "weather", "arguments": {"town": "Oslo", "day": 2}}"#;
    let older = format!(
        r#"{{"messages": [{question}, {{"role": "assistant", "content": null, "function_call": {function}}}, {{"role": "tool", "content": "snow"}}, {{"role": "assistant", "content": "Snow."}}]"#
    );
    let quoted = serde_json::json!(function);
    let talk = format!(
        r#"{{"conversations": [{{"from": "human", "value": "Oslo on Tuesday?"}}, {{"from": "function_call", "value": {quoted}}}, {{"from": "observation", "value": "snow"}}, {{"from": "gpt", "value": "Snow."}}]"#
    );
    for row in [&older, &talk] {
        let row = format!(r#"{row}, "tools": [{tool}]}}"#);
        assert_eq!(rendered(&qwen25, &bench.data("other.jsonl", &row)?)?, right, "{row}");
    }
    for call in [&text, &object] {
        let row = format!(r#"{{"messages": [{question}, {call}, {rest}], "tools": [{tool}]}}"#);
        assert_eq!(rendered(&qwen25, &bench.data("calls.jsonl", &row)?)?, right, "{call}");
    }

    // Null content where the template asks `is none`, and joins the arguments.
    let r1 = like(
        r"{{- bos_token }}{%- for m in messages %}{%- if m.role == 'user' %}{{- '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}{%- endif %}{%- if m.role == 'assistant' and m.content is none %}{%- for call in m.tool_calls %}{{- '<|im_start|>assistant\n<call>' + call.function.name + ' ' + call.function.arguments + '</call><|im_end|>\n' }}{%- endfor %}{%- endif %}{%- if m.role == 'assistant' and m.content is not none %}{{- '<|im_start|>assistant\n' + m.content + '<|im_end|>\n' }}{%- endif %}{%- if m.role == 'tool' %}{{- '<|im_start|>user\n<result>' + m.content + '</result><|im_end|>\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}",
    );
    let right = "<s><|im_start|>user\nOslo on Tuesday?<|im_end|>\n<|im_start|>assistant\n<call>weather {\"town\": \"Oslo\", \"day\": 2}</call><|im_end|>\n<|im_start|>user\n<result>snow</result><|im_end|>\n<|im_start|>assistant\nSnow.<|im_end|>\n";
    for row in [&older, &talk] {
        assert_eq!(rendered(&r1, &bench.data("other.jsonl", &format!("{row}}}"))?)?, right, "{row}");
    }
    for call in [&text, &object, &text.replace(r#" "content": null,"#, "")] {
        let row = format!(r#"{{"messages": [{question}, {call}, {rest}]}}"#);
        assert_eq!(rendered(&r1, &bench.data("null.jsonl", &row)?)?, right, "{call}");
    }

    // Results in another order than their calls, also by way of other files.
    let mistral = like(
        r#"{{- bos_token }}{%- for m in messages %}{%- if m.role == 'user' %}{{- '[INST] ' + m.content + '[/INST]' }}{%- elif m.tool_calls %}{{- '[TOOL_CALLS] [' }}{%- for call in m.tool_calls %}{%- if call.id is not defined or call.id | length != 9 %}{{- raise_exception('call ids have nine characters') }}{%- endif %}{{- '{"name": "' + call.function.name + '", "id": "' + call.id + '"}' }}{{- ', ' if not loop.last else '' }}{%- endfor %}{{- ']' + eos_token }}{%- elif m.role == 'assistant' %}{{- ' ' + m.content + eos_token }}{%- elif m.role == 'tool' %}{{- '[TOOL_RESULTS] {"content": ' + m.content + ', "call_id": "' + m.tool_call_id + '"}[/TOOL_RESULTS]' }}{%- endif %}{%- endfor %}"#,
    );
    let row = r#"{"messages": [{"role": "user", "content": "Oslo and Rome?"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "aaaaaaaa1", "type": "function", "function": {"name": "weather", "arguments": "{\"town\": \"Oslo\", \"day\": 2}"}}, {"id": "bbbbbbbb2", "type": "function", "function": {"name": "weather", "arguments": "{\"town\": \"Rome\", \"day\": 2}"}}]}, {"role": "tool", "tool_call_id": "bbbbbbbb2", "content": "sun in Rome"}, {"role": "tool", "tool_call_id": "aaaaaaaa1", "content": "snow in Oslo"}, {"role": "assistant", "content": "Snow and sun."}]}"#;
    let right = r#"<s>[INST] Oslo and Rome?[/INST][TOOL_CALLS] [{"name": "weather", "id": "aaaaaaaa1"}, {"name": "weather", "id": "bbbbbbbb2"}]</s>[TOOL_RESULTS] {"content": sun in Rome, "call_id": "bbbbbbbb2"}[/TOOL_RESULTS][TOOL_RESULTS] {"content": snow in Oslo, "call_id": "aaaaaaaa1"}[/TOOL_RESULTS] Snow and sun.</s>"#;
    let data = bench.data("two.jsonl", row)?;
    assert_eq!(rendered(&mistral, &data)?, right);
    // An answer to the second call alone, and one to each with the calls the other way round.
    let first = r#", {"role": "tool", "tool_call_id": "aaaaaaaa1", "content": "snow in Oslo"}"#;
    let answer = r#"[TOOL_RESULTS] {"content": snow in Oslo, "call_id": "aaaaaaaa1"}[/TOOL_RESULTS]"#;
    assert!(row.contains(first) && right.contains(answer));
    let lone = bench.data("lone.jsonl", &row.replace(first, ""))?;
    assert_eq!(rendered(&mistral, &lone)?, right.replace(answer, ""));
    let swap = |text: &str| {
        text.replace("aaaaaaaa1", "x").replace("bbbbbbbb2", "aaaaaaaa1").replace('x', "bbbbbbbb2")
    };
    let other = bench.data("swapped.jsonl", &swap(row))?;
    assert_eq!(rendered(&mistral, &other)?, swap(right));
    for name in ["out.jsonl", "out.parquet"] {
        let out = bench.folder.path().join(name);
        data.write(&out, RowSchema::OpenAi)?;
        assert_eq!(rendered(&mistral, &Dataset::open(&out)?)?, right, "{name}");
    }

    // Reasoning beside the content, passed on and trained.
    let qwen3 = like(
        r"{%- for m in messages %}{%- if m.role == 'assistant' %}{%- set thought = '' %}{%- if m.reasoning_content is string %}{%- set thought = m.reasoning_content %}{%- endif %}{{- '<|im_start|>assistant\n' }}{%- if loop.last or thought %}{{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' }}{%- endif %}{{- m.content + '<|im_end|>\n' }}{%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}",
    );
    let row = r#"{"messages": [{"role": "user", "content": "7 · 6?"}, {"role": "assistant", "content": "42", "reasoning_content": "seven times six is forty-two"}]}"#;
    let data = bench.data("thoughts.jsonl", row)?;
    let answer = "<think>\nseven times six is forty-two\n</think>\n\n42<|im_end|>";
    let right = format!("<|im_start|>user\n7 · 6?<|im_end|>\n<|im_start|>assistant\n{answer}\n");
    // The same as parts of the content, and as ShareGPT has it.
    for row in [
        r#"{"messages": [{"role": "user", "content": "7 · 6?"}, {"role": "assistant", "content": [{"type": "reasoning", "value": "seven times six is forty-two"}, {"type": "text", "value": "42"}]}]}"#,
        r#"{"conversations": [{"from": "human", "value": "7 · 6?"}, {"from": "gpt", "value": "42", "reasoning_content": "seven times six is forty-two"}]}"#,
    ] {
        assert_eq!(rendered(&qwen3, &bench.data("other.jsonl", row)?)?, right, "{row}");
    }
    assert_eq!(rendered(&qwen3, &data)?, right);
    let example = data.example(0, &qwen3, &Training::default())?;
    let trained = example.ids.iter().zip(&example.trained).filter(|(_, trained)| **trained);
    // `</s>` is not in the template, so what ends the turn is `<|im_end|>` and perhaps the break after it.
    let said = qwen3.decode(&trained.map(|(id, _)| *id).collect::<Vec<_>>())?;
    assert_eq!(said.trim_end(), answer);
    Ok(())
}
