//! `lorascope data split`: both parts or nothing.
#![cfg(feature = "cli")]

use crate::common::command::{data, err, out, put, read, row};
use serde_json::{Value, json};

#[test]
fn split_keeps_alike_rows_together_and_the_format() {
    let folder = tempfile::tempdir().unwrap();
    let made = data(&folder, &["generate", "--rows", "300", "--conversations", "in.jsonl"]);
    assert_eq!(made.status.code(), Some(0), "{}", err(&made));
    let parts = ["split", "in.jsonl", "train.jsonl", "test.jsonl", "--fraction", "0.8", "--seed", "3"];
    let done = data(&folder, &parts);
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    let (all, train, test) =
        (read(&folder, "in.jsonl"), read(&folder, "train.jsonl"), read(&folder, "test.jsonl"));
    assert_eq!(train.len() + test.len(), 300);
    assert!((225..=255).contains(&train.len()), "{}", train.len());
    assert!(train.iter().chain(&test).all(|row| all.contains(row)), "each row is as it was");
    let (near, _) =
        lorascope::dataset::Dataset::open(folder.path().join("in.jsonl")).unwrap().split(0.8, 3).unwrap();
    assert_eq!(near.len(), train.len());
    assert_eq!(data(&folder, &parts).status.code(), Some(2), "the files exist");
    let one = data(&folder, &["split", "in.jsonl", "x.jsonl", "x.jsonl"]);
    assert!(one.status.code() == Some(2) && err(&one).contains("both parts were to be written to one file"));
    put(&folder, "mixed.jsonl", &[row("a", "b"), json!({"text": "t"}), row("c", "d")]);
    let mixed = data(&folder, &["split", "mixed.jsonl", "x.jsonl", "y.jsonl", "--fraction", "0.5"]);
    assert!(
        err(&mixed).contains("the rows are of several formats: alpaca, text; say which one to write"),
        "{}",
        err(&mixed)
    );
}

#[test]
fn split_looks_at_both_files_before_it_writes_one() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<Value> = (0..20).map(|n| row(&format!("{n} + 1 = ?"), &format!("{}", n + 1))).collect();
    put(&folder, "o.jsonl", &rows);
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path(), folder.path().join("link")).unwrap();
    let refused = |one: &str, other: &str, why: &str| {
        let done = data(&folder, &["split", "o.jsonl", one, other, "--fraction", "0.5", "--overwrite"]);
        assert!(done.status.code() == Some(2) && err(&done).contains(why), "{one} {other}: {}", err(&done));
        assert_eq!(read(&folder, "o.jsonl"), rows, "{one} {other}");
    };
    let same = "both parts were to be written to one file";
    for other in ["./t.jsonl", "sub/../t.jsonl", "none/../t.jsonl", "./none/.././t.jsonl"] {
        refused("t.jsonl", other, same);
        refused(other, "t.jsonl", same);
    }
    let input = "this is the file that the rows come from";
    refused("./o.jsonl", "t.jsonl", input);
    refused("t.jsonl", "sub/../o.jsonl", input);
    if cfg!(unix) {
        refused("t.jsonl", "link/t.jsonl", same);
        refused("t.jsonl", "link/o.jsonl", input);
    }
    refused("t.jsonl", "t.docx", "the name does not say how to write the rows");
    refused("t.jsonl", "sub", "this is a folder");
    put(&folder, "there.jsonl", &rows[..1]);
    let done = data(&folder, &["split", "o.jsonl", "t.jsonl", "there.jsonl"]);
    assert!(done.status.code() == Some(2) && err(&done).contains("the file exists"), "{}", err(&done));
    assert!(!folder.path().join("t.jsonl").exists(), "nothing is written");
    // Two names in two folders are two files.
    let done = data(&folder, &["split", "o.jsonl", "t.jsonl", "sub/t.jsonl", "--fraction", "0.5"]);
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    assert_eq!(read(&folder, "t.jsonl").len() + read(&folder, "sub/t.jsonl").len(), 20);
}

#[test]
fn split_writes_nothing_where_a_row_of_the_second_part_does_not_fit() {
    let folder = tempfile::tempdir().unwrap();
    let talk = |n: usize| json!({"instruction": format!("question {n}"), "output": format!("answer {n}")});
    let mut rows: Vec<_> = (0..20).map(talk).collect();
    rows.extend((0..20).map(|n| json!({"text": format!("once upon {n} times a time")})));
    put(&folder, "in.jsonl", &rows);
    let parts = ["split", "in.jsonl", "one.jsonl", "two.jsonl", "--to", "openai", "--fraction", "0.5"];
    let done = data(&folder, &parts);
    assert_eq!(done.status.code(), Some(2), "{}", out(&done));
    assert!(err(&done).contains("in.jsonl, line ") && err(&done).contains("--leave-out"), "{}", err(&done));
    assert!(!err(&done).contains("Misfits::"), "{}", err(&done));
    assert!(!folder.path().join("one.jsonl").exists() && !folder.path().join("two.jsonl").exists());
    let done = data(&folder, &[&parts[..], &["--leave-out"]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    assert_eq!(read(&folder, "one.jsonl").len() + read(&folder, "two.jsonl").len(), 20);
}

#[test]
fn split_writes_nothing_where_no_row_of_the_second_part_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let judged = |n: usize, label: bool| json!({"prompt": format!("question {n} of {n}"), "completion": format!("{n}"), "label": label});
    let weightless = |n: usize| json!({"messages": [{"role": "user", "content": format!("question {n} of {n}")}, {"role": "assistant", "content": format!("{n}"), "weight": 0}]});
    let of = |rows: Vec<Value>| lorascope_split(&folder, &rows);
    // All are bad ones, whichever part they are in.
    for rows in [(0..20).map(|n| judged(n, false)).collect::<Vec<_>>(), (0..20).map(weightless).collect()] {
        let (code, said) = of(rows);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("none of the") && said.contains("marked as not to be learned"), "{said}");
        assert!(!folder.path().join("one.jsonl").exists() && !folder.path().join("two.jsonl").exists());
    }
    // Only those of the second part, which is written last: nothing of the first is.
    let questions = |part: &lorascope::dataset::Dataset| -> Vec<String> {
        (0..part.len()).map(|i| part.conversation(i).unwrap()[0].text().to_string()).collect()
    };
    put(&folder, "all.jsonl", &(0..20).map(|n| judged(n, true)).collect::<Vec<_>>());
    let all = lorascope::dataset::Dataset::open(folder.path().join("all.jsonl")).unwrap();
    let second = questions(&all.split(0.7, 42).unwrap().1);
    let rows = |zero: bool| -> Vec<Value> {
        let row = |n: usize| match (second.contains(&format!("question {n} of {n}")), zero) {
            (bad, false) => judged(n, !bad),
            (true, true) => weightless(n),
            (false, true) => judged(n, true),
        };
        (0..20).map(row).collect()
    };
    for zero in [false, true] {
        let (code, said) = of(rows(zero));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(&format!("none of the {} rows of this part", second.len())), "{said}");
        assert!(!folder.path().join("one.jsonl").exists() && !folder.path().join("two.jsonl").exists());
    }
    let (code, said) = of((0..20).map(|n| judged(n, true)).collect());
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(read(&folder, "one.jsonl").len() + read(&folder, "two.jsonl").len(), 20);
}

/// Splits rows into two files of alpaca.
fn lorascope_split(folder: &tempfile::TempDir, rows: &[Value]) -> (Option<i32>, String) {
    put(folder, "rows.jsonl", rows);
    let done = data(
        folder,
        &[
            "split",
            "rows.jsonl",
            "one.jsonl",
            "two.jsonl",
            "--fraction",
            "0.7",
            "--to",
            "alpaca",
            "--leave-out",
        ],
    );
    (done.status.code(), err(&done))
}
