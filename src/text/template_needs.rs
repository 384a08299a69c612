//! In which form a chat template needs what a conversation says.

/// In which form a chat template needs calls and reasoning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct TemplateNeeds {
    /// The form of a call's arguments.
    pub arguments: ArgumentForm,
    /// It refuses calls without ids.
    pub ids: bool,
    /// What content that is null is to it.
    pub null: NullContent,
    /// The keys under which it reads the reasoning of a message.
    pub reasoning: Vec<&'static str>,
}

/// The form of a call's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum ArgumentForm {
    /// Either, or it cannot be told: as the file has them.
    #[default]
    Either,
    /// An object: text would be quoted once more, or cannot be used.
    Object,
    /// Text: it is joined to other text.
    Text,
}

/// What content that is null is to a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum NullContent {
    /// Nothing: it would write "None", or cannot go on. transformers 5 leaves out every null.
    #[default]
    Absent,
    /// Null: it asks for it, as DeepSeek R1's does, or does not mind.
    Null,
}

impl TemplateNeeds {
    /// The names of reasoning beside the content, in files and templates.
    pub const REASONING: [&'static str; 3] = ["reasoning_content", "reasoning", "thinking"];
}
