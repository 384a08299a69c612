//! Files that are too big to be read at once: their head, and their rows in the cache. A single
//! test, because the place of the cache is a variable of the process.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use lorascope::dataset::Dataset;
use lorascope::display::Show as _;
use lorascope::format::Fix;
use lorascope::polars::prelude::*;

const ROWS: usize = 80_000;

/// 80,000 rows of about 1,000 bytes, of which some have faults.
fn write(path: &Path) {
    let mut file = std::io::BufWriter::new(fs::File::create(path).unwrap());
    for i in 0..ROWS {
        let answer = format!("{i} ").repeat(160);
        match i {
            9_000 => writeln!(file, "{{\"instruction\": \"broken"),
            70_000 => writeln!(file, "{{\"instruction\": \"question {i}\", \"output\": \"\\n{answer}\"}}"),
            70_001 => writeln!(file, "{{\"instruction\": \"question {i}\", \"output\": \"\"}}"),
            _ => writeln!(file, "{{\"instruction\": \"question {i}\", \"output\": \"{answer}.\"}}"),
        }
        .unwrap();
    }
}

fn entries(cache: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(cache.join("rows")).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn a_big_file_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    // SAFETY: the only test of this process.
    unsafe {
        std::env::set_var("LORASCOPE_CACHE", &cache);
        std::env::set_var("LORASCOPE_CACHE_ABOVE", "20000000");
    }
    let path = folder.path().join("big.jsonl");
    write(&path);
    assert!(fs::metadata(&path).unwrap().len() > 20_000_000);

    // Its head, and nothing else yet.
    let data = Dataset::open(&path).unwrap();
    let shown = data.show().text;
    assert!(shown.contains("question 9 ") && shown.contains("all of it is read when"), "{shown}");
    assert_eq!(data.conversation(3).unwrap()[0].text(), "question 3");
    assert!(!cache.exists());

    // All of it, out of the cache.
    assert_eq!((data.len(), data.rejected().unwrap()), (ROWS - 2, 2));
    assert_eq!(entries(&cache).len(), 3);
    let check = |data: &Dataset| {
        assert_eq!(data.conversation(ROWS - 3).unwrap()[0].text(), format!("question {}", ROWS - 1));
        assert_eq!(data.place(ROWS - 3).unwrap().1, ROWS as u64);
        let problems = data.problems().unwrap();
        let lines: Vec<u32> = problems.column("line").unwrap().u32().unwrap().into_no_null_iter().collect();
        assert_eq!(lines, [9_001, 70_001, 70_002]);
        let late = data.filter(col("line").gt(lit(70_000u32))).unwrap();
        assert_eq!(late.len(), ROWS - 70_000 - 1);
        assert_eq!(late.problems().unwrap().height(), 1, "the rejected ones belong to the whole");
        let frame = late.frame().unwrap().select([col("line").min(), col("line").count().alias("n")]);
        let frame = frame.collect().unwrap();
        assert_eq!(frame.column("line").unwrap().u32().unwrap().get(0), Some(70_001));
        let sample = data.sample(50, 3).unwrap();
        assert_eq!(sample.conversation(49).unwrap().len(), 2);
        data.fingerprint().unwrap()
    };
    let fingerprint = check(&data);

    // A second opening finds it, and reads nothing of the file.
    let written = fs::metadata(&entries(&cache)[0]).unwrap().modified().unwrap();
    let again = Dataset::open(&path).unwrap();
    assert!(again.show().text.contains("79,998 rows"), "{}", again.show().text);
    assert_eq!(check(&again), fingerprint);
    assert_eq!(again.recipe().unwrap(), data.recipe().unwrap());
    assert_eq!(fs::metadata(&entries(&cache)[0]).unwrap().modified().unwrap(), written);

    // Another way to read it is another entry.
    let fixed = again.fix(Fix::Trim | Fix::DropEmptyTurns).unwrap();
    assert_eq!(fixed.rejected().unwrap(), 2, "a question alone is no conversation");
    assert_eq!(entries(&cache).len(), 6);

    // What changed is read anew; a handle on the old file says so.
    let unread = Dataset::open(&path).unwrap();
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"{\"instruction\": \"new\", \"output\": \"row\"}\n")
        .unwrap();
    let new = Dataset::open(&path).unwrap();
    assert!(new.show().text.contains("all of it is read when"));
    assert_eq!((new.len(), unread.len()), (ROWS - 1, ROWS - 2));
    let late = Dataset::open(&path).unwrap();
    assert_eq!(late.len(), ROWS - 1);

    // A row unpacks its own group alone: those before it may hold anything.
    for entry in entries(&cache).into_iter().filter(|entry| {
        entry.extension().unwrap() == "parquet" && !entry.to_string_lossy().contains("problems")
    }) {
        let mut bytes = fs::read(&entry).unwrap();
        bytes[4..100_000].fill(0xff);
        fs::remove_file(&entry).unwrap();
        fs::write(&entry, &bytes).unwrap();
    }
    let hurt = Dataset::open(&path).unwrap();
    assert!(hurt.conversation(0).is_err());
    assert_eq!(hurt.conversation(ROWS - 3).unwrap()[0].text(), format!("question {}", ROWS - 1));

    // An entry that was damaged is made again.
    for entry in entries(&cache) {
        let bytes = fs::read(&entry).unwrap();
        fs::remove_file(&entry).unwrap();
        fs::write(&entry, &bytes[..bytes.len() / 2]).unwrap();
    }
    assert_eq!(Dataset::open(&path).unwrap().len(), ROWS - 1);

    // A file that goes away before it was read is an error, not an empty dataset.
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"\n").unwrap();
    let gone = Dataset::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(gone.columns().unwrap_err().is_not_found());
}
