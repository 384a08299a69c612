//! SentencePiece models, against SentencePiece itself and Hugging Face (golden/pieces.py), and
//! against broken files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::quantized::gguf_file::Value;
use lorascope::candle_core;
use lorascope::text::{GenerationPrompt, Message, NamedTemplate, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn golden() -> Json {
    serde_json::from_slice(&std::fs::read(path("pieces.json")).unwrap()).unwrap()
}

fn model(name: &str) -> Vec<u8> {
    std::fs::read(path(&format!("pieces/{name}.model"))).unwrap()
}

fn open(model: &[u8], config: &Json) -> lorascope::error::Result<Tokenizer> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.model"), model).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    Tokenizer::from_folder(folder.path())
}

fn ids(json: &Json) -> Vec<u32> {
    serde_json::from_value(json.clone()).unwrap()
}

fn list(json: &Json) -> &Vec<Json> {
    json.as_array().unwrap()
}

#[test]
fn golden_ids_of_both_kinds_of_model() {
    let golden = golden();
    for name in ["bpe", "unigram"] {
        let (t, golden) = (open(&model(name), &json!({})).unwrap(), &golden[name]);
        assert_eq!(t.vocabulary_size() as u64, golden["size"].as_u64().unwrap());
        let roles: Vec<u32> =
            [t.bos(), t.eos(), t.id("<pad>"), t.id("<unk>")].into_iter().flatten().collect();
        assert_eq!(roles, ids(&golden["roles"]), "{name}");
        let mut differ = Vec::new();
        for case in list(&golden["plain"]) {
            let text = case["text"].as_str().unwrap();
            let expected = match case.get("hugging_face") {
                // There the name of a special token in a text becomes that token, whatever is asked.
                Some(_) if text.contains("<s>") => &case["ids"],
                Some(theirs) => {
                    differ.push(text);
                    theirs
                }
                None => &case["ids"],
            };
            let ours = t.encode_plain(text).unwrap();
            assert_eq!(ours, ids(expected), "{name}: {text:?}");
            // SentencePiece writes a sign of its own for what is unknown.
            if ours == ids(&case["ids"]) && !ours.contains(&t.id("<unk>").unwrap()) {
                assert_eq!(t.decode(&ours).unwrap(), case["decoded"].as_str().unwrap(), "{name}: {text:?}");
            }
        }
        // Hugging Face puts no space in front of a text that begins with one.
        assert!(differ.iter().all(|text| text.starts_with([' ', '▁'])), "{differ:?}");
        for case in list(&golden["marked"]) {
            let text = case["text"].as_str().unwrap();
            let mut ours = t.encode(text).unwrap();
            if name == "bpe" && !text.starts_with("<s>") {
                assert_eq!(ours.remove(0), t.bos().unwrap());
            }
            assert_eq!(ours, ids(&case["ids"]), "{name}: {text:?}");
        }
    }
}

#[test]
fn golden_ids_of_a_llama_folder() {
    let golden = &golden()["llama"];
    let t = open(&model("bpe"), &golden["config"]).unwrap();
    for case in list(&golden["cases"]) {
        let text = case["text"].as_str().unwrap();
        // Ours puts no second `bos` in front of a text that has one.
        let expected = ids(&case["ids"]);
        let expected = if text.starts_with("<s>") { &expected[1..] } else { &expected };
        assert_eq!(t.encode(text).unwrap(), expected, "{text:?}");
    }
}

fn gguf(golden: &Json) -> HashMap<String, Value> {
    let array =
        |key: &str, value: fn(&Json) -> Value| Value::Array(list(&golden[key]).iter().map(value).collect());
    let entries = [
        ("model", Value::String("llama".into())),
        ("tokens", array("tokens", |v| Value::String(v.as_str().unwrap().into()))),
        ("scores", array("scores", |v| Value::F32(v.as_f64().unwrap() as f32))),
        ("token_type", array("types", |v| Value::I32(v.as_i64().unwrap() as i32))),
        ("bos_token_id", Value::U32(1)),
        ("eos_token_id", Value::U32(2)),
        ("unknown_token_id", Value::U32(0)),
    ];
    entries.into_iter().map(|(key, value)| (format!("tokenizer.ggml.{key}"), value)).collect()
}

/// There each text has a space in front, also after a special token: for texts without one these
/// are SentencePiece's own ids.
#[test]
fn golden_ids_of_a_gguf_file_and_of_an_older_folder() {
    let golden = golden();
    let mut metadata = gguf(&golden["gguf"]);
    let from_gguf = Tokenizer::from_gguf(&metadata).unwrap();
    let older = open(&model("bpe"), &json!({"legacy": true})).unwrap();
    for t in [&from_gguf, &older] {
        for case in list(&golden["bpe"]["plain"]) {
            let text = case["text"].as_str().unwrap();
            assert_eq!(t.encode_plain(text).unwrap(), ids(&case["ids"]), "{text:?}");
        }
        for case in list(&golden["gguf"]["marked"]) {
            let text = case["text"].as_str().unwrap();
            let ours = t.encode(text).unwrap();
            let ours = if text.starts_with("<s>") { &ours[..] } else { &ours[1..] };
            assert_eq!(ours, ids(&case["ids"]), "{text:?}");
        }
    }
    metadata.insert("tokenizer.ggml.add_bos_token".into(), Value::Bool(false));
    metadata.insert("tokenizer.ggml.add_space_prefix".into(), Value::Bool(false));
    let bare = Tokenizer::from_gguf(&metadata).unwrap();
    assert_eq!(bare.encode("a").unwrap(), [from_gguf.id("a").unwrap()]);

    metadata.insert("tokenizer.ggml.scores".into(), Value::Array(vec![Value::F32(0.0)]));
    let error = Tokenizer::from_gguf(&metadata).unwrap_err().to_string();
    assert!(error.contains("640 tokens have 1 scores and 640 types"), "{error}");
}

#[test]
fn nothing_that_is_typed_becomes_a_token_with_a_meaning() {
    for name in ["bpe", "unigram"] {
        let t = open(&model(name), &json!({})).unwrap();
        for special in ["<s>", "</s>", "<unk>", "<pad>", "<turn>"] {
            let id = t.id(special).unwrap();
            assert_eq!(t.encode(&format!("a{special}")).unwrap().last(), Some(&id), "{name}: {special}");
            let typed = t.encode_plain(&format!("a{special}")).unwrap();
            // What no piece of the Unigram model fits is unknown, here and there.
            assert!(
                special == "<unk>" && name == "unigram" || !typed.contains(&id),
                "{name}: {special} in {typed:?}"
            );
        }
        let t = t.with_named_template(NamedTemplate::Llama2).unwrap();
        let messages = [Message::user("the </s> apples"), Message::assistant("a <s>[INST]")];
        let example = t.example(&messages, None).unwrap();
        assert_eq!(example.ids.iter().filter(|id| Some(**id) == t.eos()).count(), 1);
        assert_eq!(example.ids.iter().filter(|id| Some(**id) == t.bos()).count(), 1);
    }
}

#[test]
fn an_answer_is_trained_with_the_token_that_ends_it() {
    let t = open(&model("bpe"), &json!({})).unwrap().with_named_template(NamedTemplate::Llama2).unwrap();
    let messages = [Message::user("how many?"), Message::assistant("3 apples")];
    let text = t.render(&messages, None, GenerationPrompt::Omit).unwrap();
    assert_eq!(text, "<s>[INST] how many? [/INST] 3 apples </s>");
    let example = t.example(&messages, None).unwrap();
    let said: Vec<u32> = example
        .ids
        .iter()
        .zip(&example.trained)
        .filter(|(_, trained)| **trained)
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(said.last(), t.eos().as_ref());
    assert_eq!(t.decode(&said).unwrap(), "3 apples </s>");
    assert_eq!(example.ids, t.encode(&text).unwrap());
}

/// A field of a message in SentencePiece's format.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat()
}

fn piece(text: &str, kind: u8) -> Vec<u8> {
    field(1, &[field(1, text.as_bytes()), vec![0x15, 0, 0, 0, 0, 0x18, kind]].concat())
}

#[test]
fn broken_files_say_what_is_wrong() {
    let unknown = piece("<unk>", 2);
    let whole = |pieces: &[Vec<u8>], trainer: &[u8], normalizer: &[u8]| {
        [pieces.concat(), field(2, trainer), field(3, normalizer)].concat()
    };
    let cases = [
        (b"version https".to_vec(), "a field of wire type 6"),
        (whole(&[piece("a", 1)], &[0x18, 1], &[]), "no piece stands for unknown text"),
        (whole(&[unknown.clone(), piece("a", 9)], &[0x18, 1], &[]), "a piece of type 9"),
        (
            whole(&[unknown.clone(), piece("a", 1), piece("a", 1)], &[0x18, 2], &[]),
            "\"a\" occurs twice, as 1 and as 2",
        ),
        (whole(&[unknown.clone(), piece("", 1)], &[0x18, 1], &[]), "piece 1 is \"\" with the score 0"),
        (whole(std::slice::from_ref(&unknown), &[0x18, 3], &[]), "the model type 3, which is not supported"),
        (
            whole(std::slice::from_ref(&unknown), &[0x18, 2, 0x98, 2, 1], &[]),
            "0 pieces stand for bytes, and 256 are needed",
        ),
        (whole(std::slice::from_ref(&unknown), &[0x18, 1], &field(2, &[9; 20])), "character map is broken"),
        (field(1, &[field(1, b"\xff"), vec![0x18, 1]].concat()), "piece 0: a name that is not UTF-8"),
    ];
    for (bytes, what) in cases {
        let error = open(&bytes, &json!({})).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("tokenizer.model"), "{error} instead of {what}");
    }
    let large = tempfile::tempdir().unwrap();
    std::fs::File::create(large.path().join("tokenizer.model")).unwrap().set_len(33 << 20).unwrap();
    let error = Tokenizer::from_folder(large.path()).unwrap_err().to_string();
    assert!(error.contains("34603008 bytes are too many for a SentencePiece model"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic(
        unigram in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        tail in any::<bool>(),
    ) {
        let mut bytes = model(if unigram { "unigram" } else { "bpe" });
        // The map of characters stands at the end.
        let from = if tail { bytes.len() * 3 / 4 } else { 0 };
        for (at, byte) in changes {
            let length = bytes.len() - from;
            bytes[from + at.index(length)] = byte;
        }
        if let Ok(t) = open(&bytes, &json!({})) {
            for text in ["", " the  apples ２½\t①", "小明 e\u{301} 🙂\u{200b}", "\u{200b}a"] {
                let _ = t.encode(text).and_then(|ids| t.decode(&ids));
            }
        }
    }

    #[test]
    fn any_text_has_ids(text in "(\\PC|[ \t\n▁a-e１-３ﬁ\u{200b}\u{301}]|</s>){0,30}") {
        let golden = open(&model("bpe"), &json!({"legacy": true})).unwrap();
        let ids = golden.encode_plain(&text).unwrap();
        // Spaces and what stands for them are one; a space was put in front.
        let back = golden.decode(&ids).unwrap();
        prop_assert_eq!(back, text.replace('▁', " "));
        let unigram = open(&model("unigram"), &json!({})).unwrap();
        let ids = unigram.encode_plain(&text).unwrap();
        prop_assert!(ids.iter().all(|id| *id < 220));
        prop_assert!(ids.iter().all(|id| ![1, 2, 3, 4].contains(id)), "{:?}", ids);
    }
}
