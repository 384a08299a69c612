//! The report: its numbers, its page, and what it does with hostile rows.

use crate::common::files::{Files, HOSTILE, MIXED, message, schools};
use lorascope::dataset::{Dataset, LengthSummary, Report, ReportConfig, Unit, language};
use lorascope::display::Show;
use lorascope::text::Tokenizer;

/// The page as a tree, after a check that nothing in it runs, loads or listens.
fn checked(report: &Report) -> String {
    let html = report.show().html;
    let document = format!("<div>{html}</div>");
    let document = roxmltree::Document::parse(&document).unwrap_or_else(|error| panic!("{error}"));
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let name = node.tag_name().name();
        assert!(!["script", "style", "iframe", "img", "a", "link", "form"].contains(&name), "<{name}>");
        for attribute in node.attributes() {
            let known = !attribute.name().starts_with("on") && !["src", "href"].contains(&attribute.name());
            assert!(known && !attribute.value().contains("url("), "{}", attribute.name());
        }
    }
    assert!(html.contains(">Lengths<") && html.contains(">Roles, schemas, languages<"), "{html}");
    let whole = report.html();
    assert!(whole.starts_with("<!doctype html>\n<html lang=\"en\">") && whole.ends_with("</html>\n"));
    assert!(whole.contains("prefers-color-scheme:dark") && whole.contains(&html));
    html
}

fn row(question: &str, answer: &str) -> String {
    format!("{}\n", serde_json::json!({"instruction": question, "output": answer}))
}

#[test]
fn the_numbers_of_a_small_file() {
    let files = Files::new();
    let long =
        "小红家的果园里有苹果树和梨树一共一百二十棵，苹果树比梨树多三十棵，请问苹果树和梨树各有多少棵？";
    let rows = [
        row(&"一".repeat(500), &"二".repeat(100)),
        row(&"三".repeat(2000), &"四".repeat(1000)),
        row("How many are there, and which of them is the largest?", "There are three of them."),
        row("How many are there, and which of them is the largest?", "There are three of them."),
        row("How many are there, and which of them is the best?", "There are three others, I believe."),
        row(long, "解：设梨树有x棵。"),
        row(&format!("{long}谢谢"), "解：设梨树有x棵。"),
        "{\"instruction\": \"cut".to_string(),
    ];
    let data = Dataset::open(files.put("small.jsonl", rows.concat())).unwrap();
    let report = data.report().unwrap();
    assert_eq!((report.file.as_str(), report.rows, report.rejected), ("small.jsonl", 7, 1));
    assert_eq!(report.unit, Unit::Characters);
    assert_eq!((report.characters.max, report.characters.min), (3000, 56));
    assert_eq!(report.languages, [("zh".to_string(), 4), ("en".to_string(), 3)]);

    // Rows are left out whole: so is what the column says.
    let cuts: Vec<(u64, u64, u64)> =
        report.contexts.iter().map(|c| (c.context, c.rows, c.left_out)).collect();
    assert_eq!(cuts, [(512, 2, 600 + 3000), (1024, 1, 3000), (2048, 1, 3000), (4096, 0, 0)]);
    assert_eq!(report.contexts[1].left_out_share, 3000.0 / report.characters.total as f64);
    let rest = report.characters.total - 3000;
    let packing = &report.packing;
    assert_eq!((packing.context, packing.rows, packing.length, packing.sequences), (2048, 6, rest, 1));
    assert_eq!(packing.paddings.iter().map(|p| p.batch).collect::<Vec<_>>(), [1, 4, 8, 16, 32]);
    // One batch of all six rows, padded to the longest of 600.
    assert_eq!((packing.paddings[2].computed, packing.paddings[0].computed), (3600, rest));
    assert!((packing.paddings[2].waste - (3600 - rest) as f64 / 3600.0).abs() < 1e-12);

    assert_eq!((report.duplicates, report.exact.groups, report.exact.rows), (1, 1, 2));
    assert_eq!(report.exact.largest[0].rows.iter().map(|r| r.line).collect::<Vec<_>>(), [3, 4]);
    assert_eq!((report.near.groups, report.near.rows, report.near.similarity), (2, 4, 0.8));
    assert_eq!(report.near.largest.len(), 1, "equal rows are shown as such");
    let near = &report.near.largest[0];
    assert_eq!((near.size, near.rows[1].row, near.rows[1].line), (2, 6, 7));
    assert!(near.rows[0].text.starts_with("小红家的果园"));

    let openings: Vec<(&str, u64)> = report.openings.iter().map(|o| (o.text.as_str(), o.count)).collect();
    assert_eq!(
        openings,
        [("There are three", 3), ("解：设梨树有x棵", 2), ("二二二二二二二二", 1), ("四四四四四四四四", 1)]
    );
    assert!((report.openings[0].share - 3.0 / 7.0).abs() < 1e-12);
    assert_eq!((report.longest[0].line, report.longest[0].length), (2, 3000));
    assert_eq!((report.shortest[0].line, report.shortest[0].length), (6, 56));
    assert_eq!(report.longest.len(), 7);

    let spread = |of: &str| report.spreads.iter().find(|spread| spread.of == of).unwrap();
    assert_eq!((spread("row").count, spread("assistant").lengths.max), (7, 1000));
    assert_eq!(spread("user").curve.last(), Some(&(2000, 1.0)));
    assert_eq!(spread("row").histogram.counts.iter().sum::<u64>() + spread("row").histogram.above, 7);

    let broken = &report.problems[0];
    assert_eq!((broken.kind.name(), broken.count), ("broken JSON", 1));
    assert_eq!(
        (broken.places[0].file.as_str(), broken.places[0].lines.as_slice()),
        ("small.jsonl", &[8][..])
    );
    assert_eq!(
        (broken.places[0].records.as_slice(), broken.places[0].rows.as_slice()),
        (&[Some(8)][..], &[None][..])
    );
    assert!(broken.example.contains("EOF"), "{}", broken.example);
    assert_eq!(report.examples.len(), 1);
    assert!(report.examples[0].messages[0].text().starts_with("一一"));

    let html = checked(&report);
    for part in
        ["small.jsonl", "<svg", "packed into 1 sequences", "There are three", "解：设梨树有x棵", "end"]
    {
        assert!(html.contains(part), "{part}");
    }
    assert_eq!(report.figures().len(), 3);
    let text = report.to_string();
    assert!(text.starts_with("7 rows · 1 rejected · 1 duplicates · 2 near-duplicates\n"), "{text}");

    let json = serde_json::to_string(&report).unwrap();
    assert!(!json.contains("<svg"), "numbers, not pictures");
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
}

#[test]
fn every_schema_has_its_example() {
    let files = Files::new();
    let report = Dataset::open(files.put("mixed.jsonl", MIXED)).unwrap().report().unwrap();
    let sources: Vec<&str> = report.examples.iter().map(|example| example.source.as_str()).collect();
    assert_eq!(sources, report.sources.keys().collect::<Vec<_>>());
    assert!(sources.contains(&"openai") && sources.contains(&"sharegpt") && sources.contains(&"alpaca"));
    let html = checked(&report);
    assert!(html.contains("Be brief.") || html.contains("Rules"));
    assert_eq!(report.roles.get("system"), Some(&3));
}

#[test]
fn hostile_rows_stay_text() {
    let files = Files::new();
    let rows: String = HOSTILE
        .iter()
        .flat_map(|text| [row(text, text), row(&format!("{text} "), text)])
        .chain([row("a\u{fffe}\u{ffff}\u{202e}b", "]]> <!-- &lt; </svg></div></section>")])
        .collect();
    let broken = "{\"<script>alert(1)</script>\": \"</details>\"}\n[\"<img src=x onerror=alert(1)>\"\n";
    let data = Dataset::open(files.put("<img src=x>.jsonl", rows + broken)).unwrap();
    let report = data.report().unwrap();
    assert_eq!(report.near.groups, HOSTILE.len() as u64);
    checked(&report);
    let shown = report.show();
    for text in [&shown.html, &shown.text, &report.html()] {
        assert!(!text.contains("EVCXR_BEGIN") && !text.contains("EVCXR_END"));
    }
    assert!(!shown.html.contains("<script") && !shown.html.contains("<img"));
}

#[test]
fn a_page_is_written_whole_or_not_at_all() {
    let files = Files::new();
    let report = Dataset::open(schools("school_math.jsonl")).unwrap().report().unwrap();
    let path = files.path("out/report.html");
    report.save_html(&path).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), report.html());
    let error = report.save_html(&path).unwrap_err();
    assert_eq!(
        message(&error, &files),
        "out/report.html: the file exists; choose another name, or say overwrite"
    );
    report.overwrite_html(&path).unwrap();
    let error = report.save_html(files.path("report.svg")).unwrap_err();
    assert_eq!(message(&error, &files), "report.svg: a report is written as HTML; end the name in .html");
    assert!(!files.path("report.svg").exists());
    assert!(report.html().len() < 400_000, "{} bytes", report.html().len());
}

#[test]
fn no_rows_and_bad_configs() {
    let data = Dataset::open(schools("conversations.json")).unwrap();
    let empty = data.slice(0, 0).unwrap().report().unwrap();
    assert_eq!((empty.rows, empty.near.groups, empty.packing.sequences), (0, 0, 0));
    assert!(empty.figures().is_empty() && empty.spreads.is_empty());
    checked(&empty);
    let json = serde_json::to_string(&empty).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), empty);

    let report = |config: ReportConfig| data.report_as(&config);
    let usual = ReportConfig::default();
    for (config, text) in [
        (
            ReportConfig { packing: 0, ..usual.clone() },
            "a report on a context of 0 says nothing; give 1 or more",
        ),
        (
            ReportConfig { contexts: vec![5, 0], ..usual.clone() },
            "a report on a context of 0 says nothing; give 1 or more",
        ),
        (
            ReportConfig { batches: vec![0], ..usual.clone() },
            "a report on a batch of 0 says nothing; give 1 or more",
        ),
        (
            ReportConfig { near: 0.3, ..usual.clone() },
            "rows cannot be compared at a similarity of 0.3; give a threshold from 0.5 to 1, such as 0.8",
        ),
    ] {
        assert_eq!(report(config).unwrap_err().to_string(), text);
    }
    let bare = ReportConfig { contexts: vec![], batches: vec![], shown: 0, ..usual.clone() };
    let bare = report(bare).unwrap();
    assert!(bare.contexts.is_empty() && bare.openings.is_empty() && bare.longest.is_empty());
    checked(&bare);
    assert!(serde_json::from_str::<ReportConfig>(r#"{"contexs": [1]}"#).is_err());
    assert_eq!(
        serde_json::from_str::<ReportConfig>(r#"{"near": 0.9}"#).unwrap(),
        ReportConfig { near: 0.9, ..usual }
    );
}

#[test]
fn tokens_where_a_tokenizer_is_given() {
    let files = Files::new();
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
    let template = "{% for m in messages %}{% if m.content == 'no' %}{{ raise_exception('no <b>!') }}{% endif %}\
                    {{ m.role }} {{ m.content }}\n{% endfor %}";
    let tokenizer = Tokenizer::from_folder(files.0.path()).unwrap().with_template(template).unwrap();
    let rows: String = (1..=100).map(|n| row(&"w ".repeat(n), "x y")).collect();
    let data = Dataset::open(files.put("rows.jsonl", rows + &row("no", "a"))).unwrap();
    let config = ReportConfig { contexts: vec![54], packing: 104, batches: vec![100], ..Default::default() };
    let report = data.for_tokenizer(&tokenizer).report_as(&config).unwrap();
    assert_eq!((report.unit, report.tokens.unwrap().total), (Unit::Tokens, 5450));
    // user w…w assistant x y: n + 4 tokens.
    assert_eq!((report.contexts[0].rows, report.contexts[0].left_out), (50, (55..=104).sum::<u64>()));
    assert_eq!((report.packing.rows, report.packing.paddings[0].computed), (100, 100 * 104));
    assert_eq!(report.longest[0].length, 104);
    let spread = |of: &str| report.spreads.iter().find(|spread| spread.of == of).unwrap();
    // This template has no generation prompt, so the header of the answer is said by the assistant.
    assert_eq!((spread("row").unit, spread("trained").lengths.total), (Unit::Tokens, 300));
    assert_eq!(spread("user").unit, Unit::Characters);
    let refused = &report.problems[0];
    assert_eq!(refused.kind.name(), "refused by the chat template");
    assert_eq!(
        (refused.places[0].lines.as_slice(), refused.places[0].rows.as_slice()),
        (&[101][..], &[Some(100)][..])
    );
    assert!(refused.example.contains("no <b>!"), "{}", refused.example);
    checked(&report);
    // A file of such rows alone has a report all the same; what takes its tokens says why there are none.
    let data = Dataset::open(files.put("refused.jsonl", row("no", "a") + &row("no", "b"))).unwrap();
    let data = data.for_tokenizer(&tokenizer);
    let report = data.report().unwrap();
    assert_eq!((report.problems[0].count, report.rows, report.tokens.unwrap().total), (2, 2, 0));
    checked(&report);
    assert_eq!(data.refused().unwrap().len(), 2);
    let error = data.max_tokens(10).unwrap_err().to_string();
    assert!(
        error.contains("refused.jsonl, line 1: the chat template refuses every row: ")
            && error.contains("no <b>!"),
        "{error}"
    );
}

#[test]
fn languages() {
    let known = [
        ("zh", "学校买来3箱铅笔，每箱40支，一共多少支？Answer: 120"),
        ("zh", "请用Python写一个快速排序。"),
        ("ja", "東京タワーの高さはどれくらいですか。"),
        ("ko", "서울의 인구는 얼마나 됩니까?"),
        ("en", "What is the capital of France, and how many people live there?"),
        ("en", "Write a function that sorts a list of numbers with the quicksort algorithm."),
        ("en", "Translate 你好 and 谢谢, and say which of them is the one that a guest says: 3 × 4 ÷ 2."),
        ("de", "Wie viele Einwohner hat die Hauptstadt von Frankreich, und warum ist sie so bekannt?"),
        ("fr", "Quelle est la capitale de la France et combien de personnes y habitent aujourd'hui ?"),
        ("es", "¿Cuál es la capital de Francia y cuántas personas viven allí en la actualidad?"),
        ("ru", "Какой город является столицей Франции и сколько там живёт людей?"),
        ("uk", "Яке місто є столицею Франції і скільки людей там живе? Її знають усі."),
        ("ar", "ما هي عاصمة فرنسا وكم عدد السكان الذين يعيشون هناك؟"),
        ("hi", "फ्रांस की राजधानी क्या है और वहाँ कितने लोग रहते हैं?"),
        ("th", "เมืองหลวงของฝรั่งเศสคืออะไร"),
        ("el", "Ποια είναι η πρωτεύουσα της Γαλλίας;"),
        ("vi", "Thủ đô của nước Pháp là gì và có bao nhiêu người sống ở đó?"),
        // Chinese where Chinese characters are, whatever else is there.
        ("zh", "\"serendipity\" 的定义是什么？"),
        ("zh", "使用 Python 实现 QuickSort"),
        ("zh", "Kubernetes Pod 重启"),
        ("zh", "翻译成中文：Knowledge is power, and the pen is mightier than the sword."),
        ("zh", "你好，我有一句法语需要翻译成英语。句子是“Je suis très heureux de vous rencontrer”。"),
        ("zh", "修改以下句子：He go to school yesterday."),
        ("ja", "Python でリストを並べ替える方法を教えてください"),
        ("en", "What does the Chinese word 你好 mean in English?"),
        // A few words of English are English, or nothing: never another language.
        ("en", "Who are you?"),
        ("en", "Sort the list."),
        ("en", "Rewrite the sentence in passive voice."),
        ("en", "Create a table of contents for a book about cats."),
        ("en", "Generate a random password"),
        ("en", "I’m hungry."),
        ("und", "B) Nile River"),
        ("und", "hello"),
        ("und", "Spaghetti carbonara"),
        ("de", "Was ist die Hauptstadt von Deutschland?"),
        ("fr", "Écris un poème sur l'automne."),
        ("it", "Scrivi una poesia sull'autunno."),
        ("es", "Escribe un poema sobre el otoño."),
        ("und", "12 × 7 = 84"),
        ("und", ""),
        ("und", "ok"),
    ];
    for (code, text) in known {
        assert_eq!(language::of(text), code, "{text}");
    }
    // Only the beginning counts, and its length costs nothing.
    assert_eq!(language::of(&("一".repeat(400) + &"word ".repeat(1_000_000))), "zh");
}

#[test]
fn preferences_labels_and_plain_texts() {
    let files = Files::new();
    let long = "The quick brown fox jumps over the lazy dog and runs away from all of its friends.";
    let rows = [
        serde_json::json!({"prompt": "Which is larger, 3 or 5?", "chosen": "It is 5.", "rejected": "<b>It is 3, I think.</b>"}),
        serde_json::json!({"prompt": "Which is larger, 3 or 5?", "completion": "It is 3.", "label": false}),
        serde_json::json!({"text": long}),
        serde_json::json!({"text": format!("{long} Good.")}),
    ];
    let rows: String = rows.iter().map(|row| format!("{row}\n")).collect();
    let data = Dataset::open(files.put("kinds.jsonl", rows)).unwrap();
    let report = data.report().unwrap();
    assert_eq!((report.rows, report.rejected), (4, 0));
    let roles: Vec<(&str, u64)> = report.roles.iter().map(|(role, count)| (role.as_str(), *count)).collect();
    assert_eq!(roles, [("assistant", 2), ("rejected", 1), ("text", 2), ("user", 2)]);
    assert_eq!(report.characters.max, long.len() as u64 + 6);
    assert_eq!(report.languages, [("en".to_string(), 4)]);
    assert_eq!((report.near.groups, report.near.largest[0].rows[1].line), (1, 4));
    let chars = data.columns().unwrap();
    let chars = chars.column("chars").unwrap().u32().unwrap().clone();
    assert_eq!(report.characters, LengthSummary::of(chars.into_no_null_iter().map(u64::from).collect()));

    let example = |row: u64| report.examples.iter().find(|example| example.row == row).unwrap();
    assert_eq!(example(0).rejected[0].text(), "<b>It is 3, I think.</b>");
    assert_eq!((example(1).label, example(1).messages.len()), (Some(false), 2));
    assert_eq!(example(2).text.as_deref(), Some(long));
    let html = checked(&report);
    for part in ["assistant, rejected", "labelled bad", "plain texts", "&lt;b&gt;It is 3"] {
        assert!(html.contains(part), "{part}");
    }
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
}
