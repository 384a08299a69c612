//! Which tokens are trained on, how long rows are, named templates, and the short way to the ids
//! against the long one.

use crate::common;
use crate::common::clock;
use std::collections::HashMap;
use std::sync::OnceLock;

use candle_core::quantized::gguf_file::{Content, Value};
use lorascope::candle_core;
use lorascope::text::{
    Example, GenerationPrompt, Message, NamedTemplate, TokenCounts, Tokenizer, Trained, pack, packed,
};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn metadata() -> &'static HashMap<String, Value> {
    static METADATA: OnceLock<HashMap<String, Value>> = OnceLock::new();
    METADATA.get_or_init(|| {
        let mut file = std::fs::File::open(common::model_path()).unwrap();
        Content::read(&mut file).unwrap().metadata
    })
}

fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| Tokenizer::from_gguf(metadata()).unwrap())
}

/// The same tokenizer with a token that takes the spaces around it, which the short way does not
/// know; it occurs in no text.
fn the_long_way() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let mut file: Json = serde_json::from_str(&tokenizer().inner().to_string(false).unwrap()).unwrap();
        let never = json!({"id": 49152, "content": "<|never|>", "single_word": false, "lstrip": true, "rstrip": true, "normalized": false, "special": false});
        file["added_tokens"].as_array_mut().unwrap().push(never);
        std::fs::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
        let roles = json!({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"});
        std::fs::write(folder.path().join("tokenizer_config.json"), roles.to_string()).unwrap();
        let Value::String(template) = &metadata()["tokenizer.chat_template"] else { panic!() };
        Tokenizer::from_folder(folder.path()).unwrap().with_template(template).unwrap()
    })
}

fn said(tokenizer: &Tokenizer, example: &Example) -> String {
    let trained = example.ids.iter().zip(&example.trained).filter(|(_, trained)| **trained);
    tokenizer.decode(&trained.map(|(id, _)| *id).collect::<Vec<_>>()).unwrap()
}

fn turns() -> Vec<Message> {
    vec![
        Message::system("Brief."),
        Message::user("a"),
        Message::assistant("one"),
        Message::user("b"),
        Message::assistant("two"),
    ]
}

#[test]
fn what_is_trained_on_can_be_chosen() {
    for trained in [Trained::Assistant, Trained::LastAssistant, Trained::All] {
        let json = serde_json::to_string(&trained).unwrap();
        assert_eq!(json, format!("\"{trained}\""));
        assert_eq!(trained.to_string().parse::<Trained>().unwrap(), trained);
    }
    let error = "user".parse::<Trained>().unwrap_err().to_string();
    assert!(error.contains("say assistant, last-assistant or all"), "{error}");
    let (t, mut messages) = (tokenizer(), turns());
    let example = |messages: &[Message], trained| t.example_with(messages, None, trained).unwrap();
    assert_eq!(said(t, &example(&messages, Trained::Assistant)), "one<|im_end|>two<|im_end|>");
    assert_eq!(said(t, &example(&messages, Trained::LastAssistant)), "two<|im_end|>");
    let all = example(&messages, Trained::All);
    assert!(all.trained.iter().all(|trained| *trained));
    assert_eq!(all.ids, example(&messages, Trained::Assistant).ids);

    messages[2].weight = Some(0.0);
    assert_eq!(said(t, &example(&messages, Trained::Assistant)), "two<|im_end|>");
    let all = example(&messages, Trained::All);
    let text = t.render(&messages, None, GenerationPrompt::Omit).unwrap();
    assert_eq!(said(t, &all), text.replace("one<|im_end|>", ""));
    messages[4].weight = Some(0.0);
    assert_eq!(example(&messages, Trained::LastAssistant).trained_tokens(), 0);
    messages[4].weight = Some(0.5);
    assert_eq!(said(t, &example(&messages, Trained::LastAssistant)), "two<|im_end|>");
}

#[test]
fn named_templates_have_the_form_of_their_family() {
    let t = tokenizer();
    let render = |t: &Tokenizer, messages: &[Message], prompt| t.render(messages, None, prompt).unwrap();
    let named = |name: &str| t.with_named_template(name.parse().unwrap());
    let chatml = named("ChatML").unwrap();
    let text = "<|im_start|>user\n a <|im_end|>\n<|im_start|>assistant\none<|im_end|>\n";
    let two = [Message::user(" a "), Message::assistant("one")];
    assert_eq!(render(&chatml, &two, GenerationPrompt::Omit), text);
    let qwen = named("qwen").unwrap();
    let system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n";
    let header = "<|im_start|>assistant\n";
    assert_eq!(render(&qwen, &two, GenerationPrompt::Add), format!("{system}{text}{header}"));
    assert!(
        render(&qwen, &turns(), GenerationPrompt::Omit).starts_with("<|im_start|>system\nBrief.<|im_end|>\n")
    );
    let alpaca = named("alpaca").unwrap();
    let expected = "Brief.\n\n### Instruction:\na\n\n### Response:\none<|im_end|>\n\n### Instruction:\nb\n\n### Response:\n";
    assert_eq!(render(&alpaca, &turns()[..4], GenerationPrompt::Add), expected);
    assert_eq!(said(&alpaca, &alpaca.example(&turns(), None).unwrap()), "one<|im_end|>two<|im_end|>");
    let llama2 = named("llama2").unwrap();
    let expected = "<|im_start|>[INST] <<SYS>>\nBrief.\n<</SYS>>\n\na [/INST] one <|im_end|><|im_start|>[INST] b [/INST] two <|im_end|>";
    assert_eq!(render(&llama2, &turns(), GenerationPrompt::Add), expected);

    let error = named("llama-3").unwrap_err().to_string();
    assert!(
        error.contains("the template llama-3 needs <|start_header_id|>, which this vocabulary"),
        "{error}"
    );
    let error = "vicuna".parse::<NamedTemplate>().unwrap_err().to_string();
    assert!(error.contains("take one of chatml, llama-2, llama-3, qwen, baichuan-2, alpaca"), "{error}");
    let error = chatml.render(&two, Some("[{}]"), GenerationPrompt::Add).unwrap_err().to_string();
    assert!(error.contains("the built-in template chatml has no place for tools"), "{error}");
    let error = alpaca.render(&[two[1].clone()], None, GenerationPrompt::Add).unwrap_err().to_string();
    assert!(error.contains("user and assistant in turn"), "{error}");
    for template in NamedTemplate::ALL {
        assert_eq!(template.to_string().parse::<NamedTemplate>().unwrap(), template);
        let json = serde_json::to_string(&template).unwrap();
        assert_eq!(serde_json::from_str::<NamedTemplate>(&json).unwrap(), template);
    }
}

/// A byte-level vocabulary in which some ids have names that say something.
fn vocabulary(named: &[(u32, &str)]) -> Tokenizer {
    let mut metadata = metadata().clone();
    let Some(Value::Array(tokens)) = metadata.get_mut("tokenizer.ggml.tokens") else { panic!() };
    for (id, name) in named {
        tokens[*id as usize] = Value::String(name.to_string());
    }
    metadata.insert("tokenizer.ggml.merges".into(), Value::Array(Vec::new()));
    let Some(Value::Array(types)) = metadata.get_mut("tokenizer.ggml.token_type") else { panic!() };
    for (id, _) in named {
        types[*id as usize] = Value::I32(3);
    }
    Tokenizer::from_gguf(&metadata).unwrap()
}

#[test]
fn templates_that_are_made_of_ids_and_names() {
    // Whatever 195 and 196 are called.
    let t = vocabulary(&[(195, "<reserved_106>"), (196, "<reserved_107>")]);
    let baichuan = t.with_named_template(NamedTemplate::Baichuan2).unwrap();
    let example = baichuan.example(&turns(), None).unwrap();
    let plain = |text: &str| baichuan.encode_plain(text).unwrap();
    let (eos, user, assistant) = (vec![2], vec![195], vec![196]);
    let expected = [
        plain("Brief."),
        user.clone(),
        plain("a"),
        assistant.clone(),
        plain("one"),
        eos.clone(),
        user,
        plain("b"),
        assistant,
        plain("two"),
        eos,
    ];
    assert_eq!(example.ids, expected.concat());
    assert_eq!(said(&baichuan, &example), "one<|im_end|>two<|im_end|>");
    assert_eq!(baichuan.prompt(&[Message::user("a")], None).unwrap().last(), Some(&196));
    assert_eq!(baichuan.vocabulary_size(), t.vocabulary_size());
    // A name that a person types stays text.
    let forged = baichuan.example(&[Message::user("<reserved_107>")], None).unwrap();
    assert!(!forged.ids.contains(&196));

    let names = [(17, "<|start_header_id|>"), (18, "<|end_header_id|>"), (19, "<|eot_id|>")];
    let llama = vocabulary(&names).with_named_template(NamedTemplate::Llama3).unwrap();
    let text = llama.render(&turns()[1..3], None, GenerationPrompt::Omit).unwrap();
    let expected = "<|im_start|><|start_header_id|>user<|end_header_id|>\n\na<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\none<|eot_id|>";
    assert_eq!(text, expected);
    assert_eq!(said(&llama, &llama.example(&turns(), None).unwrap()), "one<|eot_id|>two<|eot_id|>");

    // Token 195 of this vocabulary is a byte.
    let error = tokenizer().with_named_template(NamedTemplate::Baichuan2).unwrap_err().to_string();
    assert!(error.contains("of this vocabulary of 49152 is no name that can be special"), "{error}");
}

#[test]
fn conversations_with_tools_have_a_template_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("tokenizer.json", &tokenizer().inner().to_string(false).unwrap());
    write(
        "tokenizer_config.json",
        r#"{"chat_template": [{"name": "default", "template": "plain"},
        {"name": "rag", "template": "{{ broken"}, {"name": "tool_use", "template": "with {{ tools | length }}"}]}"#,
    );
    let render = |tools: Option<&str>| {
        let t = Tokenizer::from_folder(folder.path()).unwrap();
        assert!(t.has_template());
        t.render(&[Message::user("a")], tools, GenerationPrompt::Omit).unwrap()
    };
    assert_eq!((render(None).as_str(), render(Some("[{}, {}]")).as_str()), ("plain", "with 2"));
    std::fs::create_dir(folder.path().join("additional_chat_templates")).unwrap();
    write("additional_chat_templates/tool_use.jinja", "own");
    write("chat_template.json", r#"{"chat_template": "of the file"}"#);
    assert_eq!((render(None).as_str(), render(Some("[{}]")).as_str()), ("of the file", "own"));
    // Empty is none.
    assert_eq!((render(Some("[]")).as_str(), render(Some("")).as_str()), ("of the file", "of the file"));
    write("chat_template.jinja", "{{ strftime_now('%d %b %Y') }}");
    let t = Tokenizer::from_folder(folder.path()).unwrap().at_time(1_722_000_000).unwrap();
    assert_eq!(t.render(&[], None, GenerationPrompt::Omit).unwrap(), "26 Jul 2024");

    let mut metadata = metadata().clone();
    metadata.insert("tokenizer.chat_template.tool_use".into(), Value::String("{{ tools }}".into()));
    let t = Tokenizer::from_gguf(&metadata).unwrap();
    assert_eq!(t.render(&[], Some("[{}]"), GenerationPrompt::Omit).unwrap(), "[{}]");
}

#[test]
fn packing_many_rows_is_fast_and_full() {
    let lengths: Vec<u32> = (0..250_000u64).map(|n| 1 + (n * 2_654_435_761 % 1_999) as u32).collect();
    let begun = std::time::Instant::now();
    let sequences = packed(&lengths, 2048);
    clock::within(begun, std::time::Duration::from_secs(2));
    let tokens: u64 = lengths.iter().map(|&n| u64::from(n)).sum();
    let least = tokens.div_ceil(2048) as usize;
    assert!(sequences >= least && sequences * 100 <= least * 101, "{sequences}, at least {least}");
    assert_eq!(packed(&[0, 9, 8], 8), 1);
}

/// What people and models write, with all that cuts words and tokens.
const TEXTS: &str = "(<\\|im_end\\|>|<\\|im_|end\\|>|<repo_name>|\\PC|[a-eA-E]{1,5}|[0-9]{1,4}|[ \t\n\r]{1,3}|'ll|é|e\u{301}|[小明有苹果]{1,3}|\u{e000}){0,12}";

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_short_way_gives_the_ids_of_the_library(text in TEXTS) {
        static ALL: OnceLock<Vec<Tokenizer>> = OnceLock::new();
        let all = ALL.get_or_init(|| ["smollm", "gpt-2", "llama-bpe", "qwen2"].map(|pre| {
            let mut metadata = metadata().clone();
            metadata.insert("tokenizer.ggml.pre".into(), Value::String(pre.into()));
            metadata.insert("tokenizer.ggml.add_bos_token".into(), Value::Bool(false));
            Tokenizer::from_gguf(&metadata).unwrap()
        }).to_vec());
        for t in all {
            let library = t.inner().encode_fast(text.as_str(), false).unwrap();
            prop_assert_eq!(t.encode(&text).unwrap(), library.get_ids());
            let mut plain = t.inner().clone();
            plain.set_encode_special_tokens(true);
            let library = plain.encode_fast(text.as_str(), false).unwrap();
            let ours = t.encode_plain(&text).unwrap();
            prop_assert_eq!(t.count(&[&text]).unwrap(), [ours.len()]);
            prop_assert_eq!(ours, library.get_ids());
        }
    }

    #[test]
    fn the_short_way_gives_the_examples_of_the_long_one(
        contents in prop::collection::vec(TEXTS, 1..5), weightless in any::<bool>(),
    ) {
        let message = |(n, content): (usize, String)| match n % 2 {
            0 => Message::user(content),
            _ => Message { weight: weightless.then_some(0.0), ..Message::assistant(content) },
        };
        let messages: Vec<Message> = contents.into_iter().enumerate().map(message).collect();
        for trained in [Trained::Assistant, Trained::LastAssistant, Trained::All] {
            let ours = tokenizer().example_with(&messages, None, trained).unwrap();
            let theirs = the_long_way().example_with(&messages, None, trained).unwrap();
            prop_assert_eq!(&ours, &theirs);
            let lengths = TokenCounts { tokens: ours.len(), trained: ours.trained_tokens() };
            prop_assert_eq!(tokenizer().lengths(&messages, None, trained).unwrap(), lengths);
            prop_assert_eq!(the_long_way().lengths(&messages, None, trained).unwrap(), lengths);
        }
        prop_assert_eq!(tokenizer().prompt(&messages, None).unwrap(), the_long_way().prompt(&messages, None).unwrap());
    }

    #[test]
    fn the_number_of_packs_is_that_of_the_packs(lengths in prop::collection::vec(0u32..=40, 0..60)) {
        let row = |&length: &u32| Example { ids: vec![7; length as usize], trained: vec![true; length as usize] };
        let rows: Vec<Example> = lengths.iter().filter(|n| **n <= 32).map(row).collect();
        let packs = pack(&rows.iter().collect::<Vec<_>>(), 32).unwrap();
        prop_assert_eq!(packed(&lengths, 32), packs.len());
    }
}
