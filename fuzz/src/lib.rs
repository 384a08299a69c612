//! What the fuzz targets do with their bytes.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use lorascope::dataset::Dataset;
use lorascope::format::{Existing, Extra, Misfits, RowSchema, WriteOptions};

/// Names that ask for every container.
const NAMES: [&str; 8] =
    ["x.jsonl", "x.json", "x.csv", "x.tsv", "x.parquet", "x.jsonl.gz", "x.csv.zst", "notes.txt"];

/// Prepares the process, and writes the files that fuzzing begins with into the folder `FUZZ_SEEDS`.
///
/// The reader of Parquet catches panics of the library that it stands on: those must not end the
/// process. A panic that nobody catches still does.
pub fn init() {
    std::panic::set_hook(Box::new(|panic| {
        if std::env::var_os("FUZZ_PANICS").is_some() {
            eprintln!("{panic}");
        }
    }));
    if let Some(root) = std::env::var_os("FUZZ_SEEDS") {
        seeds(root.as_ref()).expect("the folder for the first files can be written");
    }
}

/// A folder in memory where there is one.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let folder = base.join(format!("lorascope-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the files");
        folder
    })
}

fn open(name: &str, bytes: &[u8]) -> Option<Dataset> {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("a file in memory");
    match Dataset::open(&path) {
        Ok(data) => Some(data),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

fn options() -> WriteOptions {
    WriteOptions {
        extra: Extra::Keep,
        misfits: Misfits::LeaveOut,
        existing: Existing::Replace,
        ..Default::default()
    }
}

/// Opens the bytes as a file that the first of them names, and looks at what it holds.
pub fn container(bytes: &[u8]) {
    let Some((&which, bytes)) = bytes.split_first() else { return };
    let Some(data) = open(NAMES[usize::from(which) % NAMES.len()], bytes) else { return };
    look(&data);
}

/// Opens the bytes as Parquet.
pub fn parquet(bytes: &[u8]) {
    let Some(data) = open("x.parquet", &[b"PAR1", bytes].concat()) else { return };
    look(&data);
}

/// Every row, every problem, and the lines that they are about.
fn look(data: &Dataset) {
    for i in 0..data.len().min(50) {
        let turns = data.conversation(i).expect("a row that is there");
        assert!(data.tools(i).is_ok() && turns.len() < 1 << 24);
        let (_, line) = data.place(i).expect("the place of a row");
        if i < 3 {
            assert!(data.line(line).is_ok(), "line {line} of a row is there");
        }
    }
    let problems = data.problems().expect("a table of the problems");
    let lines = problems.column("line").and_then(|lines| lines.u32().cloned()).expect("their lines");
    for line in lines.iter().flatten().take(3) {
        // A fault of the file itself may stand where there is no record.
        let _ = data.line(line.into());
    }
    assert!(data.rejected().is_ok() && data.fingerprint().is_ok());
}

/// Reads the bytes as one record, and writes it in every schema, in every container.
pub fn record(bytes: &[u8]) {
    let Some((&which, bytes)) = bytes.split_first() else { return };
    let line: Vec<u8> = bytes.iter().map(|&byte| if byte == b'\n' { b' ' } else { byte }).collect();
    let Some(data) = open("x.jsonl", &line) else { return };
    let name = ["y.jsonl", "y.json", "y.csv", "y.parquet"][usize::from(which) % 4];
    let path = folder().join(name);
    for schema in RowSchema::ALL {
        // CSV refuses texts that it would change.
        let Ok(written) = data.write_with(&path, schema, &options()) else { continue };
        if written.rows == 0 {
            continue;
        }
        let again = match Dataset::open(&path) {
            Ok(again) => again,
            Err(error) => panic!("{schema} in {name} cannot be read again: {error}"),
        };
        assert_eq!(again.len() as u64, written.rows, "{schema} in {name}");
    }
}

/// Files to begin with: of every container for `container`, of every schema for `record`.
fn seeds(root: &Path) -> std::io::Result<()> {
    const ROWS: &str = r#"{"instruction": "3 + 4 = ?", "input": "", "output": "7", "history": [["a", "b"]]}
{"id": "x", "conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
{"messages": [{"role": "user", "content": "u", "name": "A"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "content": "1"}, {"role": "assistant", "content": "d", "weight": 0.5}], "tools": [{"name": "t"}]}
{"conversation": [{"human": "a", "assistant": "b"}]}
{"prompt": "p", "chosen": "c", "rejected": [{"role": "assistant", "content": "r"}]}
{"prompt": "p", "completion": "c", "label": true}
{"text": "plain"}
"#;
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = root.join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)
    };
    for (i, row) in ROWS.lines().enumerate() {
        for which in 0..4u8 {
            put("record", &format!("{i}-{which}"), &[&[which], row.as_bytes()].concat())?;
        }
    }
    let data = open("x.jsonl", ROWS.as_bytes()).expect("the seeds are rows");
    for (which, name) in (0u8..).zip(NAMES) {
        let path = folder().join(name);
        let bytes = match data.write_with(&path, RowSchema::OpenAi, &options()) {
            Ok(_) => std::fs::read(&path)?,
            Err(_) => ROWS.as_bytes().to_vec(),
        };
        put("container", name, &[&[which], &bytes[..]].concat())?;
        if name == "x.parquet" {
            put("parquet", name, &bytes[4..])?;
        }
    }
    put("container", "pretty", b"\x01{\n \"data\": [\n  {\"instruction\": \"a\", \"output\": \"b\"}\n ]\n}\n")?;
    put("container", "values", b"\x00{\n \"instruction\": \"a\",\n \"output\": \"b\"\n}\n{\n \"text\": \"c\"\n}\n")?;
    put("container", "semicolons", b"\x02instruction;output\n\"a\n\"\"b\"\"\";c\n")
}
