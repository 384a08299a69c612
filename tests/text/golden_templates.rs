//! The chat templates of real models, rendered as Hugging Face renders them.
//!
//! `make templates` fetches them; tests/golden/templates.py wrote the renderings.

use std::path::{Path, PathBuf};

use crate::common::messages::messages;
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

/// What Hugging Face made of one conversation.
struct Expected<'a> {
    name: String,
    refused: Option<&'a str>,
    text: &'a str,
    prompt: String,
}

impl<'a> Expected<'a> {
    fn of(template: &'a Json, name: &str, title: &str) -> Self {
        let made = match template[title]["as"].as_str() {
            Some(other) => &template[other],
            None => &template[title],
        };
        let text = made["text"].as_str().unwrap_or_default();
        let prompt = match made["prompt"].as_str() {
            Some(prompt) => prompt.to_string(),
            None => format!("{text}{}", made["header"].as_str().unwrap_or_default()),
        };
        Self { name: format!("{name}, {title}"), refused: made["refused"].as_str(), text, prompt }
    }

    /// How what we make of it differs.
    fn differences(&self, t: &Tokenizer, messages: &[Message], tools: Option<&str>) -> Vec<String> {
        let mut wrong = Vec::new();
        for (prompt, theirs) in [(GenerationPrompt::Omit, self.text), (GenerationPrompt::Add, &*self.prompt)]
        {
            match (t.render(messages, tools, prompt), self.refused) {
                (Ok(ours), None) if ours == theirs => {}
                (Ok(ours), None) => wrong.push(format!("{}:\n{ours:?}\ninstead of\n{theirs:?}", self.name)),
                (Ok(ours), Some(why)) => wrong.push(format!("{}: {ours:?} instead of {why}", self.name)),
                (Err(error), None) => wrong.push(format!("{}: {error}", self.name)),
                // The template's own words; a Python type error has others than ours.
                (Err(error), Some(why)) => {
                    let said = why.strip_prefix("TemplateError: ");
                    if said.is_some_and(|said| !error.to_string().contains(said)) {
                        wrong.push(format!("{}: {error} instead of {why}", self.name));
                    }
                }
            }
        }
        wrong
    }
}

/// The templates with their names, each as a tokenizer, at the time of the golden script.
fn templates(golden: &Json) -> Vec<(String, Result<Tokenizer, String>)> {
    let (folder, tokenizer) = (folder(), tokenizer(&golden["tokens"]));
    let with_template = |(name, template): (&String, &Json)| {
        let source = std::fs::read_to_string(folder.join(format!("{name}.jinja"))).unwrap();
        let hash: String = Sha256::digest(&source).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(template["sha256"], hash, "{name} is not the template that was rendered");
        let t = tokenizer.with_template(&source).and_then(|t| t.at_time(golden["now"].as_i64().unwrap()));
        (name.clone(), t.map_err(|error| format!("{name}: {error}")))
    };
    golden["templates"].as_object().unwrap().iter().map(with_template).collect()
}

/// Whether the golden script gave a conversation its tools.
fn with_tools(golden: &Json, title: &str) -> bool {
    golden["with_tools"].as_array().unwrap().iter().any(|name| name == title)
}

/// Messages and tools.
type Given = (Vec<Message>, Option<String>);

/// Each template with each conversation, as `change` gives it to ours: messages and tools. Gives how
/// many were rendered and how many refused.
fn compare(golden: &Json, change: &dyn Fn(&Json, &str, &Json) -> Option<Given>) -> [usize; 2] {
    let (mut counts, mut wrong) = ([0, 0], Vec::new());
    for (name, t) in templates(golden) {
        let t = match t {
            Ok(t) => t,
            Err(error) => {
                wrong.push(error);
                continue;
            }
        };
        let template = &golden["templates"][&name];
        for (title, conversation) in golden["conversations"].as_object().unwrap() {
            let Some((messages, tools)) = change(template, title, conversation) else { continue };
            let expected = Expected::of(template, &name, title);
            counts[usize::from(expected.refused.is_some())] += 1;
            wrong.extend(expected.differences(&t, &messages, tools.as_deref()));
        }
    }
    assert!(wrong.is_empty(), "{} of {counts:?} differ:\n{}", wrong.len(), wrong.join("\n"));
    counts
}

#[test]
fn golden_renderings_are_those_of_hugging_face() {
    let golden = golden();
    let as_they_are = |_: &Json, title: &str, conversation: &Json| {
        let tools = with_tools(&golden, title).then(|| golden["tools"].to_string());
        Some((messages(conversation), tools))
    };
    let [rendered, refused] = compare(&golden, &as_they_are);
    assert!(rendered > 520 && refused > 60, "{rendered} rendered, {refused} refused");
    let count = |title: &str| {
        let all = golden["templates"].as_object().unwrap();
        all.values().filter(|template| template[title].get("refused").is_none()).count()
    };
    for title in ["tools", "parallel", "null", "null_parallel", "reasoning_content", "reasoning_call"] {
        assert!(count(title) >= 24, "{title}: {}", count(title));
    }
}

#[test]
fn empty_tools_are_none() {
    let golden = golden();
    for empty in ["[]", " [ ]\n", "", " ", "null"] {
        let change = |_: &Json, title: &str, conversation: &Json| {
            (!with_tools(&golden, title)).then(|| (messages(conversation), Some(empty.to_string())))
        };
        let [rendered, _] = compare(&golden, &change);
        assert!(rendered > 250, "{rendered}");
    }
}

#[test]
fn bare_tools_are_wrapped() {
    let golden = golden();
    let bare: Vec<&Json> = golden["tools"].as_array().unwrap().iter().map(|tool| &tool["function"]).collect();
    let bare = serde_json::to_string(&bare).unwrap();
    let change = |_: &Json, title: &str, conversation: &Json| {
        with_tools(&golden, title).then(|| (messages(conversation), Some(bare.clone())))
    };
    let [rendered, _] = compare(&golden, &change);
    assert!(rendered > 200, "{rendered}");
}

/// A template that writes arguments as JSON gets an object where the file has a string of JSON. (What
/// joins them to a string gets a string: most of our conversations have objects.)
#[test]
fn arguments_in_a_string_become_an_object_where_it_is_wanted() {
    let golden = golden();
    let change = |template: &Json, title: &str, conversation: &Json| {
        if !with_tools(&golden, title) || template["arguments"] != "object" {
            return None;
        }
        let mut changed = conversation.clone();
        for message in changed.as_array_mut().unwrap() {
            for call in message.get_mut("tool_calls").and_then(Json::as_array_mut).into_iter().flatten() {
                let arguments = &mut call["function"]["arguments"];
                *arguments = match &*arguments {
                    Json::String(text) => serde_json::from_str(text).unwrap(),
                    object => Json::String(object.to_string()),
                };
            }
        }
        Some((messages(&changed), Some(golden["tools"].to_string())))
    };
    let [rendered, _] = compare(&golden, &change);
    assert!(rendered > 110, "{rendered}");
}

#[test]
fn answers_without_an_id_get_that_of_their_call() {
    let golden = golden();
    let change = |_: &Json, title: &str, conversation: &Json| {
        // Elsewhere the order of the answers is not that of the calls.
        if !with_tools(&golden, title) || title.contains("parallel") {
            return None;
        }
        let mut messages = messages(conversation);
        messages.iter_mut().for_each(|message| message.tool_call_id = None);
        Some((messages, Some(golden["tools"].to_string())))
    };
    let [rendered, _] = compare(&golden, &change);
    assert!(rendered > 150, "{rendered}");
}

#[test]
fn golden_snippets_are_written_as_in_python() {
    let golden = golden();
    let tokenizer = tokenizer(&golden["tokens"]);
    let tools = golden["tools"].to_string();
    for snippet in golden["snippets"].as_array().unwrap() {
        let source = snippet["template"].as_str().unwrap();
        let messages = messages(&golden["conversations"][snippet["conversation"].as_str().unwrap()]);
        let t = tokenizer.with_template(source).and_then(|t| t.at_time(golden["now"].as_i64().unwrap()));
        let text = t.and_then(|t| t.render(&messages, Some(&tools), GenerationPrompt::Omit));
        assert_eq!(
            text.map_err(|error| error.to_string()).as_deref(),
            Ok(snippet["text"].as_str().unwrap()),
            "{source}"
        );
    }
}
