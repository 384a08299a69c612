//! A compiled chat template: renders messages to a text as Hugging Face does.

use super::python_methods;
use crate::error::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment};

/// Whether the rendered text ends with the header of an assistant turn, for the model to continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenerationPrompt {
    /// Ends with the header.
    Add,
    /// Ends where the last message ends.
    Omit,
}

/// The chat templates of a model, as its files have them.
#[derive(Debug, Clone, Default)]
pub(super) struct TemplateSources {
    /// The one for every conversation.
    pub default: Option<String>,
    /// Another one for conversations with tools.
    pub tool_use: Option<String>,
}

/// The variables of a template other than the conversation.
#[derive(Debug, Clone, Default)]
pub(super) struct TemplateContext {
    /// The special tokens that it may use, such as `bos_token` → `<s>`.
    pub tokens: Vec<(&'static str, String)>,
    /// The time that `strftime_now` uses, in seconds since 1970; the clock if `None`.
    pub now: Option<i64>,
}

/// A chat template in Jinja, ready to render.
#[derive(Debug)]
pub(super) struct CompiledTemplate {
    env: Environment<'static>,
    tokens: Vec<(&'static str, String)>,
}

const NAME: &str = "chat template";
/// The most instructions of one rendering: long conversations need thousands, and an endless loop must not hang the
/// cell.
const FUEL: u64 = 50_000_000;

impl CompiledTemplate {
    /// Compiles a source whose lines end in `\n`.
    pub fn new(source: &str, given: TemplateContext) -> Result<Self> {
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        env.set_syntax(syntax.map_err(failed)?);
        env.set_auto_escape_callback(|_| AutoEscape::None);
        env.set_fuel(Some(FUEL));
        python_methods::install(&mut env, given.now);
        env.add_template_owned(NAME, without_generation_tags(source)).map_err(failed)?;
        Ok(Self { env, tokens: given.tokens })
    }

    /// The text of `messages`.
    pub fn render(&self, messages: &[Value], tools: &Value, prompt: GenerationPrompt) -> Result<String> {
        let tokens = self.tokens.iter().map(|(name, token)| (*name, Value::from(token)));
        let context = [
            ("messages", Value::from(messages)),
            ("tools", tools.clone()),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(prompt == GenerationPrompt::Add)),
        ];
        let context = Value::from_pairs(tokens.chain(context));
        self.env.get_template(NAME).and_then(|template| template.render(context)).map_err(failed)
    }
}

/// Puts the line into the message: the place of the error is for the file and line of the dataset.
fn failed(error: minijinja::Error) -> Error {
    let line = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
    let what = match (error.kind(), error.detail()) {
        (minijinja::ErrorKind::OutOfFuel, _) => format!("does not end within {FUEL} instructions"),
        (_, Some(detail)) => detail.to_string(),
        (kind, None) => kind.to_string(),
    };
    Error::format(format!("{NAME}{line}: {what}"))
}

/// Writes `{% generation %}` … `{% endgeneration %}` as an `if` that always holds.
///
/// Some templates mark the assistant's tokens so, for Hugging Face's own masks; Jinja itself does
/// not know the tag. Lines and white space stay as they are.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let (before, tag) = (&rest[..start], &rest[start..start + length]);
        out.push_str(before);
        match tag[2..].trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+') {
            "generation" => out.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            _ => out.push_str(tag),
        }
        rest = &rest[start + length..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Message;
    use crate::text::conversation::Conversation;

    fn render(source: &str) -> Result<String> {
        let conversation = Conversation::new(&[Message::user(" a <b> "), Message::assistant("c")], None)?;
        let (messages, tools) = conversation.values();
        CompiledTemplate::new(
            source,
            TemplateContext { tokens: vec![("bos_token", "<s>".into())], now: None },
        )?
        .render(&messages, &tools, GenerationPrompt::Omit)
    }

    #[test]
    fn blocks_take_their_line_with_them() {
        let source = "{{ bos_token }}\n{% for m in messages %}\n  {% if true %}\n{{ m.role }};\n  {% endif %}\n{% endfor %}\n";
        assert_eq!(render(source).unwrap(), "<s>\nuser;\nassistant;\n");
    }

    #[test]
    fn generation_tags_keep_their_white_space_control() {
        let source =
            "{% for m in messages %}{%- generation -%}\n {{ m.content }} \n{%- endgeneration %}{% endfor %}";
        assert_eq!(render(source).unwrap(), " a <b> c");
    }

    #[test]
    fn errors_name_the_line() {
        let error = render("a\nb\n{{ raise_exception('roles must alternate') }}").unwrap_err();
        assert_eq!(error.to_string(), "chat template, line 3: roles must alternate");
        let error = render("a\n{% for %}").unwrap_err();
        assert!(error.to_string().starts_with("chat template, line 2: "), "{error}");
    }

    #[test]
    fn python_is_close_enough() {
        let cases = [
            ("{{ messages[0].content.strip() }}", "a <b>"),
            ("{{ messages[0].content.lstrip() + '|' }}", "a <b> |"),
            ("{{ 'x--'.rstrip('-') }}", "x"),
            ("{{ 'a,b,c'.split(',', 1)[-1] }} {{ 'a b'.split() | length }}", "b,c 2"),
            ("{{ 'abc'.startswith(('x', 'ab')) }} {{ 'abc'.endswith('x') }} {{ none }}", "True False None"),
            ("{{ messages[0].get('name', 'nobody') }} {{ messages[0].get('name') is none }}", "nobody True"),
            (
                "{% for k, v in messages[1].items() %}{{ k }}={{ v }} {% endfor %}",
                "role=assistant content=c ",
            ),
            ("{{ messages[0] | tojson }}", r#"{"role": "user", "content": " a <b> "}"#),
            ("{{ [1, 'é'] | tojson(indent=1) }}", "[\n 1,\n \"é\"\n]"),
            ("{{ ['é👋'] | tojson(ensure_ascii=true) }}", r#"["\u00e9\ud83d\udc4b"]"#),
            ("{{ '{} of {}'.format(1, 'b') }}", "1 of b"),
            ("{{ tools is iterable }} {{ messages is iterable }}", "False True"),
            (
                "{% for m in messages %}{% if loop.index0 == 1 %}{% break %}{% endif %}{{ m.role }}{% endfor %}",
                "user",
            ),
            (
                "{% set ns = namespace(n=0) %}{% for m in messages[::-1] %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
                "2",
            ),
        ];
        for (source, expected) in cases {
            assert_eq!(render(source).unwrap(), expected, "{source}");
        }
    }
}
