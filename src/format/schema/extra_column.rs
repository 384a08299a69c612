//! What a row keeps beside its columns: keys that no schema knows, and how it was laid out.

use super::default::{Want, fields, want};
use super::layout::{Key, Shape, extra};
use super::reader::Reader;
use crate::format::record::{CARRY, one_line};
use crate::format::row::RecordPlace;
use crate::format::row_schema::RowSchema;
use crate::format::row_view::RowView;

impl<'a> Reader<'a> {
    /// What the canonical columns do not hold of the record.
    pub fn extra(&mut self, schema: RowSchema) -> Option<String> {
        let view = RowView::Fresh(&self.row, RecordPlace::default());
        let wants: Vec<(&str, Want)> = fields(schema)
            .iter()
            .map(|(key, field)| (*key, want(*field, schema, &view, self.input, None)))
            .collect();
        let mut expected = wants.iter().filter(|(_, want)| *want != Want::Nothing);
        let known = self.shapes.iter().position(Option::is_none).unwrap_or(self.shapes.len());
        let mut known = self.keys.iter().zip(&self.shapes[..known]);
        let default = known.all(|((key, _), shape)| {
            let expected = expected.next();
            expected.zip(shape.as_ref()).is_some_and(|((name, want), shape)| key == name && want.is(shape))
        }) && expected.next().is_none()
            && self.shapes.iter().skip_while(|shape| shape.is_some()).all(Option::is_none);
        // An unused key by the name of one that rows are written with.
        let taken = |key: &str| key == CARRY || wants.iter().any(|(name, _)| key == *name);
        let foreign =
            self.keys.iter().zip(&self.shapes).any(|((key, _), shape)| shape.is_none() && taken(key));
        let input = self.input.filter(|_| schema == RowSchema::Alpaca);
        let default = default && !self.bare;
        if default && input.is_none() && self.shapes.iter().all(Option::is_some) {
            return None;
        }
        let turns = view.counts();
        let shapes = std::mem::take(&mut self.shapes);
        let bare = self.bare;
        let keys = self.keys.iter().zip(shapes).map(|((key, node), shape)| {
            let own = |shape: &Shape<'a>| wants.iter().any(|(name, want)| key == name && want.is(shape));
            let key_shape = match shape {
                None if taken(key) => Key::Known(Some(Shape::Literal(one_line(node.raw)))),
                None => Key::Unknown(one_line(node.raw)),
                Some(shape) if own(&shape) && !bare => Key::Known(None),
                Some(shape) => Key::Known(Some(shape)),
            };
            (key.clone(), key_shape)
        });
        let keys: Vec<_> = keys.collect();
        extra(&keys, self.bare, default && !foreign, input, turns)
    }
}
