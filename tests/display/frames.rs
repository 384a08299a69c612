//! Data frames in a notebook, and what joins them: one line a cell, types below names, `row` and `line` in all of
//! them.

use crate::common::tiny;
use crate::common::tiny::{Bench, Tiny};
use lorascope::display::{Align, Show, Table};
use lorascope::error::Result;
use lorascope::format::ProblemKind;
use lorascope::polars::prelude::*;
use lorascope::prelude::*;

#[test]
fn a_long_text_is_one_line_with_the_whole_of_it_under_the_pointer() {
    let long = format!("begins \"here\"\r\nand {}", "goes on ".repeat(50));
    let frame = df!("text" => [long.as_str(), "short"], "loss" => [0.5, 0.25]).unwrap();
    let html = frame.show().html;
    assert!(html.contains(">begins &quot;here&quot;⏎and goes on "), "{html}");
    assert!(html.contains("title=\"begins &quot;here&quot;\nand goes on "), "{html}");
    let shown = html.split_once("begins").unwrap().1.split_once("</td>").unwrap().0;
    let shown = shown.rsplit_once('>').unwrap().1;
    assert!(shown.ends_with('…') && shown.chars().count() <= 72 + 1 + 2 * "&quot".len(), "{shown}");
    // What is whole needs no second one.
    assert_eq!(html.matches("title=").count(), 1, "{html}");
    // Wide letters take two columns.
    let wide = df!("text" => ["水".repeat(200)]).unwrap().show().html;
    let shown = wide.rsplit_once("</td>").unwrap().0.rsplit_once('>').unwrap().1;
    assert_eq!(shown, format!("{}…", "水".repeat(36)));
}

#[test]
fn types_are_small_below_names_and_texts_are_not_squeezed() {
    let frame = df!("text" => ["a few words that fill a line of a column"], "loss" => [0.5]).unwrap();
    let html = frame.show().html;
    let (head, body) = html.split_once("<tbody>").unwrap();
    assert!(
        head.contains(">loss<div style=\"font-weight:normal;font-size:80%;opacity:0.7\">f64</div>"),
        "{head}"
    );
    assert!(body.contains("white-space:pre\"") && !body.contains("overflow-wrap"), "{body}");
    assert!(frame.show().text.contains("text str"), "{}", frame.show().text);
    // A column of words in another table has room, however many columns there are.
    let mut table = Table::new([("text", Align::Left)]);
    table.row(["a few words that fill a line of a column"]);
    assert!(table.show().html.contains("overflow-wrap:anywhere;min-width:14em"), "{}", table.show().html);
}

#[test]
fn a_line_break_of_windows_is_one_and_each_text_has_its_own_direction() {
    let text = Text::new("one\r\ntwo\rthree\nfour").show();
    assert!(
        text.html.contains("dir=\"auto\"") && text.html.contains(">one\ntwo\nthree\nfour<"),
        "{}",
        text.html
    );
    let mut table = Table::new([("", Align::Left), ("words", Align::Left)]);
    table.row(["מימין", "one\r\ntwo"]);
    let shown = table.show();
    assert_eq!(shown.html.matches("<td dir=\"auto\"").count(), 2, "{}", shown.html);
    assert!(
        shown.html.contains(">one\ntwo<") && shown.text.contains("one⏎two"),
        "{} {}",
        shown.html,
        shown.text
    );
}

const ROWS: &str = "{\"id\":\"a\",\"instruction\":\"1 + 1 = ?\",\"output\":\"2\"}\nnot a record\n\
    {\"id\":\"b\",\"instruction\":\"2 + 2 = ?\",\"output\":\"\\n\\n4\"}\n{\"id\":\"c\",\"instruction\":\"3 + 3 = ?\",\"output\":\"6\"}\n";

#[test]
fn tables_of_rows_losses_and_problems_join() -> Result<()> {
    let bench = Bench::new();
    let (model, data) = (bench.model(Tiny::default())?, bench.data("rows.jsonl", ROWS)?);
    let columns = data.columns()?;
    assert_eq!(columns.get_column_names()[..3], ["row", "id", "line"]);
    let problems = data.problems()?;
    assert_eq!(problems.get_column_names(), ["file", "line", "row", "id", "kind", "outcome", "what", "fix"]);
    let rows: Vec<Option<u32>> = problems.column("row")?.u32()?.iter().collect();
    let lines: Vec<Option<u32>> = problems.column("line")?.u32()?.iter().collect();
    assert_eq!((rows, lines), (vec![None, Some(1)], vec![Some(2), Some(3)]));
    let on = || [col("row"), col("line")];
    let args = || JoinArgs::new(JoinType::Inner);
    let joined = problems.lazy().join(columns.clone().lazy(), on(), on(), args()).collect()?;
    assert_eq!(joined.column("last_answer")?.str()?.get(0), Some("\n\n4"));

    // A part of the rows counts them anew, in all three.
    let part = data.filter(col("row").gt(lit(0)))?;
    assert_eq!(part.problems()?.column("row")?.u32()?.get(0), Some(0));
    let run = Run::new("joined", &model, &part, tiny::config().batch(2))?;
    run.steps(2)?;
    let losses = run.example_losses()?;
    assert_eq!(
        losses.get_column_names(),
        ["data", "row", "line", "id", "source", "epoch", "step", "tokens", "loss"]
    );
    let joined = losses.lazy().join(part.columns()?.lazy(), on(), on(), args()).collect()?;
    assert_eq!(joined.height(), 4);
    assert!(joined.column("id")?.str()?.iter().eq(joined.column("id_right")?.str()?.iter()));
    Ok(())
}

#[test]
fn a_character_that_turns_the_direction_is_reported() -> Result<()> {
    let bench = Bench::new();
    let rows = "{\"instruction\":\"what is in photo_\\u202egpj.exe?\",\"output\":\"a program\"}\n\
                {\"instruction\":\"שלום — “good” day\",\"output\":\"good day\\u200f\"}\n";
    let report = bench.data("rows.jsonl", rows)?.report()?;
    let found: Vec<_> = report.problems.iter().filter(|p| p.kind == ProblemKind::TurnedDirection).collect();
    let [found] = found[..] else { panic!("{report}") };
    assert_eq!((found.count, found.places[0].lines.as_slice()), (1, &[1][..]));
    assert!(
        found.example.contains("turn 1 (user)") && found.example.contains("\\u{202e}"),
        "{}",
        found.example
    );
    Ok(())
}

#[test]
fn a_saved_report_says_where_it_is() -> Result<()> {
    let bench = Bench::new();
    let report = bench.data("rows.jsonl", ROWS)?.report()?;
    let path = bench.folder.path().join("report.html");
    let said = report.save_html(&path)?;
    assert!(said.as_str().starts_with(&format!("report written to {} (", path.display())), "{said}");
    assert_eq!(report.overwrite_html(&path)?, said);
    Ok(())
}

#[test]
fn a_layer_is_called_by_the_end_of_its_path_everywhere() -> Result<()> {
    let bench = Bench::new();
    let (model, data) = (bench.model(Tiny::default())?, bench.data("rows.jsonl", ROWS)?);
    let run = Run::new("named", &model, &data, tiny::config())?;
    run.steps(1)?;
    let (adapters, whole) = (run.adapters(), "model.layers.0.self_attn.q_proj");
    for name in [whole, "layers.0.self_attn.q_proj", "q_proj"] {
        assert_eq!(run.inspect(name)?.module, whole);
        assert_eq!(model.base_weight(name)?.name(), whole);
        assert_eq!(model.decoder().base_weight_of(&adapters, name)?.name(), whole);
        assert_eq!(run.spectra()?.get(name)?.name, whole);
        assert_eq!(adapters.vectors(name)?.u.dims(), [32, 2]);
        assert_eq!(model.decoder().effective_spectrum(&adapters, name)?.name, whole);
        run.spectra_history()?.traces(name)?;
    }
    for name in ["_proj", "layers.1.self_attn.q_proj", "elf_attn.q_proj"] {
        assert!(model.base_weight(name).unwrap_err().is_not_found(), "{name}");
        assert!(adapters.vectors(name).is_err() && run.spectra()?.get(name).is_err(), "{name}");
    }
    Ok(())
}
