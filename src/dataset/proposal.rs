//! A map that may fit a record of no known schema.

use super::map::{Map, escaped};
use super::record::{Node, Value};
use super::schema::{LABELS, label, role_by_name};

/// Last words of keys whose values are no texts to train on.
const NOT: [&str; 62] = [
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
];
/// Last words of keys that ask.
const ASKS: [&str; 22] = [
    "q",
    "question",
    "query",
    "prompt",
    "input",
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
/// Last words of keys that answer.
const ANSWERS: [&str; 24] = [
    "a",
    "ans",
    "answer",
    "response",
    "output",
    "reply",
    "solution",
    "completion",
    "assistant",
    "bot",
    "gpt",
    "target",
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
/// Last words of keys that hold documents.
const TEXTS: [&str; 10] =
    ["text", "value", "body", "content", "document", "passage", "article", "正文", "文本", "内容"];

/// A map that may fit: of a list that looks like turns, or of two texts, one that asks and one that
/// answers by the names of their keys, or else the longest two. Ids, addresses, hashes, numbers, dates
/// and words of an enumeration are no texts; where nothing else is there, nothing is proposed.
pub(super) fn proposal(record: &str) -> Option<Map> {
    let node = Node::parse(record).ok()?;
    let mut seen = Seen::default();
    seen.look(&node, &mut String::new(), "".into());
    if let Some(list) = seen.list {
        return Some(list);
    }
    let verdict = node.object().and_then(|keys| {
        let told = keys
            .iter()
            .find(|(key, node)| LABELS.contains(&&*key.to_ascii_lowercase()) && label(node).is_some());
        told.map(|(key, _)| escaped(key))
    });
    let mut texts = seen.texts;
    texts.retain(|text| verdict.as_ref() != Some(&text.path));
    let named = |words: &[&str], other: Option<usize>| {
        let fits = |(n, text): &(usize, &Text)| Some(*n) != other && words.contains(&text.word.as_str());
        texts
            .iter()
            .enumerate()
            .filter(fits)
            .max_by_key(|(n, text)| (text.length, usize::MAX - n))
            .map(|(n, _)| n)
    };
    let longest = |other: Option<usize>| {
        let rest = texts.iter().enumerate().filter(|(n, _)| Some(*n) != other);
        rest.max_by_key(|(n, text)| (text.length, usize::MAX - n)).map(|(n, _)| n)
    };
    let (asks, answers) = (named(&ASKS, None), named(&ANSWERS, None));
    let (user, assistant) = match (asks, answers) {
        (Some(asks), Some(answers)) => (asks, answers),
        (Some(asks), None) => (asks, longest(Some(asks))?),
        (None, Some(answers)) => (longest(Some(answers))?, answers),
        (None, None) => {
            let one = longest(None)?;
            match longest(Some(one)) {
                Some(two) if texts[one].says || texts[two].says => (one.min(two), one.max(two)),
                Some(_) => return None,
                None => {
                    let text = &texts[one];
                    let document = text.says || TEXTS.contains(&text.word.as_str());
                    return document.then(|| Map::new().text(text.path.clone()));
                }
            }
        }
    };
    // Of two turns inside one value each has its own asker: no pair.
    let inside = |text: &Text| text.path.rsplit_once('.').map(|(parent, _)| parent.to_string());
    let top = |parent: &str| parent.split('.').next().map(str::to_string);
    if let (Some(one), Some(other)) = (inside(&texts[user]), inside(&texts[assistant]))
        && one != other
        && top(&one) == top(&other)
    {
        return None;
    }
    let map = Map::new().user(texts[user].path.clone()).assistant(texts[assistant].path.clone());
    Some(match verdict {
        Some(path) => map.label(path),
        None => map,
    })
}

/// A string of a record that may be a turn.
struct Text {
    path: String,
    /// The last word of its key.
    word: String,
    length: usize,
    /// Whether it is more than a word.
    says: bool,
}

/// What a record holds that may be turns.
#[derive(Default)]
struct Seen {
    texts: Vec<Text>,
    list: Option<Map>,
}

impl Seen {
    /// `word` is the last word of the key that holds the value; one that only says that a text follows is
    /// that of the key around it: `question` of `question.text`.
    fn look(&mut self, node: &Node<'_>, path: &mut String, word: String) {
        match &node.value {
            Value::String(text) if !NOT.contains(&word.as_str()) && !is_token(text) => {
                let says = text.trim().contains(char::is_whitespace) || text.chars().any(|c| c > '\u{2e7f}');
                self.texts.push(Text { path: path.clone(), word, length: text.len(), says });
            }
            Value::Object(keys) => {
                for (key, node) in keys {
                    let length = path.len();
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(&escaped(key));
                    let inner = last_word(key);
                    let around = TEXTS.contains(&inner.as_str()) && !word.is_empty();
                    self.look(node, path, if around { word.clone() } else { inner });
                    path.truncate(length);
                }
            }
            Value::Array(values) if self.list.is_none() && !path.is_empty() => {
                self.list = turns(values, path)
            }
            _ => {}
        }
    }
}

/// The last word of a key, in small letters: `id` of `questionId`, `answer` of `std_answer`.
fn last_word(key: &str) -> String {
    let key = key.trim();
    let camel = key.char_indices().rev().find(|(at, c)| {
        c.is_uppercase()
            && key[..*at].ends_with(|before: char| before.is_lowercase() || before.is_ascii_digit())
    });
    let key = camel.map_or(key, |(at, _)| &key[at..]);
    let word = key.rsplit(|c: char| !c.is_alphanumeric()).find(|word| !word.is_empty());
    word.unwrap_or(key).to_lowercase()
}

/// Whether a text is an id, an address, a hash, a number or a date.
fn is_token(text: &str) -> bool {
    let text = text.trim();
    if text.is_empty() || text.contains("://") && !text.contains(char::is_whitespace) {
        return true;
    }
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let numeric = |c: char| c.is_ascii_digit() || "+-.,:/ eETZ%年月日".contains(c);
    if digits > 0 && text.chars().all(numeric) {
        return true;
    }
    if text.contains(char::is_whitespace) || !text.is_ascii() {
        return false;
    }
    let hex = text.len() >= 16 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    // q-0012, identity_0, train/17, 5f3c9a.
    let parts = text.contains(['-', '_', '/', ':', '#']) || text.starts_with(|c: char| c.is_ascii_digit());
    hex || digits > 0 && parts
}

/// The map of a list that looks like turns.
fn turns(values: &[Node<'_>], path: &str) -> Option<Map> {
    const ROLES: [&str; 9] = ["role", "from", "speaker", "who", "author", "sender", "name", "user", "type"];
    let first = values.first()?.object()?;
    let fields: Vec<(&str, Vec<&str>)> = first
        .iter()
        .filter_map(|(key, _)| {
            let texts: Option<Vec<&str>> = values.iter().map(|turn| turn.get(key)?.str()).collect();
            Some((&**key, texts?))
        })
        .collect();
    let size = |texts: &[&str]| texts.iter().map(|text| text.len()).sum::<usize>();
    let usable = |key: &str, texts: &[&str]| {
        let word = last_word(key);
        (!NOT.contains(&word.as_str()) || ROLES.contains(&word.as_str()))
            && !texts.iter().all(|text| is_token(text))
    };
    let fields: Vec<_> = fields.into_iter().filter(|(key, texts)| usable(key, texts)).collect();
    let (content, _) = fields.iter().max_by_key(|(_, texts)| size(texts))?;
    let others = || fields.iter().filter(|(key, _)| key != content);
    let by_name = others().find(|(key, texts)| {
        ROLES.contains(&last_word(key).as_str()) || texts.iter().all(|name| role_by_name(name).is_some())
    });
    let (role, names) = by_name.or_else(|| others().min_by_key(|(_, texts)| size(texts)))?;
    let mut map = Map::new().messages(path).role_key(escaped(role)).content_key(escaped(content));
    let mut unknown: Vec<&str> = Vec::new();
    for name in names {
        if role_by_name(name).is_none() && !unknown.contains(name) {
            unknown.push(name);
        }
    }
    // Two people speak; of more than a few these are no roles.
    if unknown.len() > 4 {
        return None;
    }
    for (name, role) in unknown.into_iter().zip(["user", "assistant"]) {
        map = map.role(name, role);
    }
    Some(map)
}

#[cfg(test)]
mod tests {
    use super::proposal;

    #[test]
    fn proposals_are_code_and_a_flag() {
        let cases = [
            (
                r#"{"n": 1, "q": {"text": "why is that"}, "ans": "because", "k": "v"}"#,
                r#"Map::new().user("q.text").assistant("ans")"#,
                "user=q.text,assistant=ans",
            ),
            (
                r#"{"a.b": "long answer here", "x\"": "long"}"#,
                r#"Map::new().user("a\\.b").assistant("x\"")"#,
                r#"user=a\.b,assistant=x""#,
            ),
            (
                r#"{"long": "not what is asked for, but long enough", "reply": {"text": "no"}, "ask": {"value": "is it?"}}"#,
                r#"Map::new().user("ask.value").assistant("reply.text")"#,
                "user=ask.value,assistant=reply.text",
            ),
            (r#"{"body": "text"}"#, r#"Map::new().text("body")"#, "text=body"),
            (
                r#"{"log": [{"who": "me", "said": "hello there"}, {"who": "gpt", "said": "hi"}]}"#,
                r#"Map::new().messages("log").role_key("who").content_key("said").role("me", "user")"#,
                "messages=log,role_key=who,content_key=said,role.me=user",
            ),
            (
                r#"{"uid": "very-long-identifier-0000000001", "Frage": "1 + 1 = ?", "std_answer": "it is 2"}"#,
                r#"Map::new().user("Frage").assistant("std_answer")"#,
                "user=Frage,assistant=std_answer",
            ),
            (
                r#"{"link": "https://example.org/a/long/page/about/it", "Query": "What is it?", "Reply": "A page."}"#,
                r#"Map::new().user("Query").assistant("Reply")"#,
                "user=Query,assistant=Reply",
            ),
            (
                r#"{"t": [{"id": "t1", "speaker": "Ann", "line": "How are you?"}, {"id": "t2", "speaker": "Bob", "line": "Fine."}]}"#,
                r#"Map::new().messages("t").role_key("speaker").content_key("line").role("Ann", "user").role("Bob", "assistant")"#,
                "messages=t,role_key=speaker,content_key=line,role.Ann=user,role.Bob=assistant",
            ),
        ];
        for (record, code, flag) in cases {
            let map = proposal(record).unwrap();
            assert_eq!((map.code().as_str(), map.to_string().as_str()), (code, flag), "{record}");
        }
    }

    #[test]
    fn what_is_no_text_is_not_proposed() {
        for record in [
            "{\"a\": 1}",
            r#"{"id": "identity_0", "created": "2024-05-01 10:00:00"}"#,
            r#"{"doc": "https://example.org/x", "sum": "d41d8cd98f00b204e9800998ecf8427e"}"#,
            r#"{"category": "math", "split": "train", "lang": "en"}"#,
            r#"{"price": "12.50", "day": "2024/05/01", "code": "A-17"}"#,
            r#"{"state": "open", "place": "Berlin"}"#,
        ] {
            assert_eq!(proposal(record).map(|map| map.code()), None, "{record}");
        }
    }
}
