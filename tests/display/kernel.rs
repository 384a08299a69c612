//! What a kernel hears that listens: displays that move, text at once, panels of runs.

use crate::common::clock::eventually;
use crate::common::fake_kernel::{FakeKernel, texts};
use crate::common::tiny;
use crate::common::tiny::{Bench, Tiny};
use lorascope::display::{Live, Progress, Show, attach_kernel};
use lorascope::error::Result;
use lorascope::prelude::*;
use serde_json::json;

const ROWS: &str = "{\"instruction\":\"1 + 1 = ?\",\"output\":\"2\"}\n{\"instruction\":\"2 + 2 = ?\",\"output\":\"4\"}\n\
                    {\"instruction\":\"3 + 3 = ?\",\"output\":\"6\"}\n{\"instruction\":\"4 + 4 = ?\",\"output\":\"8\"}\n";

#[test]
fn a_process_finds_the_kernel_of_its_environment_once() {
    let kernel = FakeKernel::attached_by(|path| {
        // SAFETY: this process runs one test, and no thread of it reads the environment yet.
        unsafe { std::env::set_var("LORASCOPE_KERNEL_SOCKET", path) };
        attach_kernel();
        attach_kernel();
    });
    show(&Text::new("a"));
    let heard = kernel.sync(1);
    assert_eq!(heard[0], json!({"hello": std::process::id()}));
    assert_eq!(texts(&heard, "display").len(), 1);
}

#[test]
fn displays_come_in_order_and_are_replaced_where_they_stand() {
    let kernel = FakeKernel::attach();
    let nasty = "</div><script>\nEVCXR_END_CONTENT\nEVCXR_BEGIN_CONTENT text/html\n$x$ \u{2028}\"}";
    let first = show(&Text::new("first"));
    let second = show(&Text::new(nasty));
    for n in 0..1000 {
        first.update(&Text::new(format!("first {n}")));
    }
    assert_eq!(first.show().printed(), "", "a handle that ends a cell shows nothing more");
    let heard = kernel.sync(1);
    let displays = texts(&heard, "display");
    assert_eq!(displays[0].1, "first");
    assert_ne!(displays[0].0, displays[1].0);
    assert!(displays.iter().all(|(id, _)| id.is_ascii() && id.starts_with("show-")), "{displays:?}");
    let updates = texts(&heard, "update");
    assert_eq!(updates.last(), Some(&(displays[0].0.clone(), "first 999".to_string())));
    assert!(updates.len() < 1000, "states that come faster than a person reads are left out");
    assert_eq!(heard.last(), Some(&json!({"synced": 1})), "the answer comes after all of it");
    let html = heard[2]["display"]["data"]["text/html"].as_str().unwrap();
    assert!(html.starts_with("<div class=\"mathjax_ignore") && !html.contains("<script>"), "{html}");

    // Cells later, by a handle that was kept.
    second.update(&Text::new("second"));
    let heard = kernel.sync(2);
    assert_eq!(texts(&heard, "update").last(), Some(&(displays[1].0.clone(), "second".to_string())));
    assert_eq!(texts(&heard, "display").len(), 2);
}

#[test]
fn progress_is_one_bar_that_moves_and_ends_in_its_last_state() {
    let kernel = FakeKernel::attach();
    drop(Progress::new("short", 10));
    let mut progress = Progress::new("reading <rows>", 0);
    eventually("a bar that moves", || {
        progress.advance(1, "bytes");
        (texts(&kernel.heard(), "update").len() >= 2).then_some(())
    });
    progress.set_total(progress.done());
    drop(progress);
    let heard = kernel.sync(1);
    let (displays, updates) = (texts(&heard, "display"), texts(&heard, "update"));
    assert_eq!(displays.len(), 1, "{displays:?}");
    assert!(updates.iter().all(|(id, _)| *id == displays[0].0), "{updates:?}");
    let (_, last) = updates.last().unwrap();
    assert!(last.starts_with("reading <rows> ") && last.contains(" bytes, done in "), "{last}");
}

#[test]
fn text_arrives_while_it_is_made() {
    let kernel = FakeKernel::attach();
    let mut live = Live::new();
    for piece in ["3 + ", "5 = \u{1b}[2J", "", "8"] {
        live.push(piece);
    }
    kernel.hears("the last piece before the text has ended", |m| m["stream"]["text"] == "8");
    drop(live);
    let heard = kernel.sync(1);
    let said: Vec<&str> = heard.iter().filter_map(|m| m["stream"]["text"].as_str()).collect();
    assert_eq!(said, ["3 + ", "5 = \u{fffd}[2J", "8", "\n"]);
}

#[test]
fn an_answer_streams_token_by_token() -> Result<()> {
    let (bench, kernel) = (Bench::new(), FakeKernel::attach());
    let model = bench.model(Tiny::default())?;
    let config = GenerateConfig { max_tokens: 12, ..GenerateConfig::default() };
    let made = model.chat_live(&Adapters::default(), &[Message::user("1 + 1 = ?")], &config)?;
    let heard = kernel.sync(1);
    let said: String = heard.iter().filter_map(|m| m["stream"]["text"].as_str()).collect();
    let plain = |text: &str| text.chars().filter(|c| c.is_ascii_alphanumeric()).collect::<String>();
    assert_eq!(plain(&said), plain(&made.text));
    Ok(())
}

#[test]
fn panels_follow_a_run_while_other_cells_are_executed() -> Result<()> {
    let (bench, kernel) = (Bench::new(), FakeKernel::attach());
    let model = bench.model(Tiny::default())?;
    let data = bench.data("rows.jsonl", ROWS)?;
    let run = Run::new("watched", &model, &data, tiny::config())?;
    run.start(100_000_000)?;
    kernel.say(json!({"cell": 1}));
    assert_eq!(run.live().show().printed(), "", "the panel is in the cell already");
    kernel.sync(1);
    kernel.say(json!({"cell": 2}));
    run.live();
    let heard = kernel.sync(2);
    let displays = texts(&heard, "display");
    let [(one, _), (two, _)] = &displays[..] else { panic!("{displays:?}") };
    assert_ne!(one, two);
    assert!(displays[1].1.contains("of 100000000"), "{}", displays[1].1);

    // While the run trains and cells come and go, both move.
    eventually("three updates of each panel", || {
        let updates = texts(&kernel.heard(), "update");
        let of = |id: &str| updates.iter().filter(|(other, _)| other == id).count();
        (of(one) >= 3 && of(two) >= 3).then_some(())
    });
    let (_, running) = texts(&kernel.heard(), "update").pop().unwrap();
    for word in ["running", "loss", "learning rate", "tokens/s", "memory", "time left", "ffective rank"] {
        assert!(running.contains(word), "no {word:?} in {running}");
    }
    let heard = kernel.heard();
    let moving = heard.iter().rfind(|m| m.get("update").is_some()).unwrap();
    let html = moving["update"]["data"]["text/html"].as_str().unwrap();
    assert!(html.contains("<img class=\"lorascope-image\""), "pictures are seen without trust, too");
    println!("{} characters of HTML in a panel", html.len());

    // It rests with the run: the last figures are there before the cell has ended.
    let paused = run.pause()?;
    let heard = kernel.sync(3);
    let updates = texts(&heard, "update");
    for id in [one, two] {
        let (_, last) = updates.iter().rfind(|(other, _)| other == id).unwrap();
        assert!(last.contains("paused") && last.contains(&format!("{} of", paused.step)), "{last}");
    }
    // And moves on with it.
    run.resume()?;
    eventually("a panel that moves again", || {
        let updates = texts(&kernel.heard(), "update");
        updates.last().filter(|(_, text)| text.contains("running")).map(drop)
    });
    run.stop()?;
    let heard = kernel.sync(4);
    let step = run.status().step;
    let (_, last) = texts(&heard, "update").pop().unwrap();
    assert!(last.contains("idle") && last.contains(&step.to_string()), "{last}");

    // A run that is closed is held by nobody.
    run.close()?;
    drop(run);
    eventually("the last word of a closed run", || {
        texts(&kernel.heard(), "update").last().filter(|(_, text)| text.contains("closed")).map(drop)
    });
    assert!(runs().is_empty());
    Ok(())
}

#[test]
fn without_a_kernel_a_panel_is_shown_once() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny::default())?;
    let run = Run::new("alone", &model, &bench.data("rows.jsonl", ROWS)?, tiny::config())?;
    let before = run.live().show().text;
    assert!(before.contains("idle") && before.contains("first step"), "{before}");
    run.steps(2)?;
    let shown = run.live().show();
    for word in ["idle", "tokens/s", "memory", "Loss", "ffective rank"] {
        assert!(shown.text.contains(word), "no {word:?} in {}", shown.text);
    }
    assert!(shown.html.contains("</svg>"));
    Ok(())
}

#[test]
fn a_kernel_that_goes_away_fails_nothing() -> Result<()> {
    let (bench, kernel) = (Bench::new(), FakeKernel::attach());
    let model = bench.model(Tiny::default())?;
    let run = Run::new("left", &model, &bench.data("rows.jsonl", ROWS)?, tiny::config())?;
    let shown = show(&run);
    run.live();
    kernel.hang_up();
    for n in 0..3 {
        run.step()?;
        shown.update(&Text::new(format!("step {n}")));
        show(&Text::new("a text"));
        run.live();
        Live::new().push("text");
    }
    assert_eq!(run.status().step, 3);
    Ok(())
}
