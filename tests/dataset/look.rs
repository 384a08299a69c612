//! Cutting datasets, showing them, reporting on them, finding them again.

use crate::common::files::{Files, HOSTILE, message, schools};
use crate::common::generate::rows::Generate;
use lorascope::dataset::{Dataset, LengthSummary, Recipe};
use lorascope::display::{Align, Show, Table};
use lorascope::polars::prelude::*;
use lorascope::text::Tokenizer;

#[test]
fn a_split_keeps_like_questions_together() {
    let files = Files::new();
    let rows: String = (0..600)
        .map(|i| {
            let question = ["How many are {}?", "how many  are {}", "HOW MANY ARE {} ?"][i % 3];
            let question = question.replace("{}", &(i / 3).to_string());
            format!("{{\"instruction\": \"{question}\", \"output\": \"{i}\"}}\n")
        })
        .collect();
    let data = Dataset::open(files.put("like.jsonl", rows)).unwrap();
    let (train, test) = data.split(0.8, 7).unwrap();
    assert_eq!((train.len(), test.len()), (480, 120));
    let groups = |data: &Dataset| -> std::collections::BTreeSet<usize> {
        let answer = |i| data.conversation(i).unwrap()[1].text().parse::<usize>().unwrap() / 3;
        (0..data.len()).map(answer).collect()
    };
    assert!(groups(&train).is_disjoint(&groups(&test)));
    assert_eq!(groups(&train).len() + groups(&test).len(), 200);

    let again = data.split(0.8, 7).unwrap();
    assert_eq!(train.fingerprint().unwrap(), again.0.fingerprint().unwrap());
    assert_ne!(train.fingerprint().unwrap(), data.split(0.8, 8).unwrap().0.fingerprint().unwrap());
    let lines: Vec<u32> = train
        .frame()
        .unwrap()
        .collect()
        .unwrap()
        .column("line")
        .unwrap()
        .u32()
        .unwrap()
        .into_no_null_iter()
        .collect();
    assert!(lines.is_sorted(), "each side keeps its order");
    for (fraction, sizes) in [(0.0001, (3, 597)), (0.9999, (597, 3))] {
        let (a, b) = data.split(fraction, 1).unwrap();
        assert_eq!((a.len(), b.len()), sizes, "neither side is empty");
    }
    for fraction in [0.0, 1.0, -1.0, f64::NAN] {
        let error = data.split(fraction, 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("a dataset cannot be split at {fraction}; give a fraction between 0 and 1, such as 0.98")
        );
    }
    let error = data.head(3).unwrap().split(0.5, 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the 3 rows cannot be split: they are all alike; take more rows, or slice them \
         by number"
    );
}

#[test]
fn slices_and_filters() {
    let data = Dataset::open(schools("conversations.json")).unwrap();
    assert_eq!(
        (
            data.len(),
            data.head(7).unwrap().len(),
            data.slice(298, 10).unwrap().len(),
            data.slice(900, 1).unwrap().len()
        ),
        (300, 7, 2, 0)
    );
    assert_eq!(data.slice(5, 2).unwrap().conversation(0).unwrap(), data.conversation(5).unwrap());
    let long = data.filter(col("turns").gt(lit(8))).unwrap();
    assert!(!long.is_empty() && long.len() < 150, "{}", long.len());
    assert!((0..long.len()).all(|i| long.conversation(i).unwrap().len() == 10));
    let one = data.filter(col("id").eq(lit("school-17"))).unwrap();
    assert_eq!(one.conversation(0).unwrap(), data.conversation(16).unwrap());
    assert_eq!(data.filter(col("turns").gt(lit(99))).unwrap().len(), 0);
    let error = data.filter(col("nothing").gt(lit(8))).unwrap_err();
    assert!(error.is_input());
    let text = error.to_string();
    assert!(text.starts_with("no column is called \"nothing\"; the columns are row, id, line, "), "{text}");
    let error = data.filter(col("turns") + lit(1)).unwrap_err().to_string();
    assert!(error.starts_with("the expression cannot be used: "), "{error}");

    let columns = data.columns().unwrap();
    assert_eq!(
        columns.get_column_names(),
        ["row", "id", "line", "source", "turns", "chars", "lang", "first_user", "last_answer"]
    );
    let talk = data.conversation(3).unwrap();
    let chars: usize = talk.iter().map(|m| m.text().chars().count()).sum();
    assert_eq!(columns.column("chars").unwrap().u32().unwrap().get(3), Some(chars as u32));
    assert_eq!(columns.column("last_answer").unwrap().str().unwrap().get(3), talk.last().map(|m| m.text()));
    let empty = data.slice(0, 0).unwrap();
    assert_eq!(empty.report().unwrap().rows, 0);
    assert!(empty.show().text.starts_with("0 rows"));
    assert_eq!(empty.conversation(0).unwrap_err().to_string(), "there is no row 0: the dataset is empty");
}

#[test]
fn a_recipe_finds_the_same_rows_again_and_notices_a_changed_file() {
    let files = Files::new();
    let path = files.path("rows.jsonl");
    Generate { rows: 500, ..Generate::default() }.write(&path).unwrap();
    let data = Dataset::open(&path).unwrap();
    let (train, test) = data.split(0.9, 3).unwrap();
    let part = train.filter(col("chars").gt(lit(80))).unwrap().slice(10, 40).unwrap();
    for data in [&data, &test, &part] {
        let json = serde_json::to_string(&data.recipe().unwrap()).unwrap();
        let recipe: Recipe = serde_json::from_str(&json).unwrap();
        let again = Dataset::from_recipe(&recipe).unwrap();
        assert_eq!(again.len(), data.len());
        assert_eq!(again.fingerprint().unwrap(), data.fingerprint().unwrap());
        assert_eq!(again.recipe().unwrap(), data.recipe().unwrap());
    }
    assert_eq!(part.len(), 40);
    assert_ne!(part.fingerprint().unwrap(), test.fingerprint().unwrap());
    assert!(part.recipe().unwrap().path.is_absolute());

    let mut text = std::fs::read_to_string(&path).unwrap();
    let at = text.rfind('1').unwrap();
    text.replace_range(at..=at, "2");
    std::fs::write(&path, text).unwrap();
    let error = Dataset::from_recipe(&part.recipe().unwrap()).unwrap_err();
    assert!(error.is_state());
    let text = message(&error, &files);
    assert!(text.starts_with("rows.jsonl: the file has changed: it had "), "{text}");
    assert!(text.ends_with("; put the old file back, or open the new one with Dataset::open"), "{text}");
    std::fs::remove_file(&path).unwrap();
    assert!(Dataset::from_recipe(&part.recipe().unwrap()).unwrap_err().is_not_found());
    let wrong = Recipe {
        steps: vec![lorascope::dataset::Step::Keep { rows: vec![7000], why: String::new() }],
        ..data.recipe().unwrap()
    };
    Generate { rows: 500, ..Generate::default() }.write(&path).unwrap();
    assert!(Dataset::from_recipe(&wrong).is_err());
}

#[test]
fn hostile_text_shows_as_text() {
    let files = Files::new();
    let rows: Vec<String> = HOSTILE
        .iter()
        .map(|text| {
            serde_json::json!({"id": text, "conversations": [
                {"from": "human", "value": text}, {"from": "gpt", "value": text}]})
            .to_string()
        })
        .chain([serde_json::json!({"<i>EVCXR_END_CONTENT": 1}).to_string()])
        .collect();
    let data = Dataset::open(files.put("hostile.jsonl", rows.join("\n"))).unwrap();
    for (i, text) in HOSTILE.iter().enumerate() {
        assert_eq!(data.conversation(i).unwrap()[0].text(), *text, "stored as it is");
    }
    let shown = [data.show(), data.report().unwrap().show(), data.problems().unwrap().show()];
    for bundle in shown {
        for bad in ["<script", "<b>x", "<i>", "EVCXR_BEGIN", "EVCXR_END", "\u{0}", "\u{1b}", "onmouseover=\""]
        {
            assert!(!bundle.html.contains(bad), "{bad:?} in {}", bundle.html);
        }
        assert!(
            !bundle.text.contains("EVCXR_BEGIN") && !bundle.text.contains("EVCXR_END"),
            "{}",
            bundle.text
        );
    }
    let name = "EVCXR_BEGIN_CONTENT text.jsonl";
    let error = Dataset::open(files.path(name)).unwrap_err();
    assert!(!error.to_string().contains("EVCXR_BEGIN"));
}

#[test]
fn a_table_of_head_and_tail() {
    let data = Dataset::open(schools("school_math.jsonl")).unwrap();
    let text = data.show().text;
    assert!(text.starts_with("1,999 rows · "), "{text}");
    assert!(text.contains("problems: see problems() and report()"), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2 + 5 + 1 + 5);
    assert!(lines[12].trim_start().starts_with("1998"), "{}", lines[12]);
    assert_eq!(data.head(4).unwrap().to_string().lines().count(), 2 + 4);
    assert!(!data.show().html.contains("color:"), "no fixed colours");
}

#[test]
fn the_committed_file_has_its_faults_in_the_report() {
    let data = Dataset::open(schools("school_math.jsonl")).unwrap();
    let report = data.report().unwrap();
    assert_eq!((report.rows, report.rejected, report.turns.total), (1_999, 1, 3_998));
    assert_eq!(report.roles, [("assistant".to_string(), 1_999), ("user".to_string(), 1_999)].into());
    let columns = data.columns().unwrap();
    let chars = columns.column("chars").unwrap().u32().unwrap();
    assert_eq!(report.characters, LengthSummary::of(chars.into_no_null_iter().map(u64::from).collect()));
    assert!(report.figures()[0].show().text.contains("1,999 rows: characters "));
    assert_eq!(
        report.problems.iter().map(|p| p.count).sum::<u64>() as usize,
        data.problems().unwrap().height()
    );
    let text = report.to_string();
    for part in
        ["1,999 rows · 1 rejected", "broken JSON", "repair the line in the file", "Fix::Trim, or trim()"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    let (train, _) = data.split(0.5, 1).unwrap();
    let half = train.report().unwrap();
    assert_eq!(half.rejected, 0, "a part has no rejected rows");
    let breaks = |report: &lorascope::dataset::Report| {
        report.problems.iter().find(|p| p.kind.name() == "leading line breaks").map_or(0, |p| p.count)
    };
    assert!(breaks(&half) > 0 && breaks(&half) < breaks(&report));
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<lorascope::dataset::Report>(&json).unwrap(), report);
}

/// A tokenizer of one token a word, with a chat template that refuses the word "no".
fn words(files: &Files) -> Tokenizer {
    let vocabulary = r#"{"<unk>": 0, "user": 1, "assistant": 2}"#;
    files.put(
        "tokenizer.json",
        format!(
            r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": {{"type": "WhitespaceSplit"}}, "post_processor": null,
            "decoder": null, "model": {{"type": "WordLevel", "vocab": {vocabulary}, "unk_token": "<unk>"}}}}"#
        ),
    );
    files.put("tokenizer_config.json", "{}");
    let template = "{% for m in messages %}{% if m.content == 'no' %}{{ raise_exception('no!') }}{% endif %}\
                    {{ m.role }} {{ m.content }}\n{% endfor %}";
    Tokenizer::from_folder(files.0.path()).unwrap().with_template(template).unwrap()
}

#[test]
fn tokens_are_counted_under_the_chat_template() {
    let files = Files::new();
    let row =
        |words: usize| format!("{{\"instruction\": \"{}\", \"output\": \"x y\"}}\n", "w ".repeat(words));
    let rows: String = (1..=100).map(row).collect();
    let refused = "{\"instruction\": \"no\", \"output\": \"a\"}\n";
    let data = Dataset::open(files.put("rows.jsonl", rows + refused)).unwrap();
    let report = data.report_with(&words(&files)).unwrap();
    let tokens = report.tokens.unwrap();
    // user w…w assistant x y
    assert_eq!((tokens.p50, tokens.p90, tokens.p99, tokens.max), (54, 94, 103, 104));
    assert_eq!((tokens.mean, tokens.total), (54.5, 5450));
    assert!(report.figures()[0].show().text.contains("100 rows: tokens 5 to 104, median 5"));
    let problem = &report.problems[0];
    assert_eq!(
        (problem.kind.name(), problem.count, problem.places[0].lines.as_slice()),
        ("refused by the chat template", 1, &[101][..])
    );
    assert_eq!(report.rejected, 0);
    let report = data.slice(100, 1).unwrap().report_with(&words(&files)).unwrap();
    assert!(report.problems[0].example.contains("no!"), "{}", report.problems[0].example);
}

/// What a terminal and a notebook read as text: markers are broken there too, columns stand straight.
#[test]
fn the_plain_twin_of_a_table() {
    let mut table = Table::new([("EVCXR_BEGIN_CONTENT", Align::Right), ("fix", Align::Left)]);
    table.row(["1", &"long ".repeat(20)]);
    let text = table.to_string();
    assert!(!text.contains("EVCXR_BEGIN"), "{text}");
    assert!(text.contains(&"long ".repeat(20).trim_end().to_string()), "the last column is whole: {text}");

    let frame = df!("name" => ["三", "b"], "number" => [1u32, 22]).unwrap();
    let text = frame.show().text;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[1..], ["name str  number u32", "三                 1", "b                 22"]);
}
