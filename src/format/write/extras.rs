//! What the column `extra` of a row holds: keys of no schema, and how the row was laid out.

use std::borrow::Cow;

use crate::format::record::{CARRY, Node, Value};
use crate::format::row_view::RowView;
use crate::format::schema::layout::Input;

/// What the column `extra` of a row holds.
#[derive(Default)]
pub(super) struct Extras<'a> {
    /// Keys that no schema knows, with their values.
    pub unknown: Vec<(Cow<'a, str>, Node<'a>)>,
    pub input: Option<Input>,
    /// What the row's lists of turns had to be for `keys` to fit.
    turns: Option<[usize; 3]>,
    /// The keys of the row as it was laid out.
    pub keys: Option<Vec<Node<'a>>>,
    /// The row is the value of its one key alone.
    pub bare: bool,
}

impl<'a> Extras<'a> {
    pub fn of(json: Option<&'a str>) -> Self {
        let Some(Ok(Node { value: Value::Object(keys), .. })) = json.map(Node::parse_own) else {
            return Self::default();
        };
        let mut extras = Self::default();
        for (key, node) in keys {
            if key != CARRY {
                extras.unknown.push((key, node));
                continue;
            }
            let numbers = |key: &str| -> Option<[u32; 3]> {
                let numbers = node.get(key)?.array()?.iter().map(|number| number.raw.parse().ok());
                numbers.collect::<Option<Vec<u32>>>()?.try_into().ok()
            };
            extras.input =
                numbers("input").map(|[instruction, start, whole]| Input { instruction, start, whole });
            extras.turns = numbers("turns").map(|counts| counts.map(|count| count as usize));
            extras.bare = node.get("bare").is_some();
            extras.keys = node.get("keys").and_then(Node::array).map(<[_]>::to_vec);
        }
        extras
    }
}

impl Extras<'_> {
    /// Whether the layout is still that of the row's turns.
    pub fn fits(&self, row: &RowView<'_>) -> bool {
        self.turns.is_none_or(|counts| counts == row.counts())
    }

    /// The keys whose values are not laid out by default, and how these are.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &Node<'_>)> {
        self.keys.iter().flatten().filter_map(|key| match key.array()? {
            [name, shape] => Some((name.str()?, shape)),
            _ => None,
        })
    }

    /// Whether the turns stand as MOSS has them, which is no layout of the schema that they are read as.
    pub fn is_moss(&self) -> bool {
        self.shapes().any(|(name, shape)| name == "chat" && shape.object().is_some())
    }

    /// Whether the file gave the id as a number.
    pub fn is_number(&self) -> bool {
        self.shapes().any(|(_, shape)| shape.str() == Some("id#"))
    }

    /// Whether the layout says that the row has its id, though it reads as one that is made up.
    pub fn says_id(&self) -> bool {
        self.shapes().any(|(name, shape)| name == "id" && shape.str() == Some("id"))
    }
}
