//! Built-in chat templates for models whose files have none.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::pipeline::Pipeline;
use crate::error::{Error, Result};

/// A built-in chat template.
///
/// They do not support tools: a conversation with tools is refused, and so is one whose roles do not fit the
/// template. `Display` and `FromStr` use the names of the command line.
///
/// # Examples
/// ```
/// use lorascope::text::NamedTemplate;
///
/// assert_eq!("llama-3".parse::<NamedTemplate>()?, NamedTemplate::Llama3);
/// assert_eq!(NamedTemplate::ChatMl.to_string(), "chatml");
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NamedTemplate {
    /// `<|im_start|>role`, a line break, the text and `<|im_end|>`.
    ChatMl,
    /// `[INST] text [/INST]`, the system's text inside the first one between `<<SYS>>` marks.
    Llama2,
    /// `<|start_header_id|>role<|end_header_id|>`, an empty line, the text and `<|eot_id|>`.
    Llama3,
    /// As ChatML, and a system's message ("You are a helpful assistant.") where there is none.
    Qwen,
    /// The token 195 before what the user says and 196 before the answer, which ends with `eos`;
    /// the ids are meant, whatever these tokens are called in the vocabulary.
    Baichuan2,
    /// `### Instruction:` and `### Response:`, with `eos` after the answer. The preamble that Alpaca
    /// itself was trained with goes into a system's message.
    Alpaca,
}

impl NamedTemplate {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::ChatMl, Self::Llama2, Self::Llama3, Self::Qwen, Self::Baichuan2, Self::Alpaca];

    fn name(self) -> &'static str {
        match self {
            Self::ChatMl => "chatml",
            Self::Llama2 => "llama-2",
            Self::Llama3 => "llama-3",
            Self::Qwen => "qwen",
            Self::Baichuan2 => "baichuan-2",
            Self::Alpaca => "alpaca",
        }
    }

    /// The token ids before the messages of the user and the assistant, if the template is made of ids.
    pub(super) fn token_ids(self) -> Option<[u32; 2]> {
        (self == Self::Baichuan2).then_some([195, 196])
    }

    /// The special tokens that the vocabulary must have, and whether `bos` and `eos` are among them.
    fn needs(self) -> (&'static [&'static str], bool, bool) {
        match self {
            Self::ChatMl | Self::Qwen => (&["<|im_start|>", "<|im_end|>"], false, false),
            Self::Llama2 => (&[], true, true),
            Self::Llama3 => (&["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], true, false),
            Self::Baichuan2 | Self::Alpaca => (&[], false, true),
        }
    }

    /// Checks that a vocabulary has the special tokens of the template: a mark that is split into several tokens would
    /// train, but the model would never stop at it.
    pub(super) fn check(self, pipeline: &Pipeline) -> Result<()> {
        let (specials, bos, eos) = self.needs();
        let missing = specials.iter().find(|name| !pipeline.specials.iter().any(|special| special == *name));
        let missing = match (missing, pipeline.named.bos, pipeline.named.eos) {
            (Some(name), ..) => *name,
            (_, None, _) if bos => "token that begins a text (bos)",
            (_, _, None) if eos => "token that ends a text (eos)",
            _ => return Ok(()),
        };
        Err(Error::input(format!(
            "the template {self} needs {missing}, which this vocabulary does not have as a special token"
        ))
        .help(
            "take alpaca, which needs no special tokens but eos, or write one with Tokenizer::with_template",
        ))
    }

    /// The template in Jinja.
    pub(super) fn source(self) -> String {
        let body = match self {
            Self::ChatMl => CHATML.to_string(),
            Self::Qwen => {
                let given = "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}";
                format!("{given}{CHATML}")
            }
            Self::Llama2 => format!("{ALTERNATE}{LLAMA2}"),
            Self::Llama3 => LLAMA3.to_string(),
            Self::Baichuan2 => format!("{ALTERNATE}{BAICHUAN2}"),
            Self::Alpaca => format!("{ALTERNATE}{ALPACA}"),
        };
        format!(
            "{{% if tools or messages | selectattr('tool_calls') | list or messages | selectattr('role', 'equalto', 'tool') | list %}}\
             {{{{ raise_exception('the built-in template {self} has no place for tools') }}}}{{% endif %}}{body}"
        )
    }
}

/// System first or not at all, then user and assistant in turn.
const ALTERNATE: &str = "{% set system = messages[0].content if messages and messages[0].role == 'system' %}\
    {% set turns = messages[1:] if messages and messages[0].role == 'system' else messages %}\
    {% for m in turns %}{% if m.role != ('user' if loop.index0 % 2 == 0 else 'assistant') %}\
    {{ raise_exception('this template takes a system message or none, then user and assistant in turn') }}\
    {% endif %}{% endfor %}";

const CHATML: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

const LLAMA2: &str = "{% for m in turns %}{% if m.role == 'user' %}\
    {{ bos_token }}[INST] {% if loop.first and system %}<<SYS>>\n{{ system }}\n<</SYS>>\n\n{% endif %}\
    {{ m.content | trim }} [/INST]{% else %} {{ m.content | trim }} {{ eos_token }}{% endif %}{% endfor %}";

const LLAMA3: &str = "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n\
    {{ m.content | trim }}<|eot_id|>{% endfor %}\
    {% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}";

const BAICHUAN2: &str = "{{ system or '' }}{% for m in turns %}{% if m.role == 'user' %}\
    {{ user_token }}{{ m.content }}{% else %}{{ assistant_token }}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}\
    {% if add_generation_prompt %}{{ assistant_token }}{% endif %}";

const ALPACA: &str = "{% if system %}{{ system }}\n\n{% endif %}{% for m in turns %}{% if m.role == 'user' %}\
    ### Instruction:\n{{ m.content }}\n\n{% else %}### Response:\n{{ m.content }}{{ eos_token }}\n\n{% endif %}{% endfor %}\
    {% if add_generation_prompt %}### Response:\n{% endif %}";

impl fmt::Display for NamedTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for NamedTemplate {
    type Err = Error;

    /// Case and hyphens do not matter: `Llama2` is `llama-2`.
    fn from_str(text: &str) -> Result<Self> {
        let plain = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
        Self::ALL.into_iter().find(|one| plain(one.name()) == plain(text)).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::input(format!("there is no template {text:?}")).help(format!("take one of {names}"))
        })
    }
}

impl TryFrom<String> for NamedTemplate {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<NamedTemplate> for String {
    fn from(template: NamedTemplate) -> Self {
        template.to_string()
    }
}
