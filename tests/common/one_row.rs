//! A file of one row: what it says, and how it is written in another schema.

use super::files::Files;
use super::rows::normal;
use lorascope::dataset::Dataset;
use lorascope::format::{Layout, Role, RowSchema, WriteOptions};
use serde_json::Value as Json;

pub fn said(data: &Dataset) -> Vec<(Role, String)> {
    data.conversation(0).unwrap().into_iter().map(|m| (m.role, m.text().to_string())).collect()
}

pub fn turns(turns: &[(Role, &str)]) -> Vec<(Role, String)> {
    turns.iter().map(|(role, text)| (*role, text.to_string())).collect()
}

/// Opens one row, and checks that it can be written as it was.
pub fn open(row: &str) -> (Files, Dataset) {
    let files = Files::new();
    let data = Dataset::open(files.put("row.jsonl", row)).unwrap();
    let frame = data.frame().unwrap().collect().unwrap();
    let schema: RowSchema = frame.column("source").unwrap().str().unwrap().get(0).unwrap().parse().unwrap();
    let keep = WriteOptions { layout: Layout::Keep, ..Default::default() };
    data.write_with(files.path("again.jsonl"), schema, &keep).unwrap();
    assert_eq!(normal(&std::fs::read_to_string(files.path("again.jsonl")).unwrap()), normal(row));
    (files, data)
}

pub fn written(files: &Files, data: &Dataset, schema: RowSchema) -> Json {
    data.overwrite(files.path("other.jsonl"), schema).unwrap();
    serde_json::from_str(&std::fs::read_to_string(files.path("other.jsonl")).unwrap()).unwrap()
}
