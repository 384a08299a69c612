//! Every type that a notebook shows, filled with texts that would break a page, a formula, a line or the protocol.

use crate::common::tiny;
use crate::common::tiny::{Bench, Tiny};
use lorascope::candle_core::{Device, Tensor};
use lorascope::display::{Align, Cards, Page, Show, Table, dashboard};
use lorascope::error::{Error, Result};
use lorascope::plot::{self, Scale, Series};
use lorascope::polars::prelude::{DataType, IntoColumn, NamedFrom, df};
use lorascope::prelude::*;

/// Dollars, brackets of mathematics, markup, an entity, text from the right, a character that turns the direction,
/// breaks of Windows, markers of evcxr's protocol on lines of their own.
const AWKWARD: &str = "costs $5 or $7, \\(x\\) \\[y\\] $$z$$ \\begin{a} <script>alert(1)</script> <img src=x onerror=alert(1)> \
    &amp; \"quoted\" 'once' </svg></div></td> שלום עולם \u{202e}gnp.exe one\r\ntwo\nEVCXR_END_CONTENT\n\
    EVCXR_BEGIN_CONTENT text/html\n<b>injected</b>\nEVCXR_END_CONTENT\n\u{0}\u{1b}[31m\u{ffff}";

/// It, and a word that fits no line.
fn awkward() -> String {
    format!("{AWKWARD}{}", "w".repeat(3000))
}

/// What a notebook gets is HTML in which nothing of the text is markup, mathematics or protocol, and nothing makes
/// the page wider.
#[track_caller]
fn is_safe(name: &str, shown: &dyn Show) {
    let bundle = shown.show();
    let printed = bundle.printed();
    let marks: Vec<&str> = printed.lines().filter(|line| line.contains("EVCXR_")).collect();
    let expected = [
        "EVCXR_BEGIN_CONTENT text/html",
        "EVCXR_END_CONTENT",
        "EVCXR_BEGIN_CONTENT text/plain",
        "EVCXR_END_CONTENT",
    ];
    assert_eq!(marks, expected, "{name}: {printed}");
    let html = printed.split_once('\n').unwrap().1.split_once("\nEVCXR_END_CONTENT").unwrap().0;
    assert!(html.starts_with("<div class=\"mathjax_ignore tex2jax_ignore\">"), "{name}: {html}");
    balanced(name, html);
    for tag in ["<script", "<img src=x", "<b>injected", "onerror=alert(1)>"] {
        assert!(!html.contains(tag), "{name}: {tag} in {html}");
    }
    let texts = texts(html);
    for text in &texts {
        // A formula begins and ends in one text; an element that is not seen keeps its marks apart.
        for mark in ["$5", "$7", "$$", "\\(", "\\)", "\\[", "\\begin"] {
            assert!(!text.contains(mark), "{name}: {mark} in {text:?}");
        }
        assert!(!text.contains(['\u{0}', '\u{1b}', '\r']), "{name}: {text:?}");
    }
    assert!(
        !html.contains("\r\n") && !html.contains("one\n\ntwo") && !html.contains("one⏎⏎two"),
        "{name}: {html}"
    );
    assert!(
        !bundle.text.contains("\nEVCXR_") && !bundle.text.contains("one⏎⏎two"),
        "{name}: {}",
        bundle.text
    );
}

/// The tags of some HTML: the name, whether it ends an element, and what else stands in it.
fn tags(html: &str) -> Vec<(String, bool, String)> {
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(begin) = rest.find('<') {
        let end =
            begin + rest[begin..].find('>').unwrap_or_else(|| panic!("a tag has no end: {}", &rest[begin..]));
        let tag = &rest[begin + 1..end];
        let close = tag.starts_with('/');
        let name: String =
            tag.trim_start_matches('/').chars().take_while(char::is_ascii_alphanumeric).collect();
        tags.push((name, close, tag.to_string()));
        rest = &rest[end + 1..];
    }
    tags
}

/// Every element that begins ends, none is a stranger, and each long text may be broken or scrolls.
fn balanced(name: &str, html: &str) {
    const KNOWN: [&str; 40] = [
        "div", "span", "table", "thead", "tbody", "tr", "td", "th", "caption", "b", "br", "code", "dd",
        "details", "dl", "dt", "em", "h2", "h3", "h4", "hr", "i", "img", "li", "mark", "ol", "p", "pre",
        "section", "small", "strong", "style", "summary", "svg", "text", "line", "polyline", "polygon",
        "rect", "circle",
    ];
    let mut open: Vec<String> = Vec::new();
    for (tag, close, whole) in tags(html) {
        assert!(KNOWN.contains(&tag.as_str()), "{name}: <{whole}>");
        // The names of attributes: every other part between quotes is a value.
        let mut names = whole.split('"').step_by(2);
        assert!(!names.any(|part| part.contains(" on")), "{name}: <{whole}>");
        if close {
            assert_eq!(open.pop().as_deref(), Some(tag.as_str()), "{name}: {html}");
        } else if !whole.ends_with('/') && !["br", "hr", "img"].contains(&tag.as_str()) {
            open.push(tag);
        }
    }
    assert!(open.is_empty(), "{name}: {open:?} stay open");
}

/// The texts between tags, without those of a style sheet and of drawings, which no page looks into for formulas.
fn texts(html: &str) -> Vec<String> {
    let mut html = html.to_string();
    for (begin, end) in [("<style>", "</style>"), ("<svg ", "</svg>")] {
        while let Some(at) = html.find(begin) {
            let length = html[at..].find(end).unwrap() + end.len();
            html.replace_range(at..at + length, "");
        }
    }
    html.split('<').filter_map(|part| part.split_once('>')).map(|(_, text)| text.to_string()).collect()
}

/// Whether a word of 3,000 letters that is shown whole may be broken or lies in a box that scrolls.
fn fits(name: &str, shown: &dyn Show) {
    let html = shown.show().html;
    let mut styles: Vec<String> = Vec::new();
    let mut rest = html.as_str();
    while let Some(begin) = rest.find('<') {
        let (text, end) = (&rest[..begin], begin + rest[begin..].find('>').unwrap());
        if text.split_whitespace().any(|word| word.chars().count() > 300) {
            let ways = ["overflow-wrap:anywhere", "overflow-x:auto", "<svg"];
            let roomy = styles.iter().any(|style| ways.iter().any(|way| style.contains(way)));
            assert!(roomy, "{name}: nothing breaks {}… in {styles:?}", &text[..60.min(text.len())]);
        }
        let tag = &rest[begin..=end];
        if tag.starts_with("</") {
            styles.pop();
        } else if !["<br", "<hr", "<img"].iter().any(|void| tag.starts_with(void)) && !tag.ends_with("/>") {
            styles.push(tag.to_string());
        }
        rest = &rest[end + 1..];
    }
}

#[track_caller]
fn check(test: &str, shown: &[(&str, &dyn Show)]) {
    for (name, value) in shown {
        is_safe(name, *value);
        fits(name, *value);
    }
    // For tests/lab/check.py, which opens them in JupyterLab.
    if let Some(folder) = std::env::var_os("LORASCOPE_PAGES") {
        let html = |printed: String| {
            let begin = printed.split_once("text/html\n").unwrap().1;
            begin.split_once("\nEVCXR_END_CONTENT").unwrap().0.to_string()
        };
        let pages: Vec<(&str, String)> =
            shown.iter().map(|(name, value)| (*name, html(value.show().printed()))).collect();
        let path = std::path::Path::new(&folder).join(format!("{test}.json"));
        std::fs::write(path, serde_json::to_string(&pages).unwrap()).unwrap();
    }
}

#[test]
fn values_and_pages() -> Result<()> {
    let text = awkward();
    let mut table = Table::new([(text.as_str(), Align::Left), ("n", Align::Right)]).caption(text.as_str());
    table.row([text.as_str(), "1"]);
    table.row([text.as_str(), text.as_str()]);
    let whole = table.clone().whole();
    let name = text.as_str();
    let frame = df!(name => [name, "b"], "n" => [1u32, 2])?;
    let column = frame.column(name)?.clone();
    let series = lorascope::polars::prelude::Series::new(name.into(), [name]);
    let error: Result<Table> = Err(Error::format(name).path(name).line(1).help(name));
    let bad = frame.clone().lazy().select([col("none of these")]);
    check(
        "awkward_values",
        &[
            ("text", &Text::new(name)),
            ("string", &text),
            ("strings", &vec![text.clone(), text.clone()]),
            ("table", &table),
            ("whole table", &whole),
            ("cards", &Cards::new([(name, name, name)])),
            ("page", &Page::new(name).section(name, [table.show(), Text::new(name).show()])),
            ("dashboard", &dashboard(name, &[&table, &Text::new(name)])),
            ("frame", &frame),
            ("lazy frame", &frame.clone().lazy()),
            ("lazy frame that fails", &bad),
            ("column", &column),
            ("series", &series),
            ("cast", &series.cast(&DataType::String)?.into_column()),
            ("error", &error),
            ("option", &Some(Text::new(name))),
            ("three", &(Text::new(name), table.clone(), error.as_ref().map(Clone::clone))),
            ("list", &vec![Text::new(name), Text::new(name)]),
            ("path", &std::path::PathBuf::from(name)),
            ("tensor", &Tensor::new(&[[1f32, 2.]], &Device::Cpu)?),
            ("numbers", &vec![1.0, 2.0]),
        ],
    );
    Ok(())
}

#[test]
fn settings_and_spectra() -> Result<()> {
    let text = awkward();
    let name = text.as_str();
    let lora = LoraConfig {
        target_modules: TargetModules::Named(vec![text.clone()]),
        exclude_modules: vec![text.clone()],
        modules_to_save: vec![text.clone()],
        rank_pattern: [(text.clone(), 4)].into_iter().collect(),
        ..LoraConfig::default()
    };
    let matching =
        LoraConfig { target_modules: TargetModules::Matching(text.clone()), ..LoraConfig::default() };
    let config = RunConfig::default().lora(lora.clone()).init_from(name);
    let spectrum = Spectrum::from_slices(name, &[1., 0., 0., 1.], &[3., 0., 0., 1.], 2, 1.0)?;
    let spectra = Spectra::from(vec![
        spectrum.clone(),
        Spectrum { name: format!("layers.0.{name}"), ..spectrum.clone() },
    ]);
    let weight = BaseWeight::new(name, &Tensor::new(&[[10f32, 0.], [0., 0.5]], &Device::Cpu)?)?;
    let (a, b) = (Tensor::new(&[[0f32, 1.]], &Device::Cpu)?, Tensor::new(&[[0f32], [4.]], &Device::Cpu)?);
    let vectors = Vectors::of(name, &a, &b, 1.0)?;
    let series = Series::line(name, [(0.0, 1.0), (1.0, 2.0)]);
    let figure = plot::lines(
        name,
        name,
        name,
        &[series.clone(), Series::smoothed(name, [(0.0, 1.0)], 8.0)],
        Scale::Linear,
    )?;
    check(
        "awkward_settings",
        &[
            ("LoRA", &lora),
            ("LoRA by a pattern", &matching),
            ("run", &config),
            ("spectrum", &spectrum),
            ("spectra", &spectra),
            ("spectra drawn", &spectra.plot()?),
            ("map", &spectra.heat_map()?),
            ("advice", &spectra.advise(0.9)?),
            ("weight", &weight),
            ("vectors", &vectors),
            ("overlap", &SubspaceOverlap::of(&vectors, &vectors, Side::Right, (1, 1), 1)?),
            ("amplification", &Amplification::of(&weight, &vectors, 1, 1)?),
            ("intruders", &Intruders::of(&weight, &vectors, &IntruderConfig::default())?),
            ("series", &series),
            ("figure", &figure.with_footer(name)),
            ("dark figure", &figure.with_theme(Theme::Dark)),
        ],
    );
    Ok(())
}

#[test]
fn data_and_runs() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny { context: 60_000, ..Tiny::default() })?;
    let text = awkward();
    // Short enough to be trained on, long enough to hold all that is awkward.
    let row = |user: &str, answer: &str| {
        serde_json::json!({"id": user, "messages": [
            {"role": "system", "content": AWKWARD},
            {"role": "user", "content": user},
            {"role": "assistant", "content": answer}], text.as_str(): user})
        .to_string()
            + "\n"
    };
    let lines = [row(&text, "2"), row(AWKWARD, AWKWARD), row("{{name}} \u{fffd}", &text), row("q", AWKWARD)];
    let broken = format!("not a record {AWKWARD}").replace(['\n', '\r'], " ");
    let data =
        bench.data("rows.jsonl", &format!("{}{}{broken}\n{}", lines[0], lines[1], lines[2..].concat()))?;
    assert_eq!(data.len(), 4);
    let report = data.report()?;
    check(
        "awkward_data",
        &[
            ("dataset", &data),
            ("problems", &data.problems()?),
            ("columns", &data.columns()?),
            ("turns", &data.turns()?),
            ("frame", &data.frame()?),
            ("row", &data.row(0)?),
            ("conversation", &data.conversation(1)),
            ("report", &report),
            ("losses", &data.losses(RowSchema::ShareGpt)?),
            ("what was written", &data.write("out.jsonl", RowSchema::ShareGpt)?),
            ("a faulty line", &data.line(3)?),
        ],
    );
    let short = data.slice(1, 1)?;
    let config = tiny::config().batch(1).eval(&short).context(60_000);
    let run = Run::new("awkward", &model, &short, config.clone())?;
    run.watch(&[AWKWARD], 1)?;
    run.steps(2)?;
    let low = run.fork("low", |config| config.lr = 1e-5)?;
    low.steps(1)?;
    let adapters = run.adapters();
    let question = [AWKWARD];
    let generate = GenerateConfig { max_tokens: 4, ..GenerateConfig::default() };
    let sets = model.adapter_sets();
    sets.add(AWKWARD, &adapters)?;
    check(
        "awkward_runs",
        &[
            ("model", &model),
            ("run", &run),
            ("status", &run.status()),
            ("step", &run.step()),
            ("history", &run.history()),
            ("spectra", &run.spectra()?),
            ("spectra over the steps", &run.spectra_history()?),
            ("dashboard", &run.dashboard()?),
            ("gradients", &run.gradients()?),
            ("inspection", &run.inspect("q_proj")?),
            ("batch", &run.batch()?),
            ("worst rows", &run.worst(2)?),
            ("answers", &run.answers()),
            ("losses of rows", &run.example_losses()?),
            ("rows left out", &run.left_out()?),
            ("changes", &run.changes()),
            ("evaluation", &run.evaluate()?),
            ("comparison of runs", &compare_runs(&[&run, &low])?),
            ("comparison of answers", &model.compare(&adapters, &question, &generate)?),
            ("adapters", &adapters),
            ("status of adapters", &model.adapter_status(&adapters)?),
            ("sets of adapters", &sets),
            ("preflight", &Preflight::of(&data, &model, &config)?),
            ("search for a rate", &run.find_lr(10)?),
        ],
    );
    Ok(())
}
