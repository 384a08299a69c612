//! Whether the answer of a record is a good one.

use super::flags::{self, LABELS};
use super::layout::Hole;
use super::reader::Reader;
use crate::display::cut;
use crate::format::Role;
use crate::format::problems::{Outcome, ProblemKind};
use crate::format::record::{Node, Value};
use crate::format::row::Fault;
use crate::format::row_schema::RowSchema;

impl Reader<'_> {
    /// The key that says whether the answer is a good one, and what it says, if that can be told. No
    /// text is no label.
    pub fn label(&self, wanted: Option<RowSchema>) -> Option<(usize, Option<bool>)> {
        if wanted == Some(RowSchema::Preference) {
            return None;
        }
        let said = |i: &usize| self.keys[*i].1.str().is_none_or(|text| !text.trim().is_empty());
        let found = LABELS.iter().filter_map(|name| self.find(name)).filter(said);
        let found: Vec<(usize, Option<bool>)> = found.map(|i| (i, flags::label(&self.keys[i].1))).collect();
        // One that says no is enough.
        let no = found.iter().find(|(_, label)| *label == Some(false));
        no.or(found.first()).copied()
    }

    /// The key of a label that is null or empty.
    fn unlabelled(&self, wanted: Option<RowSchema>) -> Option<&str> {
        if wanted == Some(RowSchema::Preference) {
            return None;
        }
        let blank = |node: &Node<'_>| node.is_null() || node.str().is_some_and(|text| text.trim().is_empty());
        let empty = self.keys.iter().filter(|(_, node)| blank(node));
        empty.map(|(key, _)| &**key).find(|key| LABELS.iter().any(|name| name.eq_ignore_ascii_case(key)))
    }

    /// Honours a weight of 0 that stands beside the turns or a text: nothing of the row is trained on. A
    /// value that can be no weight is noted; what another one means nobody knows, and it stays a key
    /// like any other.
    pub fn weigh(&mut self) {
        let mut zeros = Vec::new();
        for (i, (key, node)) in self.keys.iter().enumerate() {
            let Some(mark) = flags::mark(key).filter(|_| self.shapes[i].is_none()) else { continue };
            match flags::weight(mark, node) {
                Ok(Some(0.0)) => zeros.push(i),
                Ok(_) => {}
                // Such a word may as well be the part of the data that a row is of, or a figure of it.
                Err(_) if flags::means_more(key) => {}
                Err(what) => {
                    let what = format!(
                        "`{key}` is {what}, which does not say whether the answers are trained on: they are"
                    );
                    self.row.noted.push((ProblemKind::WrongType, what.into(), Outcome::Kept));
                }
            }
        }
        if zeros.is_empty() {
            return;
        }
        if self.row.text.is_some() {
            // A text has no turns: the row is one that is not to be learned, and keeps the key that says so.
            self.row.label = Some(false);
            return;
        }
        zeros.into_iter().for_each(|i| self.keep(i));
        let answers = self.row.turns.iter_mut().chain(self.row.chosen.iter_mut().flatten());
        answers.filter(|turn| turn.role == Role::Assistant).for_each(|turn| turn.weight = Some(0.0));
    }

    /// Gives a row of `schema` its label, or notes that the key of one says nothing.
    pub fn judge(
        &mut self,
        schema: RowSchema,
        label: Option<(usize, Option<bool>)>,
        wanted: Option<RowSchema>,
    ) -> Result<(), Fault> {
        if label.is_none()
            && schema != RowSchema::Text
            && let Some(key) = self.unlabelled(wanted)
        {
            let what = format!("`{key}` says nothing: the row is read as one without a label");
            self.row.noted.push((ProblemKind::NoLabel, what.into(), Outcome::Kept));
        }
        if schema != RowSchema::Kto
            && let Some((i, Some(label))) = label
        {
            // Of a text, and of a row whose schema was named and has no labels, a number or a word may as
            // well be its class.
            let told = schema != RowSchema::Text && wanted.is_none()
                || self.keys[i].0 == "kto_tag"
                || self.is(i, |value| matches!(value, Value::Bool(_)));
            // The row keeps the key; that it is bad is heard all the same.
            self.row.label = told.then_some(label);
        }
        if let (RowSchema::Kto, Some((i, label))) = (schema, label) {
            let Some(label) = label else {
                let (key, node) = &self.keys[i];
                let value =
                    node.str().map_or_else(|| node.kind(), |text| format!("{:?}", cut(text, 40)).into());
                let what = format!(
                    "`{key}` is {value}, which says neither that the answer is good nor that it is bad"
                );
                return Err((ProblemKind::UnreadLabel, what.into()));
            };
            self.row.label = Some(label);
            match self.keys[i].1.value {
                Value::Bool(_) => self.fill(i, Hole::Label),
                _ => self.keep(i),
            }
        }
        Ok(())
    }
}
