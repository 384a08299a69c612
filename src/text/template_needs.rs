//! The forms of calls and reasoning that a chat template needs.

/// The forms of calls and reasoning that a chat template needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TemplateNeeds {
    /// The form of the arguments of a call.
    pub arguments: ArgumentForm,
    /// Whether it refuses calls without ids.
    pub ids: bool,
    /// How it treats null content.
    pub null: NullContent,
    /// The keys under which it reads the reasoning of a message.
    pub reasoning: Vec<&'static str>,
}

/// The form of the arguments of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum ArgumentForm {
    /// Either form works, or it is unknown: keeps the form of the file.
    #[default]
    Either,
    /// An object: text would be quoted twice, or fails.
    Object,
    /// Text: it is concatenated with other text.
    Text,
}

/// How a template treats null content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum NullContent {
    /// The content is left out: the template would write "None" or fail. transformers 5 leaves out every null.
    #[default]
    Absent,
    /// The content stays null: the template tests for it, as the one of DeepSeek R1 does, or ignores it.
    Null,
}

impl TemplateNeeds {
    /// The keys of reasoning in files and templates.
    pub const REASONING: [&'static str; 3] = crate::format::row::REASONING;
}
