//! A map that may fit a record of no known schema.

use super::Map;
use super::record::escaped;
use super::vocabulary::{
    ANSWERS, ASKS, CHOICES, CONTEXTS, HEADS, HELPERS, LISTED, NAMES, NOT, REASONS, SAYS, SPEAKERS, SYSTEMS,
    TEXTS, THOUGHTS, TOOLS, is_name, is_number, is_token, is_transcript, last_word, stem, words,
};
use crate::format::Role;
use crate::format::record::{Node, Value};
use crate::format::schema::{LABELS, label, role_by_name};

/// A map that may fit: of a list that looks like turns, or of two texts, one that asks and one that
/// answers by the names of their keys, or else the longest two. Ids, addresses, hashes, dates, names
/// and words of an enumeration are no texts, and a number is one only as an answer; where nothing else
/// is there, nothing is proposed. Nor is a map that does not read the record, or one of several answers, or
/// anything where a text holds several turns. A system text, tools, reasoning and what a question is about
/// are no answers.
pub(crate) fn proposal(record: &str) -> Option<Map> {
    let node = Node::parse(record).ok()?;
    let mut seen = SeenTexts::default();
    seen.look(&node, &mut String::new(), "".into());
    let verdict = node.object().and_then(|keys| {
        let told = keys
            .iter()
            .find(|(key, node)| LABELS.contains(&&*key.to_ascii_lowercase()) && label(node).is_some());
        told.map(|(key, _)| escaped(key))
    });
    let map = match seen.list.take() {
        Some(list) => list,
        None => of_texts(seen, verdict)?,
    };
    reads(&map, record).then_some(map)
}

/// Whether a map, also as it is written on the command line, makes a row of a record.
fn reads(map: &Map, record: &str) -> bool {
    let Ok(Node { value: Value::Object(keys), .. }) = Node::parse(record) else { return false };
    let same = map.to_string().parse::<Map>().is_ok_and(|again| again == *map);
    same && map.row(keys, "\n").is_ok_and(|row| {
        let said = |role: Role| row.turns.iter().any(|t| t.role == role && !t.content.trim().is_empty());
        let begins = row.turns.first().is_some_and(|turn| turn.role == Role::User);
        row.text.is_some_and(|text| !text.trim().is_empty())
            || begins && said(Role::User) && said(Role::Assistant)
    })
}

/// The map of two texts, or of one.
fn of_texts(seen: SeenTexts, verdict: Option<String>) -> Option<Map> {
    if seen.transcript {
        return None;
    }
    let mut texts = seen.texts;
    texts.retain(|text| verdict.as_ref() != Some(&text.path));
    let targeted = texts.iter().any(|text| matches!(text.word.as_str(), "target" | "targets"));
    texts.retain(|text| text.word != SOURCE || targeted);
    let best = |fits: &dyn Fn(usize, &Text) -> bool| {
        let fitting = texts.iter().enumerate().filter(|(n, text)| fits(*n, text));
        fitting.max_by_key(|(n, text)| (text.length, usize::MAX - n)).map(|(n, _)| n)
    };
    let named = |words: &[&str], text: &Text| words.contains(&text.word.as_str());
    let about = |text: &Text| named(&CONTEXTS, text) || text.word == SOURCE;
    let longest = |other: Option<usize>, answers: bool| {
        let fits = |text: &Text| text.word != SYSTEM && !text.number && !(answers && about(text));
        best(&|n, text| Some(n) != other && fits(text))
    };
    let any_about = texts.iter().any(about);
    // The name of a task asks nothing.
    let may_ask = |text: &Text| !(text.number || text.word == "task" && text.name);
    let asks = best(&|_, text| named(&ASKS, text) && !named(&HEADS, text) && !about(text) && may_ask(text))
        .or_else(|| best(&|_, text| named(&HEADS, text) && may_ask(text)))
        .or_else(|| best(&|_, text| text.word == "definition" && any_about))
        .or_else(|| best(&|_, text| (named(&ASKS, text) || text.word == SOURCE) && may_ask(text)));
    let answers = best(&|_, text| named(&ANSWERS, text) && !named(&REASONS, text))
        .or_else(|| best(&|_, text| named(&ANSWERS, text)));
    let (user, assistant) = match (asks, answers) {
        (Some(asks), Some(answers)) => (asks, answers),
        (Some(asks), None) => (asks, longest(Some(asks), true)?),
        (None, Some(answers)) => (longest(Some(answers), false)?, answers),
        (None, None) => {
            let one = longest(None, true).or_else(|| longest(None, false))?;
            match longest(Some(one), true) {
                Some(two) if texts[one].says || texts[two].says => (one.min(two), one.max(two)),
                Some(_) => return None,
                None => {
                    let text = &texts[one];
                    let document = text.says || named(&TEXTS, text);
                    return document.then(|| Map::new().text(text.path.clone()));
                }
            }
        }
    };
    // One of several answers is as good as another, or it is the worse one.
    let of_several = |n: usize| {
        let stem = stem(&texts[n].path);
        stem.is_some()
            && texts.iter().enumerate().any(|(other, text)| other != n && self::stem(&text.path) == stem)
    };
    if user == assistant || of_several(user) || of_several(assistant) {
        return None;
    }
    // Of two turns inside one value each has its own asker: no pair.
    let inside = |text: &Text| text.path.rsplit_once('.').map(|(parent, _)| parent.to_string());
    let top = |parent: &str| parent.split('.').next().map(str::to_string);
    if let (Some(one), Some(other)) = (inside(&texts[user]), inside(&texts[assistant]))
        && one != other
        && top(&one) == top(&other)
    {
        return None;
    }
    // A letter means nothing without what it was chosen from.
    if seen.choices && texts[assistant].length <= 2 {
        return None;
    }
    let other = |n: usize| n != user && n != assistant;
    let mut map = Map::new().user(texts[user].path.clone()).assistant(texts[assistant].path.clone());
    map.input = best(&|n, text| other(n) && about(text)).map(|n| texts[n].path.clone());
    map.system = best(&|n, text| other(n) && text.word == SYSTEM).map(|n| texts[n].path.clone());
    map.label = verdict;
    Some(map)
}

/// The word of a text that is the system's, whatever its key is called.
const SYSTEM: &str = "system";
/// The word of a text that is asked about where another is the target of it.
const SOURCE: &str = "source";

/// A string of a record that may be a turn.
struct Text {
    path: String,
    /// The last word of its key.
    word: String,
    length: usize,
    /// Whether it is more than a word.
    says: bool,
    /// It is a number or a date.
    number: bool,
    /// It is no more than a name.
    name: bool,
}

/// What a record holds that may be turns.
#[derive(Default)]
struct SeenTexts {
    texts: Vec<Text>,
    list: Option<Map>,
    /// There is a list of what a question leaves to choose from.
    choices: bool,
    /// A text holds several turns.
    transcript: bool,
}

impl SeenTexts {
    /// `word` is the last word of the key that holds the value; one that only says that a text follows is
    /// that of the key around it: `question` of `question.text`.
    fn look(&mut self, node: &Node<'_>, path: &mut String, word: String) {
        match &node.value {
            Value::String(text) if !NOT.contains(&word.as_str()) || word == SOURCE => {
                let number = is_number(text);
                if number || !is_token(text) {
                    let says =
                        text.trim().contains(char::is_whitespace) || text.chars().any(|c| c > '\u{2e7f}');
                    let (path, length, name) = (path.clone(), text.len(), is_name(text));
                    self.transcript |= is_transcript(text);
                    self.texts.push(Text { path, word, length, says, number, name });
                }
            }
            Value::Object(_) | Value::Array(_) if CHOICES.contains(&word.as_str()) => self.choices = true,
            Value::Object(keys) => {
                for (key, node) in keys {
                    let length = path.len();
                    if length > 0 {
                        path.push('.');
                    }
                    path.push_str(&escaped(key));
                    let mut inner = last_word(key);
                    let all = words(key);
                    let has = |words: &[&str]| all.iter().any(|word| words.contains(&word.as_str()));
                    if has(&SYSTEMS) {
                        inner = SYSTEM.to_string();
                    }
                    let around = TEXTS.contains(&inner.as_str()) && !word.is_empty();
                    if !TOOLS.contains(&inner.as_str()) && !has(&THOUGHTS) {
                        self.look(node, path, if around { word.clone() } else { inner });
                    }
                    path.truncate(length);
                }
            }
            // Several answers, each of which is one.
            Value::Array(values)
                if LISTED.contains(&word.as_str()) && values.iter().all(|v| v.str().is_some()) =>
            {
                if let Some(first) = values.first() {
                    let length = path.len();
                    path.push_str(".0");
                    self.look(first, path, word);
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

/// The map of a list that looks like turns: of objects that say by their keys who speaks.
fn turns(values: &[Node<'_>], path: &str) -> Option<Map> {
    let first = values.first()?.object()?;
    let fields = first.iter().filter_map(|(key, _)| {
        let texts: Option<Vec<&str>> = values.iter().map(|turn| turn.get(key)?.str()).collect();
        Some((&**key, last_word(key), texts?))
    });
    let fields: Vec<(&str, String, Vec<&str>)> = fields.collect();
    let roles = |texts: &[&str]| texts.iter().all(|name| role_by_name(name).is_some());
    let rank = |(_, word, texts): &&(&str, String, Vec<&str>)| match word.as_str() {
        word if SPEAKERS.contains(&word) => Some(if roles(texts) { 0 } else { 1 }),
        word if roles(texts) && !SAYS.contains(&word) => Some(2),
        word if NAMES.contains(&word) => Some(3),
        _ => None,
    };
    let (role, _, names) = fields.iter().filter(|field| rank(field).is_some()).min_by_key(|f| rank(f))?;
    let weak = fields.iter().any(|field| field.0 == *role && rank(&field) == Some(3));
    let size = |texts: &[&str]| texts.iter().map(|text| text.trim().len()).sum::<usize>();
    let contents = || fields.iter().filter(|(key, _, texts)| key != role && size(texts) > 0);
    let said = contents().filter(|(_, word, _)| SAYS.contains(&word.as_str()));
    let named = said.max_by_key(|(_, _, texts)| size(texts));
    let usable = |(_, word, texts): &&(&str, String, Vec<&str>)| {
        !NOT.contains(&word.as_str()) && !texts.iter().all(|text| is_token(text))
    };
    let other = || contents().filter(usable).max_by_key(|(_, _, texts)| size(texts)).filter(|_| !weak);
    let (content, _, _) = named.or_else(other)?;
    let mut map = Map::new().messages(path).role_key(escaped(role)).content_key(escaped(content));
    let mut unknown: Vec<&str> = Vec::new();
    for name in names {
        if role_by_name(name).is_none() && !unknown.contains(name) {
            unknown.push(name);
        }
    }
    let takes = |role: Role| names.iter().any(|name| role_by_name(name) == Some(role));
    let free = [(Role::User, "user"), (Role::Assistant, "assistant")];
    let free: Vec<&str> = free.into_iter().filter(|(role, _)| !takes(*role)).map(|(_, name)| name).collect();
    // Two people speak; of more than two these are no roles.
    if unknown.len() > free.len() {
        return None;
    }
    let helps = |name: &str| HELPERS.contains(&&*name.trim().to_lowercase());
    if let [one, other] = unknown.as_slice()
        && helps(one)
        && !helps(other)
    {
        unknown.swap(0, 1);
    }
    for (name, role) in unknown.into_iter().zip(free) {
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
