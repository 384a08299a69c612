//! The generator of school problems: right answers, the promised faults, the committed files.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use crate::common::generate::rows::{Exercise, Faults, Generate, Kinds, RowShape};
use lorascope::dataset::Dataset;

/// Every `left = right` of a text as the characters around its equals sign.
fn equations(text: &str) -> Vec<(String, String)> {
    let part_of_left = |c: &char| c.is_ascii_digit() || " .+-×÷".contains(*c);
    text.match_indices(" = ")
        .map(|(at, _)| {
            let left: Vec<char> = text[..at].chars().rev().take_while(part_of_left).collect();
            let right: String =
                text[at + 3..].chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            (
                left.into_iter().rev().collect::<String>().trim().to_string(),
                right.trim_end_matches('.').into(),
            )
        })
        .collect()
}

/// Calculates `a op b op c`, multiplication and division first.
fn calculate(expression: &str) -> f64 {
    let mut words = expression.split_whitespace();
    let number = |word: Option<&str>| -> f64 {
        word.unwrap_or_else(|| panic!("{expression}: a number is missing")).parse().unwrap()
    };
    let mut terms = vec![number(words.next())];
    while let Some(sign) = words.next() {
        let value = number(words.next());
        let last = terms.last_mut().unwrap();
        match sign {
            "+" => terms.push(value),
            "-" => terms.push(-value),
            "×" => *last *= value,
            "÷" => *last /= value,
            other => panic!("{expression}: {other} is no sign"),
        }
    }
    terms.iter().sum()
}

fn numbers(text: &str) -> Vec<String> {
    let pieces = text.split(|c: char| !c.is_ascii_digit() && c != '.');
    pieces.map(|n| n.trim_matches('.').to_string()).filter(|n| !n.is_empty()).collect()
}

fn question(exercise: &Exercise) -> &str {
    if exercise.input.is_empty() { &exercise.instruction } else { &exercise.input }
}

fn plan(kinds: Kinds) -> Generate {
    Generate { seed: 5, kinds, ..Generate::default() }
}

fn is_chinese(exercise: &Exercise) -> bool {
    exercise.kind.starts_with("zh")
}

#[test]
fn every_equation_holds_and_the_last_number_is_the_answer() {
    for kinds in [Kinds::Training, Kinds::HeldOut] {
        for i in 0..20_000 {
            let exercise = plan(kinds).exercise(i);
            let all = equations(&exercise.output);
            assert!(!all.is_empty(), "no equation: {exercise:?}");
            for (left, right) in &all {
                let right: f64 = right.parse().unwrap();
                assert!((calculate(left) - right).abs() < 1e-9, "{left} is not {right}: {exercise:?}");
            }
            assert_eq!(numbers(&exercise.output).last(), Some(&exercise.value), "{exercise:?}");
            // The value is what the last calculation gave, not a number from elsewhere.
            assert_eq!(all.last().unwrap().1, exercise.value, "{exercise:?}");
        }
    }
}

#[test]
fn the_calculation_starts_from_the_numbers_of_the_question() {
    for kinds in [Kinds::Training, Kinds::HeldOut] {
        for i in 0..5_000 {
            let exercise = plan(kinds).exercise(i);
            let used: BTreeSet<String> = numbers(&exercise.output).into_iter().collect();
            let asked = numbers(question(&exercise));
            assert!(asked.iter().all(|n| used.contains(n)), "a number is not used: {exercise:?}");
        }
    }
}

/// Solves some kinds by trying all answers, without the formula that the generator uses.
#[test]
fn trying_all_answers_finds_the_same() {
    let mut tried: HashMap<String, usize> = HashMap::new();
    for kinds in [Kinds::Training, Kinds::HeldOut] {
        for i in 0..5_000 {
            let exercise = plan(kinds).exercise(i);
            let n: Vec<i64> =
                numbers(question(&exercise)).iter().map(|n| n.parse().unwrap_or_default()).collect();
            let fits = |x: i64| match exercise.kind.as_str() {
                "zh-cage" => Some(4 * x + 2 * (n[0] - x) == n[1]),
                "en-coins" => Some(10 * x + 5 * (n[0] - x) == n[1]),
                "zh-chase" => Some(n[0] * x + n[2] == n[1] * x),
                "zh-surplus" => Some(n[0] * x + n[1] == n[2] * x - n[3]),
                "zh-joint-work" => Some((n[1] + n[2]) * x == n[0]),
                "en-consecutive" => Some(x + (x - 1) + (x - 2) == n[0]),
                "zh-ratio" => Some(x * (n[0] + n[1]) == n[2] * n[1]),
                "zh-trees" => Some((x - 1) * n[1] == n[0]),
                _ => None,
            };
            if fits(0).is_none() {
                continue;
            }
            let found: Vec<i64> = (0..20_000).filter(|&x| fits(x) == Some(true)).collect();
            assert_eq!(found, [exercise.value.parse::<i64>().unwrap()], "{exercise:?}");
            *tried.entry(exercise.kind.clone()).or_default() += 1;
        }
    }
    assert_eq!(tried.len(), 8);
    assert!(tried.values().all(|&n| n > 50), "{tried:?}");
}

#[test]
fn kinds_are_many_short_and_apart() {
    let mut seen: [BTreeSet<String>; 2] = Default::default();
    for (kinds, seen) in [Kinds::Training, Kinds::HeldOut].into_iter().zip(&mut seen) {
        for i in 0..5_000 {
            let exercise = plan(kinds).exercise(i);
            if is_chinese(&exercise) {
                let asked = exercise.instruction.chars().count() + exercise.input.chars().count();
                assert!(asked <= 65, "{asked} characters: {exercise:?}");
                assert!(exercise.output.chars().count() <= 90, "{exercise:?}");
            } else {
                let words = |text: &str| text.split_whitespace().count();
                assert!(words(&exercise.instruction) + words(&exercise.input) <= 45, "{exercise:?}");
                assert!(words(&exercise.output) <= 60, "{exercise:?}");
            }
            seen.insert(exercise.kind);
        }
    }
    let [training, held_out] = &seen;
    let chinese = training.iter().filter(|kind| kind.starts_with("zh")).count();
    assert_eq!((training.len(), chinese, held_out.len()), (48, 32, 12));
    assert!(training.is_disjoint(held_out));
}

#[test]
fn rows_seldom_repeat() {
    let plan = Generate { seed: 1, ..Generate::default() };
    let questions: BTreeSet<String> = (0..20_000).map(|i| question(&plan.exercise(i)).to_string()).collect();
    assert!(questions.len() > 19_500, "{} of 20,000 questions differ", questions.len());
}

#[test]
fn faults_are_as_many_as_promised() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let plan = Generate { rows: 10_000, seed: 3, faults: Faults::With, ..Generate::default() };
    assert_eq!(plan.write(&path).unwrap().rows, 10_000);
    let lines = std::fs::read_to_string(&path).unwrap();
    let broken: Vec<usize> = lines
        .lines()
        .enumerate()
        .filter(|(_, line)| serde_json::from_str::<serde_json::Value>(line).is_err())
        .map(|(i, _)| i / 2000)
        .collect();
    assert_eq!(broken, [0, 1, 2, 3, 4], "one in each two thousand");

    let data = Dataset::open(&path).unwrap();
    let report = data.report().unwrap();
    assert_eq!((report.rows, report.rejected), (9_995, 5));
    assert!((60..200).contains(&report.duplicates), "{} duplicates", report.duplicates);
    let breaks = report.problems.iter().find(|p| p.kind.name() == "leading line breaks").unwrap();
    assert!((600..1000).contains(&breaks.count), "{} with line breaks", breaks.count);
}

#[test]
fn a_row_depends_on_seed_and_number_alone() {
    let folder = tempfile::tempdir().unwrap();
    let write = |rows, name: &str| {
        let path = folder.path().join(name);
        Generate { rows, seed: 9, ..Generate::default() }.write(&path).unwrap();
        std::fs::read_to_string(path).unwrap()
    };
    let (long, short) = (write(5_000, "long.jsonl"), write(50, "short.jsonl"));
    assert!(long.starts_with(&short));
    let other = Generate { seed: 10, ..Generate::default() };
    let same = (0..200).filter(|&i| plan(Kinds::Training).exercise(i) == other.exercise(i)).count();
    assert!(same < 5, "{same} of 200 rows are the same under another seed");
}

#[test]
fn conversations_go_on_from_their_results() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("talks.json");
    let plan = Generate { rows: 400, shape: RowShape::Conversations, ..Generate::default() };
    plan.write(&path).unwrap();
    let data = Dataset::open(&path).unwrap();
    assert_eq!(data.len(), 400);
    let mut lengths: BTreeSet<usize> = BTreeSet::new();
    for i in 0..data.len() {
        let talk = data.conversation(i).unwrap();
        lengths.insert(talk.len());
        for exchange in talk.chunks(2).map(|pair| pair[1].text()) {
            for (left, right) in equations(exchange) {
                assert_eq!(calculate(&left), right.parse::<f64>().unwrap(), "{exchange}");
            }
        }
        for pair in talk.windows(3).step_by(2).map(|w| (&w[0], &w[2])) {
            assert_ne!(pair.0.text(), "", "{pair:?}");
        }
        for answers in talk.iter().skip(1).step_by(2).collect::<Vec<_>>().windows(2) {
            let before = numbers(answers[0].text()).pop().unwrap();
            assert!(numbers(answers[1].text()).contains(&before), "{answers:?}");
        }
    }
    assert_eq!(lengths, [4, 6, 8, 10].into());
}

/// The commands are in datasets/README.md.
#[test]
fn the_committed_files_come_out_again() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets");
    let plans = [
        ("school_math.jsonl", Generate { faults: Faults::With, ..Generate::default() }),
        ("school_math_heldout.jsonl", Generate { rows: 200, kinds: Kinds::HeldOut, ..Generate::default() }),
        ("conversations.json", Generate { rows: 300, shape: RowShape::Conversations, ..Generate::default() }),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (name, plan) in plans {
        let again = folder.path().join(name);
        plan.write(&again).unwrap();
        let (old, new) = (std::fs::read(committed.join(name)).unwrap(), std::fs::read(again).unwrap());
        assert!(old == new, "datasets/{name} is not what its command makes");
    }
    let held_out = Dataset::open(committed.join("school_math_heldout.jsonl")).unwrap();
    assert_eq!((held_out.len(), held_out.problems().unwrap().height()), (200, 0));
}

#[test]
fn nothing_cannot_be_generated_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let none = Generate { rows: 0, ..Generate::default() }.write(&path).unwrap_err();
    assert_eq!(none.to_string(), "0 rows cannot be generated; ask for at least 1");
    let plan = Generate { rows: 3, ..Generate::default() };
    plan.write(&path).unwrap();
    let error = plan.write(&path).unwrap_err();
    assert!(error.is_input());
    assert_eq!(
        error.to_string(),
        format!("{}: the file exists; choose another name, or say overwrite", path.display())
    );
    assert_eq!(plan.overwrite(&path).unwrap().rows, 3);
}
