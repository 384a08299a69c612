//! The chat templates of real models, rendered as Hugging Face renders them.
//!
//! `make templates` fetches them; tests/golden/templates.py wrote the renderings.

#[path = "common/messages.rs"]
mod conversations;

use std::path::{Path, PathBuf};

use conversations::messages;
use lorascope::text::{GenerationPrompt, Message, Tokenizer};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

/// The fetched templates: `LORASCOPE_TEMPLATES`, or what `make templates` put into the cache.
fn folder() -> PathBuf {
    let folder = match std::env::var_os("LORASCOPE_TEMPLATES") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join(".kernel/templates"),
    };
    assert!(folder.is_dir(), "there is no {}: run `make templates`", folder.display());
    folder
}

fn golden() -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/templates.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A tokenizer that has the four tokens of the golden script, each with its role.
fn tokenizer(tokens: &Json) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, json: Json| std::fs::write(folder.path().join(name), json.to_string()).unwrap();
    let model = serde_json::json!({"type": "WordLevel", "vocab": tokens, "unk_token": "<unk>"});
    write("tokenizer.json", serde_json::json!({"version": "1.0", "added_tokens": [], "model": model}));
    let roles = serde_json::json!({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"});
    write("tokenizer_config.json", roles);
    Tokenizer::from_folder(folder.path()).unwrap()
}

#[test]
fn golden_renderings_are_those_of_hugging_face() {
    let (folder, golden) = (folder(), golden());
    let tokenizer = tokenizer(&golden["tokens"]);
    let (mut rendered, mut refused, mut wrong) = (0, 0, Vec::new());
    for (name, template) in golden["templates"].as_object().unwrap() {
        let source = std::fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
        let hash: String = Sha256::digest(&source).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(template["sha256"], hash, "{name} is not the template that was rendered");
        let with_template =
            tokenizer.with_template(&source).and_then(|t| t.at_time(golden["now"].as_i64().unwrap()));
        let t = match with_template {
            Ok(t) => t,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        for (title, conversation) in golden["conversations"].as_object().unwrap() {
            let messages: Vec<Message> = messages(conversation);
            let tools = (title == "tools").then(|| golden["tools"].to_string());
            let render = |prompt| t.render(&messages, tools.as_deref(), prompt);
            let (text, prompt) = (render(GenerationPrompt::Omit), render(GenerationPrompt::Add));
            let expected = &template[title];
            if let Some(why) = expected["refused"].as_str() {
                refused += 1;
                match text {
                    Ok(text) => wrong.push(format!("{name}, {title}: {text:?} instead of {why}")),
                    // The template's own words; a Python type error has others than ours.
                    Err(error) => {
                        let said = why.strip_prefix("TemplateError: ");
                        if said.is_some_and(|said| !error.to_string().contains(said)) {
                            wrong.push(format!("{name}, {title}: {error} instead of {why}"));
                        }
                    }
                }
                continue;
            }
            let whole = expected["text"].as_str().unwrap();
            let with_header = match expected["header"].as_str() {
                Some(header) => format!("{whole}{header}"),
                None => expected["prompt"].as_str().unwrap().to_string(),
            };
            for (ours, theirs) in [(text, whole), (prompt, &with_header)] {
                rendered += 1;
                match ours {
                    Ok(ours) if ours == theirs => {}
                    Ok(ours) => wrong.push(format!("{name}, {title}:\n{ours:?}\ninstead of\n{theirs:?}")),
                    Err(error) => wrong.push(format!("{name}, {title}: {error}")),
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(rendered > 250 && refused >= 9, "{rendered} rendered, {refused} refused");
}

#[test]
fn golden_snippets_are_written_as_in_python() {
    let golden = golden();
    let tokenizer = tokenizer(&golden["tokens"]);
    let messages = messages(&golden["conversations"]["tools"]);
    let tools = golden["tools"].to_string();
    for snippet in golden["snippets"].as_array().unwrap() {
        let source = snippet["template"].as_str().unwrap();
        let t = tokenizer.with_template(source).and_then(|t| t.at_time(golden["now"].as_i64().unwrap()));
        let text = t.and_then(|t| t.render(&messages, Some(&tools), GenerationPrompt::Omit));
        assert_eq!(
            text.map_err(|error| error.to_string()).as_deref(),
            Ok(snippet["text"].as_str().unwrap()),
            "{source}"
        );
    }
}
