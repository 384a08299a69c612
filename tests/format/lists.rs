//! Objects around rows, with one list or several, and single rows that look like them.

use crate::common::files::{Files, message};
use lorascope::dataset::Dataset;
use lorascope::format::{OnFault, ReadOptions, RowSchema, convert};

fn rows(texts: &[&str]) -> String {
    let rows = texts.iter().map(|text| format!("{{\"instruction\": \"{text}\", \"output\": \"b\"}}"));
    format!("[{}]", rows.collect::<Vec<_>>().join(", "))
}

fn whats(data: &Dataset) -> Vec<String> {
    let table = data.problems().unwrap();
    table.column("what").unwrap().str().unwrap().iter().map(|what| what.unwrap().to_string()).collect()
}

fn questions(data: &Dataset) -> Vec<String> {
    (0..data.len()).map(|i| data.conversation(i).unwrap().swap_remove(0).text().to_string()).collect()
}

fn list(name: &str) -> ReadOptions {
    ReadOptions { list: Some(name.to_string()), ..Default::default() }
}

#[test]
fn a_second_list_is_said_and_can_be_read() {
    let files = Files::new();
    let (train, valid, test) = (rows(&["a"]), rows(&["b", "c"]), rows(&["d", "e", "f"]));
    let line = format!(
        "{{\"train\": {train}, \"validation\": {valid}, \"about\": {{\"test\": [1]}}, \"test\": {test}}}"
    );
    for text in [line.clone(), line.clone() + "\n", line.replace("}, ", "},\n ").replace(": [{", ":\n[{")] {
        let path = files.put("x.json", &text);
        let data = Dataset::open(&path).unwrap();
        assert_eq!(questions(&data), ["a"]);
        let said = |name: &str, n: u32| {
            format!("the file has a second list of rows, `{name}` ({n} rows), which is not read")
        };
        assert_eq!(whats(&data), [said("validation", 2), said("test", 3)]);
        let done = convert(
            &path,
            files.path(&format!("{}.jsonl", text.len())),
            RowSchema::OpenAi,
            &Default::default(),
            &Default::default(),
        );
        assert!(done.unwrap().to_string().contains("`test` (3 rows), which is not read"));
        for (name, expected) in
            [("train", vec!["a"]), ("validation", vec!["b", "c"]), ("test", vec!["d", "e", "f"])]
        {
            let data = Dataset::open_with(&path, &list(name)).unwrap();
            assert_eq!(
                (questions(&data), whats(&data).len()),
                (expected.into_iter().map(String::from).collect(), 0)
            );
            let again = Dataset::from_recipe(&data.recipe().unwrap()).unwrap();
            assert_eq!(questions(&again), questions(&data));
        }
        let error = Dataset::open_with(&path, &list("dev")).unwrap_err();
        assert_eq!(
            message(&error, &files),
            "x.json: the file has no list of rows `dev`; there are `train`, `validation`, `test`"
        );
    }
    let strict = ReadOptions { faults: OnFault::Fail, ..Default::default() };
    assert!(Dataset::open_with(files.path("x.json"), &strict).is_err());
    let error =
        Dataset::open_with(files.put("y.jsonl", "{\"instruction\": \"a\", \"output\": \"b\"}\n"), &list("a"));
    assert!(error.unwrap_err().to_string().contains("holds lists of rows"));
    let error = Dataset::open_with(files.put("z.json", rows(&["a"])), &list("a")).unwrap_err();
    assert!(error.to_string().contains("open it without naming a list"), "{error}");
}

/// A list far behind the first one, and lines that are counted on the way.
#[test]
fn a_list_is_found_behind_a_long_one() {
    let files = Files::new();
    let row = "{\"instruction\": \"a\", \"output\": \"b\"},\n";
    let many = 100_000;
    let text = format!(
        "{{\"train\": [\n{}{}],\n\"test\": [\n{}{{broken]}}",
        row.repeat(many),
        row.trim_end_matches(",\n"),
        row
    );
    let data = Dataset::open_with(files.put("x.json", &text), &list("test")).unwrap();
    let lines = data.columns().unwrap().column("line").unwrap().u32().unwrap().to_vec();
    assert_eq!(lines, [Some(many as u32 + 4)]);
    let problems = data.problems().unwrap();
    assert_eq!(problems.column("line").unwrap().u32().unwrap().get(0), Some(many as u32 + 5));
}

#[test]
fn an_empty_list_is_none() {
    let files = Files::new();
    let path = files.put("x.json", format!("{{\"train\": [], \"test\": {}}}", rows(&["a"])));
    assert_eq!(questions(&Dataset::open(path).unwrap()), ["a"]);
}

/// One conversation in a file of its own, on one line or several, is one row.
#[test]
fn a_single_row_is_not_taken_apart() {
    let files = Files::new();
    let turns = |names: [&str; 2]| {
        let [user, assistant] = names;
        format!(
            "[{{\"{user}\": \"a\", \"{assistant}\": \"b\"}}, {{\"{user}\": \"c\", \"{assistant}\": \"d\"}}]"
        )
    };
    for text in [
        format!("{{\"system\": \"s\", \"conversation\": {}}}", turns(["human", "assistant"])),
        format!("{{\"id\": \"1\", \"conversation\": {}, \"system\": \"s\"}}", turns(["human", "assistant"])),
    ] {
        for text in [text.clone(), text.replace(", ", ",\n  ").replacen('{', "{\n", 1)] {
            let data = Dataset::open(files.put("x.json", &text)).unwrap();
            let said: Vec<String> =
                data.conversation(0).unwrap().into_iter().map(|m| m.text().to_string()).collect();
            assert_eq!(
                (data.len(), said),
                (1, ["s", "a", "b", "c", "d"].map(String::from).to_vec()),
                "{text}"
            );
        }
    }
    // What is said for all rows of a list is not lost without a word.
    let data =
        Dataset::open(files.put("y.json", format!("{{\"system\": \"s\", \"data\": {}}}", rows(&["a"]))))
            .unwrap();
    assert_eq!(whats(&data), ["`system` stands beside the list of rows, not in a row: it is not read"]);
}

#[cfg(feature = "cli")]
#[test]
fn the_command_line_names_a_list() {
    let files = Files::new();
    files.put("x.json", format!("{{\"train\": {}, \"test\": {}}}", rows(&["a"]), rows(&["b", "c"])));
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lorascope"));
        command.arg("data").args(arguments).current_dir(files.0.path()).output().unwrap()
    };
    let done = run(&["convert", "x.json", "out.jsonl", "--to", "openai", "--list", "test"]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(questions(&Dataset::open(files.path("out.jsonl")).unwrap()), ["b", "c"]);
    let error = run(&["report", "x.json", "--list", "dev"]);
    assert!(String::from_utf8_lossy(&error.stderr).contains("there are `train`, `test`"), "{error:?}");
}
