//! From any schema to any other and back: nothing is lost, or it was said beforehand.

use crate::common::files::Files;
use crate::common::rows::{Tape, normal};
use lorascope::dataset::Dataset;
use lorascope::format::{Existing, Extra, Layout, Misfits, RowSchema, WriteOptions};
use proptest::prelude::*;

/// More cases than in the everyday run: `LORASCOPE_CASES=5000`.
fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("LORASCOPE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    ProptestConfig {
        cases,
        rng_seed: proptest::test_runner::RngSeed::Fixed(42),
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..ProptestConfig::default()
    }
}

fn lines(files: &Files, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(files.path(name)).unwrap();
    text.split('\n').filter(|line| !line.is_empty()).map(normal).collect()
}

fn schema() -> impl Strategy<Value = RowSchema> {
    proptest::sample::select(&RowSchema::ALL[..])
}

fn tape(len: usize) -> impl Strategy<Value = Vec<u16>> {
    proptest::collection::vec(0u16..5040, len)
}

/// Writes rows of `first` in `second` and back; gives what they were and what they became.
fn there_and_back(
    data: &Dataset,
    files: &Files,
    first: RowSchema,
    second: RowSchema,
    extra: Extra,
) -> Vec<String> {
    let options =
        WriteOptions { extra, layout: Layout::Keep, misfits: Misfits::LeaveOut, existing: Existing::Replace };
    data.write_with(files.path("there.jsonl"), second, &options).unwrap();
    let there = Dataset::open(files.path("there.jsonl")).unwrap();
    assert_eq!(
        there.rejected().unwrap(),
        0,
        "{}",
        std::fs::read_to_string(files.path("there.jsonl")).unwrap()
    );
    there.write_with(files.path("back.jsonl"), first, &options).unwrap();
    lines(files, "back.jsonl")
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn there_and_back_again(first in schema(), tapes in proptest::collection::vec(tape(60), 1..7)) {
        let files = Files::new();
        let rows: Vec<String> = tapes.iter().map(|tape| Tape::new(tape).row(first.name())).collect();
        let data = Dataset::open(files.put("rows.jsonl", rows.join("\n"))).unwrap();
        prop_assert_eq!(data.rejected().unwrap(), 0, "{}\n{:?}", rows.join("\n"), data.problems());
        prop_assert_eq!(data.len(), rows.len());
        let rows: Vec<String> = rows.iter().map(|row| normal(row)).collect();
        for second in RowSchema::ALL {
            let losses: Vec<_> = (0..data.len()).map(|i| data.slice(i, 1).unwrap().losses(second).unwrap()).collect();
            let fit: Vec<usize> = (0..data.len()).filter(|i| losses[*i].left_out + losses[*i].labelled_bad == 0).collect();
            if second == first {
                prop_assert!(losses.iter().all(|losses| losses.is_empty()), "{losses:?}");
            }
            if fit.is_empty() {
                prop_assert!(data.overwrite(files.path("there.jsonl"), second).is_err());
                continue;
            }
            let kept = there_and_back(&data, &files, first, second, Extra::Keep);
            prop_assert_eq!(kept.len(), fit.len());
            for (back, i) in kept.iter().zip(&fit) {
                prop_assert_eq!(back, &rows[*i], "through {} with what it cannot hold: {}", second, lines(&files, "there.jsonl").join("\n"));
            }
            for i in fit.iter().filter(|i| losses[**i].lost.is_empty() && losses[**i].laid_out == 0) {
                let alone = data.slice(*i, 1).unwrap();
                let back = there_and_back(&alone, &files, first, second, Extra::Drop);
                prop_assert_eq!(&back[..], &rows[*i..=*i], "through {}, which loses nothing: {}", second, lines(&files, "there.jsonl").join("\n"));
            }
            // Said beforehand for all rows at once, and said again by the write.
            let said = data.losses(second).unwrap();
            let options = WriteOptions { misfits: Misfits::LeaveOut, existing: Existing::Replace, ..Default::default() };
            let written = data.write_with(files.path("there.jsonl"), second, &options).unwrap();
            prop_assert_eq!((&written.lost, written.left_out, &written.misfits), (&said.lost, said.left_out, &said.misfits));
            prop_assert_eq!((written.labelled_bad, &written.bad_lines), (said.labelled_bad, &said.bad_lines));
            // Alone each row is the first, which matters to an id that names its row's place.
            let placed = rows.iter().any(|row| row.contains("\"id\":\"row-"));
            let sum = |what: &String| losses.iter().filter_map(|losses| losses.lost.get(what)).sum::<u64>();
            for (what, count) in said.lost.iter().filter(|_| !placed) {
                prop_assert_eq!(sum(what), *count);
            }
            // What is said stays the same, whatever else is lost.
            let there = Dataset::open(files.path("there.jsonl")).unwrap();
            for (n, i) in fit.iter().enumerate().filter(|(_, i)| !losses[**i].lost.keys().any(|what| what.contains("turn") || what.contains("calls"))) {
                let said = |data: &Dataset, i| -> Vec<(String, String)> {
                    data.conversation(i).unwrap().into_iter().map(|m| (m.role.to_string(), m.text().to_string())).collect()
                };
                prop_assert_eq!(said(&there, n), said(&data, *i));
            }
        }
    }

    /// Whatever the schemas of its rows, a file goes through any schema that holds them.
    #[test]
    fn files_of_many_schemas(rows in proptest::collection::vec((schema(), tape(50)), 1..12), second in schema()) {
        let files = Files::new();
        let all: Vec<String> = rows.iter().map(|(schema, tape)| Tape::new(tape).row(schema.name())).collect();
        let data = Dataset::open(files.put("rows.jsonl", all.join("\n"))).unwrap();
        prop_assert_eq!(data.rejected().unwrap(), 0);
        let losses = data.losses(second).unwrap();
        if losses.left_out + losses.labelled_bad == data.len() as u64 {
            return Ok(());
        }
        let options = WriteOptions { extra: Extra::Keep, layout: Layout::Keep, misfits: Misfits::LeaveOut, ..Default::default() };
        let keep = WriteOptions { layout: Layout::Keep, ..Default::default() };
        let written = data.write_with(files.path("there.json"), second, &options).unwrap();
        prop_assert!(written.lost.is_empty());
        prop_assert_eq!(written.rows + written.left_out + written.labelled_bad, data.len() as u64);
        let there = Dataset::open(files.path("there.json")).unwrap();
        let fits = |i: &usize| {
            let losses = data.slice(*i, 1).unwrap().losses(second).unwrap();
            losses.left_out + losses.labelled_bad == 0
        };
        for (n, i) in (0..data.len()).filter(fits).enumerate() {
            let name = format!("{n}.jsonl");
            there.slice(n, 1).unwrap().write_with(files.path(&name), rows[i].0, &keep).unwrap();
            let back = lines(&files, &name);
            // An id that names the row's place says nothing at another place.
            let placeless = |row: &str| (1..=all.len()).fold(row.to_string(), |row, n| row.replace(&format!("\"id\":\"row-{n}\""), "\"id\":0"));
            let [back, all] = [&back[0], &normal(&all[i])].map(|row| placeless(row));
            let same = back.replace("\"id\":0,", "") == all.replace("\"id\":0,", "");
            prop_assert!(same, "{} is not {}", back, all);
        }
    }
}
