//! Reasoning that a chat template does not write: beside answers or in them, of all or of earlier ones.

use crate::common::files::Files;
use crate::common::tiny;
use crate::common::tiny::Tiny;
use lorascope::dataset::{Dataset, Report};
use lorascope::format::ProblemKind;
use lorascope::text::Tokenizer;
use serde_json::{Value as Json, json};

fn tokenizer(template: &str) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    Tiny { template: Some(template), ..Tiny::default() }.write(folder.path());
    Tokenizer::from_folder(folder.path()).unwrap()
}

/// The lines of a fault.
fn lines(report: &Report, kind: ProblemKind) -> Vec<u32> {
    let found = report.problems.iter().filter(|problem| problem.kind == kind);
    found.flat_map(|problem| problem.places.iter().flat_map(|places| places.lines.clone())).collect()
}

/// Reasoning that the template does not write is said, and no other.
#[test]
fn reasoning_that_is_not_written_is_said() {
    let files = Files::new();
    let row = |extra: &str| {
        format!(
            r#"{{"messages": [{{"role": "user", "content": "q"}}, {{"role": "assistant", "content": "a"{extra}}}]}}"#
        )
    };
    let rows = [
        row(r#", "reasoning_content": "hm""#),
        row(r#", "thinking": " ""#),
        row(r#", "note": "thinking""#),
        row(r#", "reasoning": "ah""#),
    ];
    let data = Dataset::open(files.put("rows.jsonl", rows.join("\n"))).unwrap();
    let of =
        |template: &str| lines(&data.report_with(&tokenizer(template)).unwrap(), ProblemKind::NotWritten);
    assert_eq!(of(tiny::CHATML), [1, 4]);
    let thinks = "{% for m in messages %}{{ m.role }}{% if m.reasoning_content %}<{{ m.reasoning_content }}>{% endif %}{{ m.content }}<|im_end|>{% endfor %}";
    assert_eq!(of(thinks), [0u32; 0]);
}

/// Reasoning of earlier answers, and reasoning inside answers, is said where the template drops it.
#[test]
fn reasoning_of_earlier_answers_is_said() {
    let files = Files::new();
    let user = |text: &str| json!({"role": "user", "content": text});
    let thinks = |text: &str| json!({"role": "assistant", "content": text, "reasoning_content": "hm"});
    let inside = |text: &str| json!({"role": "assistant", "content": format!("<think>hm</think>{text}")});
    let plain = |text: &str| json!({"role": "assistant", "content": text});
    let called = |reasoning: Json| {
        let mut call = json!({"role": "assistant", "content": null, "tool_calls": [{"id": "c00000001", "type": "function", "function": {"name": "f", "arguments": {}}}]});
        call["reasoning_content"] = reasoning;
        call
    };
    let tool = json!({"role": "tool", "content": "r", "tool_call_id": "c00000001"});
    let rows = [
        json!([user("q1"), thinks("a1"), user("q2"), plain("a2")]),
        json!([user("q1"), plain("a1"), user("q2"), thinks("a2")]),
        json!([user("q1"), inside("a1"), user("q2"), plain("a2")]),
        json!([user("q1"), plain("a1"), user("q2"), inside("a2")]),
        // After the user's last turn: not only the last answer.
        json!([user("q1"), called("hm".into()), tool, plain("a1")]),
        json!([
            user("q1"),
            json!({"role": "assistant", "content": "<think>\n\n</think>a"}),
            user("q2"),
            plain("a")
        ]),
    ];
    let rows: Vec<String> = rows.iter().map(|messages| json!({"messages": messages}).to_string()).collect();
    let data = Dataset::open(files.put("rows.jsonl", rows.join("\n"))).unwrap();
    let of = |template: &str| {
        let report = data.report_with(&tokenizer(template)).unwrap();
        lines(&report, ProblemKind::NotWritten)
    };
    // In the manner of Qwen3's: reasoning after the user's last turn only, wherever it stands.
    let qwen = "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}\
        {% for m in messages %}<|im_start|>{{ m.role }}\n{% set content = m.content or '' %}{% set thought = m.reasoning_content or '' %}\
        {% if '</think>' in content %}{% set thought = content.split('</think>')[0].split('<think>')[-1] %}{% set content = content.split('</think>')[-1] %}{% endif %}\
        {% if thought and loop.index0 > ns.last %}<think>{{ thought }}</think>{% endif %}{{ content }}{% for c in m.tool_calls or [] %}{{ c | tojson }}{% endfor %}<|im_end|>\n{% endfor %}";
    assert_eq!(of(qwen), [1, 3]);
    let report = data.report_with(&tokenizer(qwen)).unwrap();
    let problem = report.problems.iter().find(|problem| problem.kind == ProblemKind::NotWritten).unwrap();
    assert!(problem.example.contains("before the user's last turn"), "{}", problem.example);
    // In the manner of DeepSeek's: no reasoning at all.
    let drops = "{% for m in messages %}{{ m.role }}{{ (m.content or '').split('</think>')[-1] }}{% for c in m.tool_calls or [] %}{{ c | tojson }}{% endfor %}<|im_end|>{% endfor %}";
    assert_eq!(of(drops), [1, 2, 3, 4, 5]);
    let all = "{% for m in messages %}{{ m.role }}{{ m.reasoning_content }}{{ m.content }}{% for c in m.tool_calls or [] %}{{ c | tojson }}{% endfor %}<|im_end|>{% endfor %}";
    assert_eq!(of(all), [0u32; 0]);
}
