//! The rows that a report shows, all read in one go.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::near_rows::said;
use super::places::Files;
use super::turn_text::{opening, text_of};
use crate::dataset::Dataset;
use crate::dataset::conversation::{conversation, message};
use crate::dataset::table::Rows;
use crate::display::cut;
use crate::error::Result;
use crate::text::Message;

/// Where a row stands, and how it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowBrief {
    /// Its number in the dataset, from 0.
    pub row: u64,
    /// The file; of several the path from the folder that holds them all.
    pub file: String,
    /// The line of its file, from 1.
    pub line: u32,
    /// The number of its record in the file, from 1; of JSON lines its line.
    pub record: u32,
    /// Its id.
    pub id: String,
    /// Its length in the report's unit; 0 where it was not asked for.
    pub length: u64,
    /// The first characters of what it says, in one line.
    pub text: String,
}

/// A row as an example of its schema.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The schema that it was read from.
    pub source: String,
    /// Its number in the dataset, from 0.
    pub row: u64,
    /// What it says; long texts end in an ellipsis, and of many turns the first ones are shown.
    pub messages: Vec<Message>,
    /// The turns of the rejected answer, of a preference.
    pub rejected: Vec<Message>,
    /// The text of a row that is no conversation.
    pub text: Option<String>,
    /// Whether the answer is a good one, where the row says so.
    pub label: Option<bool>,
}

/// Rows by their numbers.
pub(super) struct Looks(HashMap<u32, Look>);

struct Look {
    brief: RowBrief,
    sample: Sample,
    /// How its answers begin.
    openings: Vec<String>,
    /// Its last answer; a long one ends in an ellipsis.
    answer: String,
}

impl Looks {
    pub fn at(data: &Dataset, files: &Files, mut rows: Vec<u32>) -> Result<Self> {
        rows.sort_unstable();
        rows.dedup();
        let pieces = data.holding(&rows, |rows, first, wanted| {
            let look = |&row: &u32| (row, Look::at(rows, row as usize - first, u64::from(row)));
            Ok(wanted.iter().map(look).collect::<Vec<_>>())
        })?;
        let mut looks: HashMap<u32, Look> = pieces.into_iter().flatten().collect();
        for (row, look) in &mut looks {
            look.brief.file = files.name(*row).to_string();
        }
        Ok(Self(looks))
    }

    pub fn brief(&self, row: u32) -> Option<RowBrief> {
        self.0.get(&row).map(|look| look.brief.clone())
    }

    pub fn sample(&self, row: u32) -> Option<Sample> {
        self.0.get(&row).map(|look| look.sample.clone())
    }

    /// The row's last answer.
    pub fn answer(&self, row: u32) -> Option<String> {
        self.0.get(&row).map(|look| look.answer.clone())
    }

    /// The opening with this hash, of one of the row's answers.
    pub fn opening(&self, row: u32, hash: u64) -> Option<String> {
        self.0.get(&row)?.openings.iter().find(|text| xxh3_64(text.as_bytes()) == hash).cloned()
    }
}

impl Look {
    fn at(rows: Rows<'_>, i: usize, row: u64) -> Self {
        const BRIEF: usize = 120;
        const MESSAGES: usize = 8;
        const CHARACTERS: usize = 600;
        const ANSWER: usize = 200;
        let shown = |mut messages: Vec<Message>| {
            messages.truncate(MESSAGES);
            for message in &mut messages {
                message.content = message.content.as_deref().map(|text| cut(text, CHARACTERS));
                message.tool_calls = message.tool_calls.as_deref().map(|calls| cut(calls, CHARACTERS));
            }
            messages
        };
        let mut text = String::new();
        said(rows, i, &mut text);
        Self {
            brief: RowBrief {
                row,
                file: String::new(),
                line: rows.line(i),
                record: rows.number(i),
                id: rows.id(i).to_string(),
                length: 0,
                text: cut(&one_line(&text, BRIEF), BRIEF),
            },
            sample: Sample {
                source: rows.source(i).to_string(),
                row,
                messages: shown(conversation(rows, i)),
                rejected: shown(rows.rejected(i).map(|turn| message(&turn)).collect()),
                text: rows.text(i).map(|text| cut(text, CHARACTERS)),
                label: rows.label(i),
            },
            openings: rows.turns(i).map(|turn| opening(text_of(&turn)).to_string()).collect(),
            answer: cut(
                rows.turns(i).rfind(|turn| turn.role == "assistant").map_or("", |turn| text_of(&turn)),
                ANSWER,
            ),
        }
    }
}

/// The beginning of a text, with a space for each run of white space: somewhat more than `limit`
/// characters of it.
fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if line.len() > 4 * limit {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        // A word may be as long as the text.
        line.extend(word.chars().take(limit + 1));
    }
    line
}
