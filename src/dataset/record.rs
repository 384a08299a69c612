//! One JSON record, read in a single pass into borrowed strings: the fast path of opening a file.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

/// What a record says under the keys that some schema knows; all else is in `extra`.
#[derive(Debug, Default)]
pub(super) struct Record<'a> {
    pub id: Option<Cow<'a, str>>,
    pub system: Option<Cow<'a, str>>,
    pub instruction: Option<Cow<'a, str>>,
    pub input: Option<Cow<'a, str>>,
    pub output: Option<Cow<'a, str>>,
    pub history: Option<Vec<(Cow<'a, str>, Cow<'a, str>)>>,
    pub conversations: Option<Vec<RawTurn<'a>>>,
    pub messages: Option<Vec<RawTurn<'a>>>,
    pub tools: Option<String>,
    pub extra: Map<String, Value>,
}

/// A turn as it stands in the file.
#[derive(Debug, Default)]
pub(super) struct RawTurn<'a> {
    pub role: Option<Cow<'a, str>>,
    pub content: Option<Cow<'a, str>>,
    pub name: Option<Cow<'a, str>>,
    pub tool_calls: Option<String>,
    pub weight: Option<f32>,
    pub extra: Map<String, Value>,
}

/// A string that borrows from the file where it holds no escapes.
#[derive(PartialEq)]
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_string()))
            }
            fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text))
            }
        }
        deserializer.deserialize_str(Strings).map(Self)
    }
}

/// The value under `key`, null counting as absent; an error names the key.
fn value<'de, T: Deserialize<'de>, M: MapAccess<'de>>(map: &mut M, key: &str) -> Result<Option<T>, M::Error> {
    map.next_value().map_err(|e| M::Error::custom(format_args!("`{key}`: {e}")))
}

fn text<'de, M: MapAccess<'de>>(map: &mut M, key: &str) -> Result<Option<Cow<'de, str>>, M::Error> {
    Ok(value::<Text, _>(map, key)?.map(|text| text.0))
}

/// JSON that is kept as it is: a string as its own text, anything else written out.
fn json<'de, M: MapAccess<'de>>(map: &mut M, key: &str) -> Result<Option<String>, M::Error> {
    Ok(value::<Value, _>(map, key)?.map(|value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    }))
}

impl<'de: 'a, 'a> Deserialize<'de> for Record<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Records;
        impl<'de> Visitor<'de> for Records {
            type Value = Record<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut record = Record::default();
                while let Some(Text(key)) = map.next_key()? {
                    match &*key {
                        "id" => record.id = id(&mut map)?,
                        "system" => record.system = text(&mut map, &key)?,
                        "instruction" => record.instruction = text(&mut map, &key)?,
                        "input" => record.input = text(&mut map, &key)?,
                        "output" => record.output = text(&mut map, &key)?,
                        "history" => {
                            let pairs: Option<Vec<(Text, Text)>> = value(&mut map, &key)?;
                            record.history =
                                pairs.map(|all| all.into_iter().map(|(q, a)| (q.0, a.0)).collect());
                        }
                        "conversations" => record.conversations = value(&mut map, &key)?,
                        "messages" => record.messages = value(&mut map, &key)?,
                        "tools" => record.tools = json(&mut map, &key)?,
                        _ => {
                            let value = map.next_value()?;
                            record.extra.insert(key.into_owned(), value);
                        }
                    }
                }
                Ok(record)
            }
        }
        deserializer.deserialize_map(Records)
    }
}

/// An id may be a number.
fn id<'de, M: MapAccess<'de>>(map: &mut M) -> Result<Option<Cow<'de, str>>, M::Error> {
    struct Ids;
    impl<'de> Visitor<'de> for Ids {
        type Value = Option<Cow<'de, str>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a number")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
        fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Some(Cow::Borrowed(text)))
        }
        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(Cow::Owned(text.to_string())))
        }
        fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
            Ok(Some(Cow::Owned(number.to_string())))
        }
        fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
            Ok(Some(Cow::Owned(number.to_string())))
        }
        fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
            Ok(Some(Cow::Owned(number.to_string())))
        }
    }
    struct Id<'a>(Option<Cow<'a, str>>);
    impl<'de: 'a, 'a> Deserialize<'de> for Id<'a> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Ids).map(Id)
        }
    }
    let Id(id) = map.next_value().map_err(|e| M::Error::custom(format_args!("`id`: {e}")))?;
    Ok(id)
}

impl<'de: 'a, 'a> Deserialize<'de> for RawTurn<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Turns;
        impl<'de> Visitor<'de> for Turns {
            type Value = RawTurn<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a turn: an object with from and value, or role and content")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut turn = RawTurn::default();
                while let Some(Text(key)) = map.next_key()? {
                    match &*key {
                        "from" | "role" => turn.role = text(&mut map, &key)?,
                        "value" | "content" => turn.content = text(&mut map, &key)?,
                        "name" => turn.name = text(&mut map, &key)?,
                        "tool_calls" => turn.tool_calls = json(&mut map, &key)?,
                        "weight" => turn.weight = value(&mut map, &key)?,
                        _ => {
                            let value = map.next_value()?;
                            turn.extra.insert(key.into_owned(), value);
                        }
                    }
                }
                Ok(turn)
            }
        }
        deserializer.deserialize_map(Turns)
    }
}
