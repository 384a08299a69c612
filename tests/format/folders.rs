//! Folders and patterns: what is read of them, what is not and is said, and what is never read twice.

use std::path::Path;

use crate::common::files::{Files, message};
use lorascope::dataset::Dataset;
use lorascope::error::Result;
use lorascope::format::{
    Converted, Existing, Misfits, OnFault, ReadOptions, RowSchema, WriteOptions, convert,
};
use lorascope::polars::prelude::{ParquetCompression, ParquetWriter, df};

fn row(text: &str) -> String {
    format!("{{\"instruction\": \"{text}\", \"output\": \"b\"}}\n")
}

/// File name, kind and row of all problems.
fn problems(data: &Dataset) -> Vec<(String, String, String)> {
    let table = data.problems().unwrap();
    let texts = |name: &str, i: usize| table.column(name).unwrap().str().unwrap().get(i).unwrap().to_string();
    let name = |i: usize| Path::new(&texts("file", i)).file_name().unwrap().to_string_lossy().into_owned();
    (0..table.height()).map(|i| (name(i), texts("kind", i), texts("outcome", i))).collect()
}

fn whats(data: &Dataset) -> String {
    let table = data.problems().unwrap();
    table.column("what").unwrap().str().unwrap().iter().flatten().collect::<Vec<_>>().join("\n")
}

fn convert_as(from: &Path, to: &Path, misfits: Misfits) -> Result<Converted> {
    let writing = WriteOptions { misfits, existing: Existing::Replace, ..Default::default() };
    convert(from, to, RowSchema::Alpaca, &ReadOptions::default(), &writing)
}

fn put(files: &Files, name: &str, content: impl AsRef<[u8]>) {
    let path = files.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn folders_below_are_not_read_and_said() {
    let files = Files::new();
    put(&files, "in/a.jsonl", row("a"));
    put(&files, "in/more/b.jsonl", row("b"));
    put(&files, "in/pictures/c.png", "x");
    let folder = files.path("in");
    let data = Dataset::open(&folder).unwrap();
    let expected =
        [("more", "not read", "kept")].map(|(a, b, c)| (a.to_string(), b.to_string(), c.to_string()));
    assert_eq!((data.len(), problems(&data)), (1, expected.to_vec()));
    let not_read = data.not_read().unwrap();
    assert!(not_read[0].0.ends_with("in/more") && not_read[0].1.contains("folders below"), "{not_read:?}");
    let pattern = format!("{}/**/*", folder.display());
    assert!(whats(&data).contains(&format!("open the pattern {pattern}")), "{}", whats(&data));
    assert_eq!(Dataset::open(&pattern).unwrap().len(), 3 - 1, "{}", whats(&Dataset::open(&pattern).unwrap()));
    assert_eq!(data.report().unwrap().problems.len(), 1);
    let done = convert_as(&folder, &files.path("out.jsonl"), Misfits::Fail).unwrap();
    assert!(done.to_string().contains("in/more: not read: files in folders below"), "{done}");
    assert!(problems(&data.head(1).unwrap()).is_empty(), "of a part, only what is wrong with its rows");
}

#[test]
fn a_file_of_something_else_leaves_the_others() {
    let files = Files::new();
    put(&files, "in/a.jsonl", row("a"));
    put(&files, "in/dataset_info.json", "{\"a\": {\"file_name\": \"a.jsonl\"}}");
    put(&files, "in/m.json", "PK\u{3}\u{4}\u{14}\0");
    put(&files, "in/z.jsonl", row("z"));
    let folder = files.path("in");
    let data = Dataset::open(&folder).unwrap();
    let expected = [
        ("dataset_info.json", "unknown schema", "rejected"),
        ("dataset_info.json", "not read", "kept"),
        ("m.json", "not read", "rejected"),
    ];
    let expected: Vec<_> =
        expected.iter().map(|(a, b, c)| (a.to_string(), b.to_string(), c.to_string())).collect();
    assert_eq!((data.len(), data.rejected().unwrap()), (2, 2));
    assert_eq!(problems(&data), expected);
    assert!(
        whats(&data).contains("this is zip, not JSON, CSV or Parquet; unpack it first"),
        "{}",
        whats(&data)
    );
    assert!(whats(&data).contains("its one record is no row"), "{}", whats(&data));
    let done = convert_as(&folder, &files.path("out.jsonl"), Misfits::Fail).unwrap();
    assert_eq!((done.written.rows, done.rejected), (2, 2));
    assert!(done.to_string().contains("in/m.json: not read: the file is left out"), "{done}");

    // Alone, or with nothing but its like, or where faults are errors, it is one.
    assert!(Dataset::open(files.path("in/m.json")).is_err());
    let strict = ReadOptions { faults: OnFault::Fail, ..Default::default() };
    assert!(Dataset::open_with(&folder, &strict).is_err());
    assert!(
        convert(&folder, files.path("x.jsonl"), RowSchema::Alpaca, &strict, &Default::default()).is_err()
    );
    put(&files, "none/a.json", "PK\u{3}\u{4}\u{14}\0");
    put(&files, "none/b.json", "");
    let error = Dataset::open(files.path("none")).unwrap_err();
    assert_eq!(
        message(&error, &files),
        "none/a.json: this is zip, not JSON, CSV or Parquet; unpack it first"
    );
    assert!(convert_as(&files.path("none"), &files.path("y.jsonl"), Misfits::Fail).is_err());
    assert!(!files.path("y.jsonl").exists());
}

#[test]
fn an_output_among_the_inputs_is_refused() {
    let files = Files::new();
    put(&files, "in/a.jsonl", row("a"));
    let folder = files.path("in");
    let refused = |from: &Path, to: &str| {
        let error = convert_as(from, &files.path(to), Misfits::Fail).unwrap_err();
        message(&error, &files)
    };
    assert_eq!(
        refused(&folder, "in/out.jsonl"),
        "in/out.jsonl: the file would be one of those that in stands for; write it into another folder, or name \
         the files to read"
            .replace("in stands", &format!("{} stands", folder.display()))
            .replace(&format!("{}/", files.0.path().display()), "")
    );
    let pattern = folder.join("*.jsonl");
    assert!(refused(&pattern, "in/out.jsonl").contains("the file would be one of those"));
    assert!(!files.path("in/out.jsonl").exists());
    let data = Dataset::open(&folder).unwrap();
    assert!(data.write(files.path("in/out.jsonl"), RowSchema::Alpaca).is_err());
    // What the folder does not stand for may lie in it.
    assert_eq!(convert_as(&folder, &files.path("in/out/new.jsonl"), Misfits::Fail).unwrap().written.rows, 1);
    let single = files.path("in/a.jsonl");
    assert_eq!(
        convert_as(&single, &single, Misfits::Fail).unwrap().written.rows,
        1,
        "a file in its own place"
    );
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
}

#[test]
fn rows_that_do_not_fit_are_named_by_file() {
    let files = Files::new();
    let talk = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "tool", "content": "t"}, {"role": "assistant", "content": "a"}]}"#;
    put(&files, "in/a.jsonl", format!("{}{talk}\n", row("a")));
    put(&files, "in/b.jsonl", format!("{}{}{talk}\n", row("b"), row("c")));
    let done = convert_as(&files.path("in"), &files.path("out.jsonl"), Misfits::LeaveOut).unwrap();
    assert_eq!((done.written.rows, done.written.left_out), (3, 2));
    let places = |misfits: &[lorascope::format::Misfit]| -> Vec<(String, u32)> {
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        misfits.iter().map(|m| (m.file.as_deref().map(name).unwrap_or_default(), m.line)).collect()
    };
    let expected = [("a.jsonl".to_string(), 2), ("b.jsonl".to_string(), 3)];
    assert_eq!(places(&done.written.misfits), expected);
    assert!(done.to_string().contains("in/b.jsonl, line 3: alpaca holds pairs"), "{done}");
    let data = Dataset::open(files.path("in")).unwrap();
    let writing = WriteOptions { misfits: Misfits::LeaveOut, ..Default::default() };
    let written = data.write_with(files.path("two.jsonl"), RowSchema::Alpaca, &writing).unwrap();
    assert_eq!(places(&written.misfits), expected);
    let error = convert_as(&files.path("in"), &files.path("three.jsonl"), Misfits::Fail).unwrap_err();
    assert!(message(&error, &files).starts_with("in/a.jsonl, line 2: "), "{error}");
}

#[test]
fn a_parquet_file_that_is_damaged_inside_leaves_the_others_and_what_comes_before() {
    let files = Files::new();
    put(&files, "in/a.jsonl", row("a"));
    put(&files, "in/z.jsonl", row("z"));
    let whole = files.path("in/m.parquet");
    let texts = |of: &str| (0..9).map(|n| format!("{of} number {n} {}", "x".repeat(200))).collect::<Vec<_>>();
    let mut frame = df!("instruction" => texts("question"), "output" => texts("answer")).unwrap();
    ParquetWriter::new(std::fs::File::create(&whole).unwrap())
        .with_compression(ParquetCompression::Uncompressed)
        .with_row_group_size(Some(3))
        .finish(&mut frame)
        .unwrap();
    let bytes = std::fs::read(&whole).unwrap();
    assert_eq!(Dataset::open(files.path("in")).unwrap().len(), 11);
    for (first, kept, rejected) in [(6, 6, 1), (3, 6, 1), (0, 6, 1), (9, 0, 1)] {
        let mut bent = bytes.clone();
        for group in [0, 3, 6].into_iter().filter(|group| first == 9 || *group == first) {
            let text = format!("question number {group} ");
            let at = bent.windows(text.len()).position(|part| part == text.as_bytes()).unwrap();
            bent[at.saturating_sub(60).max(4)..at].fill(0xff);
        }
        std::fs::write(&whole, bent).unwrap();
        let data = Dataset::open(files.path("in")).unwrap();
        assert_eq!((data.len(), data.rejected().unwrap()), (2 + kept, rejected), "{}", whats(&data));
        assert!(whats(&data).contains("the Parquet file is damaged"), "{}", whats(&data));
        let out = files.path(&format!("out-{first}.jsonl"));
        let done = convert_as(&files.path("in"), &out, Misfits::Fail).unwrap();
        assert_eq!((done.written.rows, done.rejected), (2 + kept as u64, rejected as u64));
        // Alone it is what it is: rows and a problem, or an error.
        match Dataset::open(&whole) {
            Ok(data) => {
                assert_eq!((data.len(), first < 9), (kept, true));
                let lost = format!("the rows {} to {} are lost", first + 1, first + 3);
                assert!(whats(&data).contains(&lost), "{}", whats(&data));
                assert_eq!(data.place(kept - 1).unwrap().1, if first == 6 { 6 } else { 9 });
            }
            Err(error) => assert!(first == 9 && error.to_string().contains("is damaged"), "{error}"),
        }
    }
}
