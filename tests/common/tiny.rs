//! A tiny llama with a tokenizer of single bytes, as a Hugging Face folder: for what follows from the
//! tokenizer's own tokens and template.

use super::llama::Sizes;
use super::working_folder::WorkingFolder;
use lorascope::analysis::Preflight;
use lorascope::dataset::Dataset;
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::model::Model;
use lorascope::train::Finding;
use lorascope::train::RunConfig;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};

const SPECIALS: [&str; 6] = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<pad>"];
const SIZES: Sizes =
    Sizes { vocabulary: 262, width: 32, heads: 2, kv_heads: 1, head: 16, intermediate: 48, layers: 1 };

/// A template as many models have it.
pub const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// What a folder has beside weights and vocabulary.
pub struct Tiny<'a> {
    /// The chat template, if there is one.
    pub template: Option<&'a str>,
    /// The token that ends a text.
    pub eos: &'a str,
    /// Whether `<s>` is put in front of every text.
    pub bos: bool,
    /// Tokens of a row at most.
    pub context: usize,
}

impl Default for Tiny<'_> {
    fn default() -> Self {
        Self { template: Some(CHATML), eos: "<|im_end|>", bos: false, context: 512 }
    }
}

/// GPT-2's stand-ins of the 256 bytes.
fn bytes() -> Vec<char> {
    let plain = |byte: &u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut more = 255;
    let stand_in = |byte: u32| {
        if plain(&byte) {
            return char::from_u32(byte).unwrap();
        }
        more += 1;
        char::from_u32(more).unwrap()
    };
    (0..256).map(stand_in).collect()
}

impl Tiny<'_> {
    pub fn write(&self, folder: &Path) {
        SIZES.write_folder(folder, &SIZES.tensors());
        let write = |name: &str, value: Json| std::fs::write(folder.join(name), value.to_string()).unwrap();
        let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
        let mut config: Json = serde_json::from_str(&config).unwrap();
        config["max_position_embeddings"] = self.context.into();
        write("config.json", config);
        let vocabulary: serde_json::Map<String, Json> =
            bytes().iter().enumerate().map(|(id, c)| (c.to_string(), id.into())).collect();
        let added = SPECIALS.iter().enumerate().map(|(n, name)| {
            json!({"id": 256 + n, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        });
        let stage =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let front = json!({"SpecialToken": {"id": "<s>", "type_id": 0}});
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let processor = json!({"type": "TemplateProcessing", "single": [front, text], "pair": [front, text, text],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}}});
        let processor = if self.bos { processor } else { Json::Null };
        let tokenizer = json!({"version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": added.collect::<Vec<_>>(), "pre_tokenizer": stage, "decoder": stage,
            "post_processor": processor,
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary,
                "merges": []}});
        write("tokenizer.json", tokenizer);
        let mut roles =
            json!({"bos_token": "<s>", "eos_token": self.eos, "unk_token": "<unk>", "pad_token": "<pad>"});
        if let Some(template) = self.template {
            roles["chat_template"] = template.into();
        }
        write("tokenizer_config.json", roles);
    }
}

pub struct Bench {
    pub folder: WorkingFolder,
}

impl Bench {
    pub fn new() -> Self {
        let folder = WorkingFolder::enter();
        Self { folder }
    }

    pub fn model(&self, tiny: Tiny) -> Result<Model> {
        let path = self.folder.path().join("model");
        tiny.write(&path);
        Model::open(path)
    }

    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn data(&self, name: &str, text: &str) -> Result<Dataset> {
        Dataset::open(self.put(name, text))
    }
}

/// A small run.
pub fn config() -> RunConfig {
    RunConfig::default().rank(2).batch(4).warmup(1).seed(7)
}

/// What a check found.
pub fn finding<'a>(found: &'a Preflight, check: &str) -> &'a Finding {
    let said = || panic!("no {check} in {}", found.show().text);
    found.findings.iter().find(|finding| finding.check == check).unwrap_or_else(said)
}

/// Spelled as they are, good and bad in the two layouts that files have.
pub const LABELLED: &str = r#"{"prompt": "Name a prime above 10.", "completion": "11", "label": true}
{"prompt": "Name a prime above 10.", "completion": "12 is a prime.", "label": false}
{"messages": [{"role": "user", "content": "How many legs has a spider?"}, {"role": "assistant", "content": "Eight."}], "label": true}
{"messages": [{"role": "user", "content": "How many legs has a spider?"}, {"role": "assistant", "content": "Six."}], "label": false}
"#;
