//! Which type each column of a file gets.

use super::columns::{Field, Objects, SeenValues};

/// The type of a column, or of a place inside one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ColumnShape {
    Flag,
    Integer,
    Number,
    Text,
    List(Box<ColumnShape>),
    Object(Vec<Column>),
    /// Values that have no type in common: strings as they are, all else as JSON text.
    Json,
}

/// A column, or a field of objects.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Column {
    pub name: String,
    pub shape: ColumnShape,
    /// Where other rows have lists of turns or of parts: what a string becomes.
    pub lift: Option<Lift>,
}

/// What a string becomes where other rows have a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lift {
    /// A list of one turn, with these keys of speaker and text.
    Turn { keys: [&'static str; 2], speaker: &'static str },
    /// A list of one part of a message.
    Part,
}

impl Lift {
    /// The list that a string stands for, as JSON.
    pub fn list(self, string: &[u8]) -> Vec<u8> {
        let ([key, text], value) = match self {
            Self::Turn { keys, speaker } => (keys, speaker),
            Self::Part => (["type", "text"], "text"),
        };
        let before = format!("[{{\"{key}\":\"{value}\",\"{text}\":");
        [before.as_bytes(), string, b"}]"].concat()
    }

    /// What the list is one of.
    pub fn name(self) -> &'static str {
        match self {
            Self::Turn { .. } => "turns",
            Self::Part => "parts",
        }
    }
}

/// The columns of rows, each with one type.
///
/// A file whose prompts and answers are strings in some rows and lists of turns in others has lists
/// of turns in all of them: trainers look at the first row for which it is.
pub(super) fn columns(rows: &Objects) -> Vec<Column> {
    let spoken = rows.fields.iter().find(|field| speaker(&field.name).is_some() && is_mixed(&field.seen));
    let keys = spoken.and_then(|field| turn_keys(&field.seen));
    let of = |field: &Field| {
        let turns = keys.filter(|_| field.seen.texts);
        match turns.and_then(|keys| self::turns(&field.name, &field.seen, keys)) {
            Some((lift, shape)) => Column { name: field.name.clone(), shape, lift: Some(lift) },
            None => column(&field.name, &field.seen, Inside::Object),
        }
    };
    rows.fields.iter().map(of).collect()
}

/// Who speaks in a string under a key that may hold turns, by the words of OpenAI and ShareGPT.
fn speaker(name: &str) -> Option<[&'static str; 2]> {
    match name {
        "prompt" => Some(["user", "human"]),
        "completion" | "chosen" | "rejected" => Some(["assistant", "gpt"]),
        _ => None,
    }
}

fn is_mixed(seen: &SeenValues) -> bool {
    seen.texts && turn_keys(seen).is_some()
}

/// The objects in lists, where all values are strings or lists of objects.
fn listed(seen: &SeenValues) -> Option<&Objects> {
    let others = seen.flags || seen.integers || seen.numbers || seen.odd || seen.object.is_some();
    seen.list.as_ref().filter(|_| !others)?.object.as_ref()
}

fn have(objects: &Objects, keys: [&str; 2]) -> bool {
    keys.iter().all(|key| objects.fields.iter().any(|field| field.name == *key))
}

/// The keys by which turns are known, where all values are strings or lists of turns.
fn turn_keys(seen: &SeenValues) -> Option<[&'static str; 2]> {
    let turns = listed(seen)?;
    [["role", "content"], ["from", "value"]].into_iter().find(|keys| have(turns, *keys))
}

/// Lists of turns, for the strings under this key as well; other columns know their turns by `keys`.
fn turns(name: &str, seen: &SeenValues, keys: [&'static str; 2]) -> Option<(Lift, ColumnShape)> {
    let own = turn_keys(seen);
    let texts_only = SeenValues { texts: false, nulls: false, ..seen.clone() } == SeenValues::default();
    let keys = own.or(texts_only.then_some(keys))?;
    let lift = Lift::Turn { keys, speaker: speaker(name)?[usize::from(keys[0] == "from")] };
    let text = |name: &str| Column { name: name.to_string(), shape: ColumnShape::Text, lift: None };
    let turn = match &seen.list {
        Some(items) => shape("", items, Inside::List),
        None => ColumnShape::Object(keys.map(text).to_vec()),
    };
    matches!(turn, ColumnShape::Object(_)).then(|| (lift, ColumnShape::List(Box::new(turn))))
}

/// A column or a field. A content is a list of parts where other contents are.
fn column(name: &str, seen: &SeenValues, inside: Inside) -> Column {
    let parts = listed(seen).filter(|_| name == "content" && seen.texts);
    let part = parts.filter(|parts| have(parts, ["type", "text"])).and(seen.list.as_ref());
    let (shape, lift) = match part.map(|items| shape("", items, Inside::List)) {
        Some(part @ ColumnShape::Object(_)) => (ColumnShape::List(Box::new(part)), Some(Lift::Part)),
        _ => (shape(name, seen, inside), None),
    };
    Column { name: name.to_string(), shape, lift }
}

/// What a place lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inside {
    Object,
    List,
}

/// The type of all values in a place.
///
/// Items of lists are records: one may lack what another has. Other objects may have keys of their
/// own making, as the arguments of a call do, and are JSON text where they differ in their keys:
/// as a record each would get the keys of all others, with nulls.
fn shape(name: &str, seen: &SeenValues, inside: Inside) -> ColumnShape {
    let kinds = [
        seen.flags,
        seen.integers || seen.numbers,
        seen.texts,
        seen.list.is_some(),
        seen.object.is_some() || seen.odd,
    ];
    match kinds.into_iter().filter(|there| *there).count() {
        0 => return ColumnShape::Text,
        1 => {}
        _ => return ColumnShape::Json,
    }
    if seen.odd || seen.large && seen.numbers {
        return ColumnShape::Json;
    }
    if let Some(items) = &seen.list {
        return match shape("", items, Inside::List) {
            ColumnShape::Json => ColumnShape::Json,
            items => ColumnShape::List(Box::new(items)),
        };
    }
    if let Some(objects) = &seen.object {
        let record = inside == Inside::List || matches!(name, "function" | "function_call");
        let given = name == "arguments" && has_nulls(objects);
        if objects.fields.is_empty() || objects.differ && !record || given {
            return ColumnShape::Json;
        }
        let column = |field: &Field| column(&field.name, &field.seen, Inside::Object);
        return ColumnShape::Object(objects.fields.iter().map(column).collect());
    }
    match seen {
        _ if seen.flags => ColumnShape::Flag,
        _ if seen.texts => ColumnShape::Text,
        _ if seen.numbers => ColumnShape::Number,
        _ => ColumnShape::Integer,
    }
}

/// A null inside: of an argument it may be what is meant.
fn has_nulls(objects: &Objects) -> bool {
    let inside = |seen: &SeenValues| {
        seen.nulls
            || seen.object.as_ref().is_some_and(has_nulls)
            || seen.list.as_ref().and_then(|items| items.object.as_ref()).is_some_and(has_nulls)
    };
    objects.fields.iter().any(|field| inside(&field.seen))
}

/// The places that hold JSON text: the names that lead there from the outside in.
pub(super) fn json(columns: &[Column]) -> Vec<Vec<&str>> {
    fn look<'a>(column: &'a Column, path: &[&'a str], found: &mut Vec<Vec<&'a str>>) {
        let path = [path, &[column.name.as_str()]].concat();
        let mut shape = &column.shape;
        while let ColumnShape::List(items) = shape {
            shape = items;
        }
        match shape {
            ColumnShape::Json => found.push(path),
            ColumnShape::Object(fields) => fields.iter().for_each(|field| look(field, &path, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    columns.iter().for_each(|column| look(column, &[], &mut found));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(rows: &str) -> Vec<(String, String)> {
        let mut seen = Objects::default();
        seen.rows(rows.as_bytes());
        columns(&seen).iter().map(|column| (column.name.clone(), word(&column.shape))).collect()
    }

    fn word(shape: &ColumnShape) -> String {
        match shape {
            ColumnShape::List(items) => format!("[{}]", word(items)),
            ColumnShape::Object(fields) => {
                let fields: Vec<_> =
                    fields.iter().map(|f| format!("{} {}", f.name, word(&f.shape))).collect();
                format!("{{{}}}", fields.join(", "))
            }
            shape => format!("{shape:?}"),
        }
    }

    fn one(rows: &str) -> String {
        said(rows).remove(0).1
    }

    #[test]
    fn columns_are_what_their_values_have_in_common() {
        let found = said(
            r#"{"id":"a","messages":[{"role":"user","content":"x"}],"n":1,"label":true,"e":[]}
{"messages":[{"role":"assistant","content":"y","weight":0.5,"calls":[{"a":1}]}],"n":"two","p":[["q","a"]]}
{"label":null,"a\"b":{"c":[1]},"l":["x"],"m":[1,"x"],"f":1}
{"f":0.5,"big":123456789012345678901234567890,"null":null,"a\"b":{"c":[]},"far":-0}"#,
        );
        let expected = [
            ("id", "Text"),
            ("messages", "[{role Text, content Text, weight Number, calls [{a Integer}]}]"),
            ("n", "Json"),
            ("label", "Flag"),
            ("e", "[Text]"),
            ("p", "[[Text]]"),
            ("a\"b", "{c [Integer]}"),
            ("l", "[Text]"),
            ("m", "Json"),
            ("f", "Number"),
            ("big", "Json"),
            ("null", "Text"),
            ("far", "Number"),
        ];
        assert_eq!(found, expected.map(|(name, shape)| (name.to_string(), shape.to_string())));
    }

    #[test]
    fn objects_with_keys_of_their_own_are_json() {
        let call = |arguments: &str| {
            format!("{{\"calls\":[{{\"function\":{{\"name\":\"f\",\"arguments\":{arguments}}}}}]}}\n")
        };
        let of = |arguments: [&str; 2]| one(&arguments.map(call).concat());
        assert_eq!(of(["{\"a\":1}", "{\"a\":2}"]), "[{function {name Text, arguments {a Integer}}}]");
        assert_eq!(of(["{\"a\":1}", "{\"b\":2}"]), "[{function {name Text, arguments Json}}]");
        assert_eq!(of(["{}", "{\"b\":2}"]), "[{function {name Text, arguments Json}}]");
        assert_eq!(of(["{\"a\":null}", "{\"a\":2}"]), "[{function {name Text, arguments Json}}]");
        assert_eq!(of(["{\"a\":1,\"a\":2}", "{\"a\":2}"]), "[{function {name Text, arguments Json}}]");
        let wide: Vec<String> = (0..200).map(|i| format!("{{\"l\":[{{\"k{i}\":1}}]}}")).collect();
        assert_eq!(one(&wide.join("\n")), "Json", "a dictionary and no record");
        let deep = format!("{{\"l\":{}1{}}}", "[".repeat(40), "]".repeat(40));
        assert_eq!(one(&deep), "Json");
    }

    #[test]
    fn strings_among_lists_of_turns_become_turns() {
        let found = said(
            r#"{"prompt":"q","chosen":"a","rejected":"b","note":"n"}
{"prompt":[{"role":"user","content":"q"}],"chosen":"a","rejected":"b","note":"n"}"#,
        );
        let turns = "[{role Text, content Text}]";
        let expected = [("prompt", turns), ("chosen", turns), ("rejected", turns), ("note", "Text")];
        assert_eq!(found, expected.map(|(name, shape)| (name.to_string(), shape.to_string())));
        let same = r#"{"prompt":[{"role":"user","content":"q"}],"completion":"a"}"#;
        assert_eq!(said(same)[1].1, "Text", "all rows have one form");
        let lift = Lift::Turn { keys: ["from", "value"], speaker: "gpt" };
        assert_eq!(lift.list(b"\"a\\n\""), br#"[{"from":"gpt","value":"a\n"}]"#);
        let parts =
            r#"{"m":[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"a","content":"b"}]}"#;
        assert_eq!(said(parts)[0].1, "[{role Text, content [{type Text, text Text}]}]");
        assert_eq!(Lift::Part.list(b"\"b\""), br#"[{"type":"text","text":"b"}]"#);
    }

    #[test]
    fn json_is_found_at_any_depth() {
        let mut seen = Objects::default();
        seen.rows(
            br#"{"m":[{"c":[{"f":{"x":{"a":1}}}]}],"n":1}
{"m":[{"c":[{"f":{"x":{"b":1}}}]}],"n":"1"}"#,
        );
        assert_eq!(json(&columns(&seen)), [vec!["m", "c", "f", "x"], vec!["n"]]);
    }
}
