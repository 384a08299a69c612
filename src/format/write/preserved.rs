//! The key that carries what a schema has no place for.

use super::extras::Extras;
use super::losses::Lost;
use super::text::Text;
use crate::format::record::CARRY;
use crate::format::row::Spoken;
use crate::format::schema::layout::{List, Who};
use crate::format::schema::{Seals, seals};

impl Text<'_, '_> {
    /// The key that carries what was lost of the row that begins at `start`, and how to tell whether the rest was
    /// edited since.
    pub fn carry(&mut self, lost: &Lost, extras: &Extras<'_>, start: usize) {
        let row = self.row;
        let seals = seals_of(&self.out[start..]);
        self.key(CARRY);
        self.raw("{\"source\":");
        self.string(row.source());
        if let Some(extra) = row.extra() {
            self.raw(",\"extra\":");
            self.raw(extra);
        }
        if let (Some(system), None) = (row.system_as_is(), row.system()) {
            self.raw(",\"system\":");
            self.string(system);
        }
        if let Some(extra) = row.system_extra() {
            self.raw(",\"system_extra\":");
            self.raw(extra);
            if let Some(seals) = &seals {
                self.raw(",\"system_seal\":");
                self.string(&seals.system);
            }
        }
        // A layout may have what turns had beside their texts.
        let of_turns = lost.has(Lost::OF_TURNS) || extras.keys.is_some();
        if let Some(seals) = seals.as_ref().filter(|_| of_turns || lost.has(Lost::REJECTED)) {
            self.raw(&format!(",\"count\":{}", seals.turns.len()));
        }
        if let (true, Some(label)) = (lost.has(Lost::LABEL), row.label()) {
            self.raw(if label { ",\"label\":true" } else { ",\"label\":false" });
        }
        if lost.has(Lost::REJECTED) {
            let [_, chosen, rejected] = row.counts();
            self.raw(&format!(",\"chosen\":{chosen},\"rejected\":"));
            let turns = (0..rejected as u32).filter_map(|i| row.turn(Who::At(List::Rejected, i)));
            self.list(turns, |text, turn| {
                text.raw("{\"role\":");
                text.string(turn.role);
                text.key("content");
                if turn.null_content {
                    text.raw("null")
                } else {
                    text.string(turn.content)
                }
                text.beside(&turn);
                text.others(&turn);
                text.raw("}");
                Some(())
            });
        }
        let empty = row.tools().is_none();
        if let Some(tools) = row.tools_as_is().filter(|_| empty || lost.has(Lost::BREAKS | Lost::WRAPPED)) {
            self.raw(",\"tools\":");
            self.string(tools);
        }
        if of_turns {
            self.raw(",\"turns\":{");
            let made = |turn: &Spoken<'_>| {
                lost.has(Lost::MADE) && turn.role == "tool" && turn.tool_call_id.is_none()
            };
            let turns = row.talk().enumerate();
            for (n, turn) in turns.filter(|(_, turn)| !turn.is_plain() || made(turn)) {
                self.key(&n.to_string());
                self.raw("{");
                if let Some(seal) = seals.as_ref().and_then(|seals| seals.turns.get(n)) {
                    self.key("seal");
                    self.string(seal);
                }
                if lost.has(Lost::BESIDE | Lost::NULLS) {
                    self.key("content");
                    if turn.null_content { self.raw("null") } else { self.string(turn.content) }
                }
                self.beside(&turn);
                if made(&turn) {
                    self.key("tool_call_id");
                    self.raw("null");
                }
                if let Some(extra) = turn.extra {
                    self.key("extra");
                    self.raw(extra);
                }
                self.raw("}");
            }
            self.raw("}");
        }
        self.raw("}");
    }

    /// What a turn has beside speaker and text, the calls as the string that they are in the table.
    fn beside(&mut self, turn: &Spoken<'_>) {
        if let Some(name) = turn.name {
            self.key("name");
            self.string(name);
        }
        if let Some(calls) = turn.tool_calls {
            self.key("tool_calls");
            self.string(calls);
        }
        if let Some(id) = turn.tool_call_id {
            self.key("tool_call_id");
            self.string(id);
        }
        if let Some(weight) = turn.weight {
            self.key("weight");
            self.raw(&weight.to_string());
        }
    }
}

/// The seals of a row without its last brace.
fn seals_of(row: &[u8]) -> Option<Seals> {
    seals(&format!("{},\"{CARRY}\":{{\"source\":\"map\"}}}}", std::str::from_utf8(row).ok()?))
}
