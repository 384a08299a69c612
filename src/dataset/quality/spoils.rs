//! Problems that spoil training although a row can be read; a report finds them.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use memchr::memmem;
use regex::Regex;

use super::turn_text::{text_of, thought};
use crate::dataset::table::Rows;
use crate::display::cut;
use crate::format::problems::ProblemKind;
use crate::format::row::Spoken;
use crate::format::schema::calls::{broken_arguments, ids_of, lack_ids};
use crate::format::schema::layout::List;

/// Rows by what is wrong with them.
#[derive(Default)]
pub(super) struct Spoils(pub BTreeMap<ProblemKind, Spoiled>);

/// The rows of one kind of fault, ascending.
#[derive(Default)]
pub(super) struct Spoiled {
    pub rows: Vec<u32>,
    /// What is wrong with the first of them.
    pub example: String,
}

/// Characters of a row that an example quotes.
const QUOTED: usize = 80;

impl Spoils {
    /// Notes a fault of a row; of several of a kind in one row the first.
    pub fn note(&mut self, kind: ProblemKind, row: u32, what: impl FnOnce() -> String) {
        let found = self.0.entry(kind).or_default();
        if found.rows.is_empty() {
            found.example = what();
        }
        if found.rows.last() != Some(&row) {
            found.rows.push(row);
        }
    }

    /// Appends what was found in later rows.
    pub fn add(&mut self, later: Self) {
        for (kind, mut later) in later.0 {
            let found = self.0.entry(kind).or_default();
            if found.rows.is_empty() {
                found.example = later.example;
            }
            found.rows.append(&mut later.rows);
        }
    }

    /// Looks at row `i` of a table, which is `row` in the dataset.
    pub fn look(&mut self, rows: Rows<'_>, i: usize, row: u32) {
        let place = |part: Part<'_>| match part {
            Part::System => "the system text".to_string(),
            Part::Text => "the text".to_string(),
            Part::Turn(n, role) => format!("turn {} ({role})", n + 1),
            Part::Rejected(n, role) => format!("rejected turn {} ({role})", n + 1),
        };
        let system = rows.system(i).map(|text| (Part::System, text));
        let text = rows.text(i).map(|text| (Part::Text, text));
        let turns = rows.turns(i).enumerate().map(|(n, turn)| (Part::Turn(n, turn.role), text_of(&turn)));
        let rejected = rows.rejected(i).enumerate();
        let rejected = rejected.map(|(n, turn)| (Part::Rejected(n, turn.role), text_of(&turn)));
        let templates = OnceCell::new();
        let of_templates =
            || *templates.get_or_init(|| rows.turns(i).any(|turn| speaks_of_templates(text_of(&turn))));
        for (part, text) in system.into_iter().chain(text).chain(turns).chain(rejected) {
            if let Some(at) = memmem::find(text.as_bytes(), "\u{fffd}".as_bytes()) {
                self.note(ProblemKind::ReplacementCharacter, row, || {
                    format!("{} has {:?}", place(part), around(text, at))
                });
            }
            // All of them begin with these bytes.
            if (memmem::find(text.as_bytes(), b"\xe2\x80").is_some()
                || memmem::find(text.as_bytes(), b"\xe2\x81").is_some())
                && let Some(at) =
                    text.find(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
            {
                self.note(ProblemKind::TurnedDirection, row, || {
                    format!("{} has {:?}", place(part), around(text, at))
                });
            }
            if let Some(found) = placeholder(text)
                && !of_templates()
            {
                self.note(ProblemKind::Placeholder, row, || format!("{} has {found:?}", place(part)));
            }
        }
        for (n, turn) in rows.turns(i).enumerate() {
            if let Some((name, arguments)) = turn.tool_calls.and_then(broken_arguments) {
                self.note(ProblemKind::BrokenArguments, row, || {
                    format!(
                        "turn {} calls {:?} with {:?}",
                        n + 1,
                        cut(&name, QUOTED),
                        cut(&arguments, QUOTED)
                    )
                });
            }
        }
        self.order(rows, i, row);
        if rows.is_preference(i) && same_choice(rows, i) {
            self.note(ProblemKind::SameChoice, row, || "both answers say the same".into());
        }
    }

    /// Looks at who speaks when, and at the answers.
    fn order(&mut self, rows: Rows<'_>, i: usize, row: u32) {
        let mut before: Option<Spoken<'_>> = None;
        // The ids of the calls of a row, where all have one.
        let calls_of = || rows.turns(i).filter_map(|turn| turn.tool_calls);
        let answers = rows.turns(i).any(|turn| turn.tool_call_id.is_some());
        let called: Vec<String> = match answers && !calls_of().any(lack_ids) {
            true => calls_of().flat_map(|calls| ids_of(calls).into_iter().map(|(id, _)| id)).collect(),
            false => Vec::new(),
        };
        let calls = |turn: Spoken<'_>| turn.tool_calls.is_some() || calls_in_words(text_of(&turn));
        for (n, turn) in rows.turns(i).enumerate() {
            let text = text_of(&turn);
            match turn.role {
                "assistant" => {
                    before = Some(turn);
                    if text.ends_with(char::is_whitespace) && !text.trim_end().is_empty() {
                        let end = text.trim_end().len();
                        let what = || format!("turn {} ends in {:?}", n + 1, cut(&text[end..], 10));
                        self.note(ProblemKind::TrailingSpace, row, what);
                    }
                    if let Some(found) = refusal(text) {
                        let what = || format!("turn {} says {:?}", n + 1, cut(found, QUOTED));
                        self.note(ProblemKind::Refusal, row, what);
                    }
                }
                "tool" if !before.is_some_and(calls) => {
                    let what = || format!("nothing was called before turn {}, the answer of a tool", n + 1);
                    self.note(ProblemKind::AnswerWithoutCall, row, what);
                }
                "tool" => {
                    let id = turn.tool_call_id.filter(|id| !id.is_empty());
                    if let Some(id) =
                        id.filter(|id| !called.is_empty() && !called.iter().any(|call| call == id))
                    {
                        let what = || {
                            format!(
                                "turn {} answers the call {:?}, which nobody made",
                                n + 1,
                                cut(id, QUOTED)
                            )
                        };
                        self.note(ProblemKind::AnswerWithoutCall, row, what);
                    }
                }
                "system" => {
                    let what = || format!("turn {} is the system's: {:?}", n + 1, cut(text, QUOTED));
                    self.note(ProblemKind::SystemInside, row, what);
                }
                _ => before = None,
            }
        }
    }
}

/// A text of a row.
#[derive(Clone, Copy)]
enum Part<'a> {
    System,
    Text,
    /// A turn's place and its role.
    Turn(usize, &'a str),
    Rejected(usize, &'a str),
}

/// The text around a byte of it.
fn around(text: &str, at: usize) -> &str {
    let start = text[..at].char_indices().rev().nth(20).map_or(0, |(start, _)| start);
    let end = text[at..].char_indices().nth(20).map_or(text.len(), |(end, _)| at + end);
    &text[start..end]
}

/// Whether the chosen answer is the rejected one but for white space at its ends.
fn same_choice(rows: Rows<'_>, i: usize) -> bool {
    let [_, chosen, rejected] = rows.counts(i);
    let said = |list, n| {
        let turn = rows.turn(i, list, n)?;
        Some((turn.role, text_of(&turn).trim(), turn.tool_calls, turn.tool_call_id, thought(&turn)))
    };
    chosen == rejected && (0..chosen).all(|n| said(List::Chosen, n) == said(List::Rejected, n))
}

/// Whether an answer calls a tool inside its text, as older formats have it.
fn calls_in_words(text: &str) -> bool {
    const SIGNS: [&str; 8] = [
        "tool_call",
        "TOOL_CALL",
        "function_call",
        "functioncall",
        "<function",
        "python_tag",
        "Action:",
        "```",
    ];
    SIGNS.iter().any(|sign| text.contains(sign))
}

/// Characters of an answer in which a refusal stands.
const OPENING: usize = 240;

/// The refusal with which an answer begins.
pub(super) fn refusal(text: &str) -> Option<&str> {
    static ENGLISH: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let cannot = "(?:can(?:no|['’])t|can not|(?:am|['’]m) (?:not able|unable) to|won['’]?t be able to|(?:am|['’]m) not able to|will not)";
        let act = "(?:assist|help|provide|do that|fulfill|comply|answer|generate|create|write|engage|support|discuss|share|access|browse|perform|give|offer|recommend|continue|complete|process|respond|predict|participate|order|book|make|find that|tell|produce|translate)";
        let sorry =
            "(?:i(?:['’]m| am)(?: really| very| so)? sorry|sorry|i apologi[sz]e|my apologies|unfortunately)";
        let not = "(?:do not|don['’]t|can(?:no|['’])t|can not|am unable|am not (?:able|capable)|['’]m unable|['’]m not (?:able|capable)|have no)";
        Regex::new(&format!(
            "(?i)^(?:{sorry}[,.;!]? (?:but )?(?:as an ai[^.]{{0,60}}, )?i ?{cannot} {act}|i ?(?:cannot|can['’]t|can not|am unable to|['’]m unable to) (?:assist|help (?:you )?with|fulfill|comply|provide (?:assistance|information|any|that|instructions)|engage in|participate in|support)|.{{0,80}}\\bas an? ai language model\\b|.{{0,80}}\\bas an? (?:ai|artificial intelligence)(?: language)?(?: model| assistant| chatbot)?[a-z ]{{0,30}}, i ?{not})"
        ))
        .ok()
    });
    static CHINESE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let cannot = "(?:不能|无法|不会|没有办法|没办法|不可以|没有能力|不具备)";
        Regex::new(&format!(
            "^(?:(?:非常|很|真的)?(?:对不起|抱歉|不好意思|遗憾)[，,。！! ]*(?:但|但是|不过)?(?:作为[^，,。]{{0,30}}[，,] ?)?我(?:目前|暂时|现在|还|并)?{cannot}|作为(?:一个|一名|一款)?(?:人工智能|AI|ai)(?:语言)?(?:模型|助手|程序)?[，,] ?我(?:目前|暂时|现在|还|并)?{cannot}|我(?:不能|无法)(?:协助|帮助您|帮助你|提供(?:帮助|此类|这类|任何)))"
        ))
        .ok()
    });
    let text = text.trim_start();
    let end = text.char_indices().nth(OPENING).map_or(text.len(), |(end, _)| end);
    let opening = text[..end].lines().next().unwrap_or_default();
    // Most answers are told apart from refusals by a few letters.
    let first = opening.chars().next()?;
    let regex = match first.is_ascii() {
        true if memmem::find(opening.as_bytes(), b"orry").is_some()
            || opening.as_bytes().windows(2).any(|two| two.eq_ignore_ascii_case(b"ai"))
            || matches!(first, 'I' | 'i' | 'U' | 'u' | 'M' | 'm') =>
        {
            ENGLISH.as_ref()?
        }
        true => return None,
        false => CHINESE.as_ref()?,
    };
    regex.find(opening).map(|found| &opening[..found.end()])
}

/// A placeholder that nobody filled.
///
/// Templates and code are full of braces: a text with a sign of code, of TeX or of a template language
/// has none.
pub(super) fn placeholder(text: &str) -> Option<&str> {
    static MARKS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        // What single braces may hold: the names of fields that data are made with.
        let field = "(?:name|first_name|last_name|full_name|user_name|username|user_input|author|company|company_name|product|product_name|question|instruction|input|context|topic|city|country|date|email|title|姓名|名字|作者|公司|日期|问题)";
        Regex::new(&format!(
            "\\{{\\{{ ?[A-Za-z_\\p{{Han}}][\\w\\- \\p{{Han}}]{{1,30}} ?\\}}\\}}|\\{{{field}\\}}|<(?:your|insert|enter) [a-z][a-z ]{{1,30}}>|\\[(?:Your|YOUR|your) [A-Za-z][\\w ’'/]{{1,40}}\\]|\\[(?:INSERT|Insert|insert)(?: [^\\[\\]\\n]{{1,60}})?\\]|[\\[【<](?:你|您)的(?:姓名|名字|名称|公司|职位|邮箱|电话|地址|签名)[\\]】>]|[\\[【]插入[^\\[\\]【】\\n]{{1,30}}[\\]】]"
        ))
        .ok()
    });
    let bytes = text.as_bytes();
    memchr::memchr3(b'{', b'[', b'<', bytes).or_else(|| memmem::find(bytes, "【".as_bytes()))?;
    let found = MARKS.as_ref()?.find(text)?;
    let before = &text[..found.start()];
    // `${{ secrets.KEY }}`, `\frac{{a}}`, x^{{n}}, a[insert 1], f"{name}".
    let joined = before.ends_with(|c: char| c.is_ascii_alphanumeric() || "$\\^_})]{%#\"'`".contains(c));
    let after = text[found.end()..].starts_with(['(', '}', '`', '[']);
    (!joined && !after && !is_code(text)).then(|| found.as_str())
}

/// Whether a text holds code, TeX or a template's statements.
fn is_code(text: &str) -> bool {
    const SIGNS: [&str; 24] = [
        "```",
        "{%",
        "%}",
        "\\begin",
        "\\frac",
        "\\(",
        "\\[",
        "</",
        "/>",
        "();",
        "){",
        ") {",
        "=> ",
        "def ",
        "import ",
        "return ",
        "print(",
        "printf",
        "console.",
        "SELECT ",
        "#include",
        "function ",
        "var ",
        ".format(",
    ];
    SIGNS.iter().any(|sign| memmem::find(text.as_bytes(), sign.as_bytes()).is_some())
}

/// Whether a turn is about templates, so that placeholders are what was asked for.
fn speaks_of_templates(text: &str) -> bool {
    static WORDS: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new("(?i)template|placeholder|jinja|handlebars|mustache|django|f-string|curly brace|模板|占位|范本|样板")
            .ok()
    });
    WORDS.as_ref().is_some_and(|words| words.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::{placeholder, refusal};

    #[test]
    fn refusals_in_two_languages() {
        let refused = [
            "I'm sorry, but I can't assist with that request.",
            "I’m sorry, but I cannot provide medical advice.",
            "Sorry, I am unable to help with this.",
            "I apologize, but I can't create that.",
            "I cannot fulfill this request.",
            "As an AI language model, I don't have personal opinions.",
            "I'm sorry, but as an AI, I can't order a pizza for you.",
            "Well, as an AI assistant, I do not have feelings.",
            "对不起，我不能协助您完成这个请求。",
            "很抱歉，我无法提供这类信息。",
            "抱歉，作为一个AI语言模型，我无法访问互联网。",
            "作为一个人工智能语言模型，我没有能力感受情绪。",
            "我无法提供任何违法的建议。",
        ];
        for text in refused {
            assert!(refusal(text).is_some(), "{text}");
        }
        let fine = [
            "I'm sorry to hear that you lost your dog.",
            "I am {{name}}, an AI assistant developed by {{author}}.",
            "As an AI engineer, you will need mathematics.",
            "I can't wait to see you!",
            "I cannot stress enough how important sleep is.",
            "抱歉，我是小明，不是小红。",
            "我无法忘记那个夏天。",
            "作为一个人工智能助手，我可以回答各种问题。",
            "Sorry is the hardest word, and I can't say it.",
            "",
        ];
        for text in fine {
            assert_eq!(refusal(text), None, "{text}");
        }
    }

    #[test]
    fn placeholders_and_what_only_looks_like_one() {
        let unfilled = [
            ("Hello! I am {{name}}, an AI assistant.", "{{name}}"),
            ("我是 {{ 姓名 }}，很高兴认识你", "{{ 姓名 }}"),
            ("Dear {first_name}, thank you.", "{first_name}"),
            ("Best regards,\n[Your Name]", "[Your Name]"),
            ("Send it to <your email address> today", "<your email address>"),
            ("The event is on [INSERT DATE].", "[INSERT DATE]"),
            ("此致敬礼\n[您的姓名]", "[您的姓名]"),
        ];
        for (text, found) in unfilled {
            assert_eq!(placeholder(text), Some(found), "{text}");
        }
        let fine = [
            "Use `{{ name }}` in the page: {% if user %}Hi{% endif %}",
            "key: ${{ secrets.TOKEN }}",
            "$\\frac{{a}}{b}$ and x^{{n}} and {a} ∪ {b}",
            "```python\nprint(f\"{name}\")\n```",
            "The set {x, y} and {{a}, {b}}",
            "f\"{name} is here\"",
            "a[insert] and list [1] and [link](x)",
            "if (a) { return b; } {input}",
            "<your> and <b>your name</b>",
            "{\"name\": {\"first\": 1}}",
        ];
        for text in fine {
            assert_eq!(placeholder(text), None, "{text}");
        }
    }
}
