//! What was found in a file, and two files to look into.

use std::io::Write as _;

use lorascope::dataset::Dataset;

/// Kind and line of all problems.
pub fn problems(data: &Dataset) -> Vec<(String, u32)> {
    let table = data.problems().unwrap();
    let kinds = table.column("kind").unwrap().str().unwrap().clone();
    let lines = table.column("line").unwrap().u32().unwrap().clone();
    (0..table.height()).map(|i| (kinds.get(i).unwrap().to_string(), lines.get(i).unwrap())).collect()
}

pub fn whats(data: &Dataset) -> Vec<String> {
    let table = data.problems().unwrap();
    table.column("what").unwrap().str().unwrap().iter().map(|what| what.unwrap().to_string()).collect()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub const PRETTY: &str = r#"{
  "instruction": "a",
  "output": "b"
}
{
  "messages": [
    {"role": "user", "content": "c"},
    {"role": "assistant", "content": "d"}
  ]
}
"#;
