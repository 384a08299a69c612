//! What the keys and the texts of a record of no known schema look like.

/// Last words of keys whose values are no texts to train on.
pub(super) const NOT: [&str; 67] = [
    "id",
    "ids",
    "uid",
    "uuid",
    "guid",
    "key",
    "hash",
    "md5",
    "sha",
    "sha1",
    "sha256",
    "checksum",
    "url",
    "uri",
    "link",
    "href",
    "path",
    "file",
    "filename",
    "folder",
    "date",
    "time",
    "timestamp",
    "datetime",
    "at",
    "year",
    "lang",
    "language",
    "locale",
    "source",
    "origin",
    "dataset",
    "category",
    "categories",
    "split",
    "type",
    "kind",
    "subset",
    "domain",
    "label",
    "tag",
    "tags",
    "level",
    "difficulty",
    "model",
    "version",
    "license",
    "licence",
    "author",
    "creator",
    "score",
    "rating",
    "status",
    "format",
    "index",
    "idx",
    "num",
    "number",
    "count",
    "image",
    "audio",
    "video",
    "speaker",
    "who",
    "sender",
    "name",
    "role",
];
/// Last words of keys that ask.
pub(super) const ASKS: [&str; 25] = [
    "q",
    "stem",
    "question",
    "query",
    "prompt",
    "input",
    "inputs",
    "instructions",
    "problem",
    "ask",
    "human",
    "user",
    "instruction",
    "request",
    "task",
    "post",
    "title",
    "src",
    "问题",
    "题目",
    "提问",
    "用户",
    "指令",
    "输入",
    "问",
];
/// Those of them that stand above what is asked, where something is.
pub(super) const HEADS: [&str; 3] = ["task", "post", "title"];
/// Last words of keys that answer.
pub(super) const ANSWERS: [&str; 28] = [
    "a",
    "ans",
    "answer",
    "answers",
    "response",
    "responses",
    "output",
    "outputs",
    "reply",
    "solution",
    "completion",
    "assistant",
    "bot",
    "gpt",
    "target",
    "targets",
    "label",
    "explanation",
    "rationale",
    "summary",
    "tgt",
    "答案",
    "回答",
    "解答",
    "助手",
    "回复",
    "输出",
    "答",
];
/// Last words of keys that say why an answer is right; of other answers these are the lesser ones.
pub(super) const REASONS: [&str; 2] = ["explanation", "rationale"];
/// Words of keys that hold what was thought before an answer.
pub(super) const THOUGHTS: [&str; 7] =
    ["reasoning", "thinking", "thought", "thoughts", "think", "cot", "reflection"];
/// Words of keys that hold a system text.
pub(super) const SYSTEMS: [&str; 2] = ["system", "sys"];
/// Last words of keys that hold what may be called.
pub(super) const TOOLS: [&str; 6] = ["tool", "tools", "function", "functions", "api", "apis"];
/// Last words of keys of which the first of several is an answer as well as any other.
pub(super) const LISTED: [&str; 4] = ["answer", "answers", "target", "targets"];
/// Last words of keys that hold documents.
pub(super) const TEXTS: [&str; 10] =
    ["text", "value", "body", "content", "document", "passage", "article", "正文", "文本", "内容"];

/// Last words of keys that hold what a question is about.
pub(super) const CONTEXTS: [&str; 10] = [
    "input",
    "inputs",
    "context",
    "contexts",
    "passage",
    "background",
    "paragraph",
    "premise",
    "输入",
    "背景",
];
/// Last words of keys that hold what a question leaves to choose from.
pub(super) const CHOICES: [&str; 5] = ["choices", "choice", "options", "candidates", "选项"];
/// Last words of keys that say who speaks, whatever is called so.
pub(super) const SPEAKERS: [&str; 6] = ["role", "from", "speaker", "who", "sender", "author"];
/// Last words of keys that may as well say something else than who speaks.
pub(super) const NAMES: [&str; 3] = ["name", "user", "type"];
/// Last words of keys that hold what is said.
pub(super) const SAYS: [&str; 11] =
    ["text", "value", "content", "body", "message", "msg", "said", "says", "line", "utterance", "内容"];
/// Speakers who answer.
pub(super) const HELPERS: [&str; 12] = [
    "agent",
    "helper",
    "support",
    "teacher",
    "tutor",
    "advisor",
    "expert",
    "doctor",
    "therapist",
    "counselor",
    "operator",
    "客服",
];

/// The last word of a key, in small letters: `id` of `questionId`, `answer` of `std_answer`, and of
/// `answerKey` too.
pub(super) fn last_word(key: &str) -> String {
    let key = end(key);
    let (rest, word) = split(key);
    // The number of one of several.
    if !rest.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit()) {
        return split(rest).1;
    }
    if word == "key" {
        let before = split(rest).1;
        if ANSWERS.contains(&before.as_str()) {
            return before;
        }
    }
    word
}

/// The end of a key that is longer than any name.
fn end(key: &str) -> &str {
    const LONGEST: usize = 200;
    let start = key.len().saturating_sub(LONGEST);
    let start = (start..=key.len()).find(|at| key.is_char_boundary(*at)).unwrap_or(0);
    &key[start..]
}

/// The words of a key, in small letters.
pub(super) fn words(key: &str) -> Vec<String> {
    let (mut rest, mut words) = (end(key), Vec::new());
    while !rest.is_empty() {
        let (before, word) = split(rest);
        words.push(word);
        rest = before;
    }
    words
}

/// What keys that stand for one of several things have in common: `response_` of `response_0` and of
/// `response_b`. `None` of others.
pub(super) fn stem(path: &str) -> Option<&str> {
    let stem = path.trim_end_matches(|c: char| c.is_ascii_digit());
    let letter = || {
        let stem = path.strip_suffix(|c: char| c.is_ascii_alphabetic())?;
        stem.ends_with(['_', '-', ' ']).then_some(stem)
    };
    if stem.len() < path.len() { Some(stem).filter(|stem| !stem.ends_with('.')) } else { letter() }
}

/// Whether a text is several turns, each after the name of its speaker: `USER: …`, `[Human]: …`,
/// `<|Human|>: …`.
pub(super) fn is_transcript(text: &str) -> bool {
    let mut spoken = [false; 2];
    for (at, _) in text.match_indices([':', '：']) {
        let named = text[..at].trim_end_matches([']', '*', '>', '|']);
        let start = named.char_indices().rev().take_while(|(_, c)| c.is_alphanumeric()).last();
        let Some((start, _)) = start else { continue };
        let before = text[..start].trim_end_matches(['[', '*', '<', '|', '#', ' ', '\t']);
        let begins = before.is_empty() || before.ends_with(['\n', '\r']) || named.len() < at;
        let who = match named[start..].to_lowercase().as_str() {
            "human" | "user" | "prompter" | "customer" | "client" | "patient" | "用户" | "患者" | "顾客" => {
                0
            }
            "assistant" | "gpt" | "chatgpt" | "bot" | "ai" | "moss" | "助手" => 1,
            name if HELPERS.contains(&name) => 1,
            _ => continue,
        };
        spoken[who] |= begins;
    }
    spoken == [true; 2]
}

/// Whether a text is no more than a name: `boolq`, `wiki_dialog`.
pub(super) fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// What stands before the last word of a key, and that word.
fn split(key: &str) -> (&str, String) {
    let key = key.trim();
    let camel = key.char_indices().rev().find(|(at, c)| {
        c.is_uppercase()
            && key[..*at].ends_with(|before: char| before.is_lowercase() || before.is_ascii_digit())
    });
    let joined = key
        .char_indices()
        .rev()
        .find(|(at, c)| !c.is_alphanumeric() && key[*at..].contains(char::is_alphanumeric));
    let camel = camel.map(|(at, _)| (at, at));
    let joined = joined.map(|(at, c)| (at, at + c.len_utf8()));
    let (end, start) = camel.max(joined).unwrap_or((0, 0));
    let word = key[start..].trim_end_matches(|c: char| !c.is_alphanumeric());
    (&key[..end], if word.is_empty() { key.to_lowercase() } else { word.to_lowercase() })
}

/// Whether a text is an id, an address, a hash, a number or a date.
pub(super) fn is_token(text: &str) -> bool {
    let text = text.trim();
    if text.is_empty() || text.contains("://") && !text.contains(char::is_whitespace) {
        return true;
    }
    if is_number(text) {
        return true;
    }
    let digits = text.chars().filter(char::is_ascii_digit).count();
    if text.contains(char::is_whitespace) || !text.is_ascii() {
        return false;
    }
    let hex = text.len() >= 16 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    // q-0012, identity_0, train/17, 5f3c9a.
    let parts = text.contains(['-', '_', '/', ':', '#']) || text.starts_with(|c: char| c.is_ascii_digit());
    hex || digits > 0 && parts
}

/// Whether a text is a number or a date.
pub(super) fn is_number(text: &str) -> bool {
    let numeric = |c: char| c.is_ascii_digit() || "+-.,:/ eETZ%年月日".contains(c);
    text.contains(|c: char| c.is_ascii_digit()) && text.trim().chars().all(numeric)
}
