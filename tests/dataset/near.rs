//! Near-duplicates: what is planted is found, and nothing else.

use crate::common::clock;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use crate::common::files::Files;
use lorascope::dataset::Dataset;
use lorascope::dataset::near::{Signatures, THRESHOLD, similarity};
use serde_json::{Value as Json, json};

/// Numbers without a pattern (a linear congruential generator, its high bits).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn chinese(&mut self) -> char {
        char::from_u32(0x4e00 + self.below(2500) as u32).unwrap()
    }

    /// Chinese characters, or English-looking words.
    fn text(&mut self, length: usize) -> Vec<char> {
        match self.below(2) {
            0 => (0..length).map(|_| self.chinese()).collect(),
            _ => (0..length)
                .map(|_| match self.below(6) {
                    0 => ' ',
                    _ => char::from(b'a' + self.below(26) as u8),
                })
                .collect(),
        }
    }
}

/// The Jaccard index, worked out in another way than the library does.
fn jaccard(a: &str, b: &str) -> f64 {
    let set = |text: &str| -> HashSet<Vec<char>> {
        let plain: Vec<char> =
            text.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect();
        if plain.len() < 5 { [plain].into() } else { plain.windows(5).map(<[char]>::to_vec).collect() }
    };
    let (a, b) = (set(a), set(b));
    a.intersection(&b).count() as f64 / a.union(&b).count() as f64
}

/// Texts of which each even one has its changed copy behind it.
fn planted(pairs: usize) -> Vec<String> {
    let mut random = Random(7);
    let mut texts = Vec::new();
    for _ in 0..pairs {
        let length = 60 + random.below(300);
        let mut text = random.text(length);
        texts.push(text.iter().collect());
        for _ in 0..random.below(1 + length / 30) {
            let at = random.below(text.len());
            match random.below(3) {
                0 => text[at] = random.chinese(),
                1 => drop(text.remove(at)),
                _ => text.insert(at, random.chinese()),
            }
        }
        texts.push(text.iter().collect());
    }
    texts
}

fn clusters(texts: &[String], threshold: f64) -> Vec<Vec<u32>> {
    Signatures::of(texts).clusters(threshold, texts).unwrap()
}

#[test]
fn planted_duplicates_are_found_and_nothing_else_is() {
    let texts = planted(4000);
    let similarities: Vec<f64> = texts.chunks(2).map(|pair| jaccard(&pair[0], &pair[1])).collect();
    for (pair, &real) in texts.chunks(2).zip(&similarities) {
        assert!((similarity(&pair[0], &pair[1]) - real).abs() < 1e-12);
    }
    for threshold in [0.6, THRESHOLD, 0.9] {
        let found = clusters(&texts, threshold);
        let mut together = BTreeSet::new();
        for cluster in &found {
            assert_eq!(cluster.len(), 2, "random texts share nothing");
            assert_eq!((cluster[0] % 2, cluster[1]), (0, cluster[0] + 1));
            let real = similarities[cluster[0] as usize / 2];
            assert!(real >= threshold, "{real} is below {threshold}");
            together.insert(cluster[0] as usize / 2);
        }
        assert!(found.is_sorted());
        for (above, recall) in [(threshold, 0.95), (threshold + 0.05, 0.99)] {
            let wanted: Vec<usize> = (0..similarities.len()).filter(|&i| similarities[i] >= above).collect();
            assert!(wanted.len() > 300, "{} pairs above {above}", wanted.len());
            let got = wanted.iter().filter(|pair| together.contains(pair)).count();
            let got = got as f64 / wanted.len() as f64;
            assert!(got >= recall, "{got} of the pairs above {above} at {threshold}");
        }
    }
}

#[test]
fn white_space_case_and_full_width_forms_do_not_count() {
    let texts: Vec<String> = [
        "How many apples are there?",
        "how MANY apples\nare  there？",
        "",
        "一二",
        " \n\t",
        "一\n二",
        "一二三",
        "ＡＢＣ１２３",
        "abc123",
        "\u{0}",
    ]
    .map(String::from)
    .into();
    let found = clusters(&texts, 1.0);
    assert_eq!(found, [vec![0, 1], vec![3, 5], vec![7, 8]], "texts that say nothing are like no other");
    assert_eq!(similarity("", ""), 0.0);
    assert_eq!(similarity("一二", "一 二"), 1.0);
}

#[test]
fn chains_are_one_cluster_whatever_the_threads() {
    let mut random = Random(3);
    let mut texts = vec![random.text(200)];
    for i in 1..40 {
        let mut next = texts[i - 1].clone();
        for at in [20, 120] {
            next[(at + 7 * i) % 200] = random.chinese();
        }
        texts.push(next);
    }
    let mut texts: Vec<String> = texts.into_iter().map(|text| text.into_iter().collect()).collect();
    assert!(jaccard(&texts[0], &texts[1]) > 0.85 && jaccard(&texts[0], &texts[39]) < 0.5);
    texts.extend(planted(300));
    let found = clusters(&texts, THRESHOLD);
    assert_eq!(found[0], (0..40).collect::<Vec<u32>>());
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| clusters(&texts, THRESHOLD)), found);
    }
}

#[test]
fn large_families_are_not_compared_pair_by_pair() {
    let begun = Instant::now();
    let same = vec!["Say hello in three languages, please.".to_string(); 100_000];
    assert_eq!(clusters(&same, THRESHOLD), [(0..100_000).collect::<Vec<u32>>()]);
    // All alike, no two equal.
    let long = "Count to one hundred and say every number aloud, then write the last one down. ".repeat(4);
    let alike: Vec<String> = (0..10_000).map(|i| format!("{long}{i}")).collect();
    assert_eq!(clusters(&alike, THRESHOLD), [(0..10_000).collect::<Vec<u32>>()]);
    // 5 · 10⁹ comparisons would take minutes.
    clock::within(begun, Duration::from_secs(60));
}

#[test]
fn matches_name_the_most_similar_text() {
    let here = planted(500);
    let mut random = Random(11);
    let fresh: String = random.text(100).into_iter().collect();
    let there: Vec<String> = vec![
        fresh,
        here[301].clone(),
        format!("{} ", here[600].to_uppercase()),
        String::new(),
        here[10].chars().skip(2).collect(),
    ];
    let (a, b) = (Signatures::of(&here), Signatures::of(&there));
    let found = a.matches(here.as_slice(), &b, there.as_slice(), THRESHOLD).unwrap();
    let best = |text: &str| {
        let all = here.iter().map(|other| jaccard(other, text)).enumerate();
        all.fold((0, 0.0), |best, (i, real)| if real > best.1 { (i as u32, real) } else { best })
    };
    assert_eq!(found.iter().map(|(_, other, _)| *other).collect::<Vec<_>>(), [1, 2, 4]);
    for (row, other, similarity) in found {
        let (expected, real) = best(&there[other as usize]);
        assert_eq!(row, expected);
        assert!((similarity - real).abs() < 1e-12);
    }
}

#[test]
fn thresholds_out_of_range_are_refused() {
    let texts = planted(3);
    for threshold in [0.0, 0.49, 1.01, -1.0, f64::NAN, f64::INFINITY] {
        let error = Signatures::of(&texts).clusters(threshold, texts.as_slice()).unwrap_err();
        assert!(error.is_input());
        assert_eq!(
            error.to_string(),
            format!(
                "rows cannot be compared at a similarity of {threshold}; give a threshold from 0.5 to 1, such as 0.8"
            )
        );
    }
    assert!(clusters(&[], THRESHOLD).is_empty());
}

#[test]
fn rows_of_a_dataset_in_groups() {
    let files = Files::new();
    let texts = planted(3000);
    let rows: String = texts
        .iter()
        .map(|text| {
            let half = text.chars().count() / 2;
            let (question, answer): (String, String) =
                (text.chars().take(half).collect(), text.chars().skip(half).collect());
            format!(
                "{}\n",
                serde_json::json!({"instruction": format!("q{question}"), "output": format!("{answer}a")})
            )
        })
        .collect();
    let data = Dataset::open(files.put("rows.jsonl", rows)).unwrap();
    assert_eq!(data.len(), 6000, "more than one piece of rows");
    let found: BTreeMap<u32, Vec<u32>> =
        data.near_duplicates(THRESHOLD).unwrap().into_iter().map(|rows| (rows[0], rows)).collect();
    let said = |i: u32| {
        let talk = data.conversation(i as usize).unwrap();
        format!("{}{}", talk[0].text(), talk[1].text())
    };
    let mut wanted = 0;
    for i in (0..6000).step_by(2) {
        let real = jaccard(&said(i), &said(i + 1));
        assert!(real >= THRESHOLD || !found.contains_key(&i), "{i}");
        wanted += usize::from(real >= THRESHOLD);
    }
    assert!(found.len() as f64 > 0.95 * wanted as f64 && wanted > 1000, "{} of {wanted}", found.len());
    assert!(data.near_duplicates(0.2).unwrap_err().is_input());
}

/// Rows that say the same of which another thing is to be learned are no duplicates of each other.
#[test]
fn what_is_to_be_learned_keeps_rows_apart() {
    let files = Files::new();
    let long =
        "Bread is made of flour, water, salt and time, and nobody has ever found out which of the four";
    let turns = |weight: u8| json!({"messages": [{"role": "user", "content": long}, {"role": "assistant", "content": format!("{long} matters."), "weight": weight}]});
    let judged = |label: Json, end: &str| json!({"prompt": long, "completion": format!("{long} {end}"), "label": label});
    let pair = |chosen: &str, rejected: &str| json!({"prompt": long, "chosen": format!("{long} {chosen}"), "rejected": format!("{long} {rejected}")});
    let user = |text: &str| json!({"role": "user", "content": text});
    let answer = |end: &str| json!({"role": "assistant", "content": format!("{long} {end}")});
    let weighted = |end: &str, weight: u8| json!({"messages": [user(long), {"role": "assistant", "content": format!("{long} {end}"), "weight": weight}]});
    let calls = |chosen: &str, rejected: &str| {
        let call = |name: &str| json!([{"role": "assistant", "content": null, "tool_calls": [{"type": "function", "function": {"name": name, "arguments": {}}}]}]);
        json!({"prompt": [user(&long.repeat(4))], "chosen": call(chosen), "rejected": call(rejected)})
    };
    for (name, rows, groups) in [
        (
            "labels.jsonl",
            vec![judged(true.into(), "counts."), judged(false.into(), "counts"), judged(json!(1), "counts!")],
            vec![vec![0, 2]],
        ),
        ("weights.jsonl", vec![turns(1), turns(0)], vec![]),
        ("pairs.jsonl", vec![pair("is first.", "is last."), pair("is last.", "is first.")], vec![]),
        // As the comparison of texts has it: case does not count, calls do.
        ("case.jsonl", vec![pair("Paris", "Rome"), pair("Rome", "paris")], vec![]),
        ("small.jsonl", vec![pair("Paris", "Rome"), pair("paris", "Rome")], vec![vec![0, 1]]),
        ("calls.jsonl", vec![calls("f", "g"), calls("g", "f"), calls("f", "g")], vec![vec![0, 2]]),
        // A label of a good answer says what an ordinary row does, and a turn more changes little.
        (
            "longer.jsonl",
            vec![
                judged(true.into(), "counts."),
                json!({"messages": [user(long), answer("counts."), user("Oh."), {"role": "assistant", "content": "Yes."}]}),
            ],
            vec![vec![0, 1]],
        ),
        // Two bad ones between two good ones that are not alike join nothing.
        (
            "chain.jsonl",
            vec![judged(true.into(), "counts"), judged(false.into(), "counts and"), weighted("counts", 0)],
            vec![],
        ),
        ("same.jsonl", vec![pair("is first.", "is last."), pair("is first.", "is last!")], vec![vec![0, 1]]),
    ] {
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let data = Dataset::open(files.put(name, text)).unwrap();
        assert_eq!(data.near_duplicates(THRESHOLD).unwrap(), groups, "{name}");
        let gone: usize = groups.iter().map(|rows| rows.len() - 1).sum();
        assert_eq!(data.dedup_near(THRESHOLD).unwrap().len(), rows.len() - gone, "{name}");
        assert_eq!(data.report().unwrap().near.groups, groups.len() as u64, "{name}");
        // On one side of a split they stay all the same.
        assert!(data.split(0.5, 1).is_err(), "{name}");
    }
}
