//! The command line in a folder of its own, and rows there.

use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

pub fn command(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lorascope"));
    command.args(arguments).current_dir(folder.path());
    command
}

pub fn data(folder: &TempDir, arguments: &[&str]) -> Output {
    command(folder, &[&["data"], arguments].concat()).output().unwrap()
}

pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub fn put(folder: &TempDir, name: &str, rows: &[Value]) {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(folder.path().join(name), text).unwrap();
}

pub fn read(folder: &TempDir, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub fn row(question: &str, answer: &str) -> Value {
    json!({"instruction": question, "output": answer})
}
