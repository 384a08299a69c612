//! Writes a tokenizer as the files of a Hugging Face folder.

use serde_json::{Value as Json, json};

use super::Tokenizer;
use super::folder_reader::{CONFIG, GENERATION, MODEL, TEMPLATE, TOOLS_TEMPLATE};
use crate::error::{Error, Result};

impl Tokenizer {
    /// The names and contents of the files from which [`from_folder`](Self::from_folder) restores this tokenizer:
    /// vocabulary, special tokens, chat templates.
    ///
    /// # Errors
    /// When the tokenizer cannot be written as JSON.
    pub(crate) fn files(&self, context: usize) -> Result<Vec<(&'static str, String)>> {
        let name = |id: Option<u32>| id.and_then(|id| self.pipeline.inner.id_to_token(id));
        let named = &self.pipeline.named;
        let text = |value: &Json| serde_json::to_string_pretty(value).map_err(Error::compute);
        let mut tokenizer = serde_json::to_value(&self.pipeline.inner).map_err(Error::compute)?;
        if let (true, Some(id), Some(bos)) = (self.pipeline.adds_bos, named.bos, name(named.bos)) {
            tokenizer["post_processor"] = begins_with(&bos, id);
        }
        let mut config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": false,
            "model_max_length": context,
        });
        let roles = [
            ("bos_token", named.bos),
            ("eos_token", named.eos),
            ("pad_token", named.pad),
            ("unk_token", named.unk),
        ];
        for (role, id) in roles {
            if let Some(token) = name(id) {
                config[role] = Json::String(token);
            }
        }
        let mut generation = json!({ "eos_token_id": self.stop_ids() });
        if let Some(bos) = named.bos {
            generation["bos_token_id"] = json!(bos);
        }
        let mut files =
            vec![(MODEL, text(&tokenizer)?), (CONFIG, text(&config)?), (GENERATION, text(&generation)?)];
        if let Some(templates) = &self.templates {
            let sources = templates.sources();
            let all = [(TEMPLATE, &sources.default), (TOOLS_TEMPLATE, &sources.tool_use)];
            files.extend(all.into_iter().filter_map(|(name, source)| Some((name, source.clone()?))));
        }
        Ok(files)
    }
}

/// The post-processor that puts `bos` in front of every text.
fn begins_with(bos: &str, id: u32) -> Json {
    let special = json!({ "SpecialToken": { "id": bos, "type_id": 0 } });
    let sequence = |name: &str| json!({ "Sequence": { "id": name, "type_id": 0 } });
    let mut tokens = serde_json::Map::new();
    tokens.insert(bos.to_string(), json!({ "id": bos, "ids": [id], "tokens": [bos] }));
    json!({
        "type": "TemplateProcessing",
        "single": [special.clone(), sequence("A")],
        "pair": [special, sequence("A"), sequence("B")],
        "special_tokens": tokens,
    })
}
