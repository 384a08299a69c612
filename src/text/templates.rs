//! The chat templates of a model, and what each of them needs.

use std::sync::OnceLock;

use minijinja::value::Value;

use super::conversation::TemplateNeeds;
use super::template::{CompiledTemplate, GenerationPrompt, TemplateContext, TemplateSources};
use super::template_probe::probe;
use crate::error::Result;

/// The chat templates of a model, ready to render.
#[derive(Debug)]
pub(super) struct Templates {
    sources: TemplateSources,
    given: TemplateContext,
    default: Option<ChatTemplate>,
    tool_use: Option<ChatTemplate>,
}

impl Templates {
    /// What the templates were made from.
    pub fn sources(&self) -> &TemplateSources {
        &self.sources
    }

    pub fn new(sources: TemplateSources, given: TemplateContext) -> Result<Self> {
        let compiled = |source: &Option<String>| {
            source.as_deref().map(|source| ChatTemplate::new(source, given.clone())).transpose()
        };
        let (default, tool_use) = (compiled(&sources.default)?, compiled(&sources.tool_use)?);
        Ok(Self { sources, given, default, tool_use })
    }

    /// The time that they are rendered at; `None` for the clock.
    pub fn time(&self) -> Option<i64> {
        self.given.now
    }

    /// Whether one of them uses the time.
    pub fn is_dated(&self) -> bool {
        let sources = [&self.sources.default, &self.sources.tool_use];
        sources.into_iter().flatten().any(|source| source.contains("strftime_now"))
    }

    /// The same templates at another time.
    pub fn at_time(&self, now: i64) -> Result<Self> {
        Self::new(self.sources.clone(), TemplateContext { now: Some(now), ..self.given.clone() })
    }

    /// The template for a conversation with these tools.
    pub fn pick(&self, tools: &serde_json::Value) -> Option<&ChatTemplate> {
        match &self.tool_use {
            Some(template) if !tools.is_null() => Some(template),
            _ => self.default.as_ref(),
        }
    }
}

/// A chat template, ready to render.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    compiled: CompiledTemplate,
    source: String,
    needs: OnceLock<TemplateNeeds>,
}

impl ChatTemplate {
    pub fn new(source: &str, given: TemplateContext) -> Result<Self> {
        // As Jinja reads a source.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        Ok(Self { compiled: CompiledTemplate::new(&source, given)?, source, needs: OnceLock::new() })
    }

    /// The forms of calls and reasoning that it needs; determined by rendering on the first call.
    pub fn needs(&self) -> &TemplateNeeds {
        self.needs.get_or_init(|| probe(&self.compiled, &self.source))
    }

    /// The text of `messages`.
    pub fn render(&self, messages: &[Value], tools: &Value, prompt: GenerationPrompt) -> Result<String> {
        self.compiled.render(messages, tools, prompt)
    }
}
