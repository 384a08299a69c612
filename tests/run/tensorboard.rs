//! Files of events for TensorBoard.
#![cfg(feature = "tensorboard")]

use crate::common::tiny::{Bench, Tiny, config};
use lorascope::error::Result;
use lorascope::run::{EventFile, Run};
use lorascope::train::StepReport;
use prost::Message;
use std::path::Path;

/// The messages as TensorFlow's event.proto and summary.proto number them.
#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, tag = "3")]
    file_version: String,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

impl Event {
    fn of(&self, tag: &str) -> Option<f32> {
        let values = &self.summary.as_ref()?.value;
        values.iter().find(|value| value.tag == tag).map(|value| value.simple_value)
    }
}

/// As record_writer.cc: ((crc >> 15) | (crc << 17)) + 0xa282ead8.
fn masked(bytes: &[u8]) -> [u8; 4] {
    let crc = crc32c::crc32c(bytes);
    crc.rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// The records of a file, with their checksums looked at.
fn events(path: &Path) -> Vec<Event> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let event = &rest[12..12 + length];
        assert_eq!(
            (masked(&rest[..8]), masked(event)),
            (rest[8..12].try_into().unwrap(), rest[12 + length..16 + length].try_into().unwrap())
        );
        found.push(Event::decode(event).unwrap());
        rest = &rest[16 + length..];
    }
    found
}

#[test]
fn files_are_what_tensorboard_reads() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    let mut file = EventFile::create(&logs)?;
    // As each such file of TensorFlow and PyTorch begins: 24 bytes, the checksum of that, a time.
    let begin = std::fs::read(file.path()).unwrap();
    assert_eq!(begin[..13], [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22, 9]);
    assert_eq!(&begin[21..36], b"\x1a\x0dbrain.Event:2");
    let report = StepReport {
        step: 3,
        loss: 2.5,
        lr: 1e-4,
        tokens: 100,
        seconds: 0.5,
        eval_loss: Some(1.75),
        ..StepReport::default()
    };
    file.write(&StepReport { step: 2, ..StepReport::default() })?;
    file.write(&report)?;
    let found = events(file.path());
    assert_eq!(found.iter().map(|event| event.step).collect::<Vec<_>>(), [0, 2, 3]);
    assert!(found.iter().all(|event| event.wall_time > 1.7e9));
    assert_eq!((found[2].of("train/loss"), found[2].of("eval/loss")), (Some(2.5), Some(1.75)));
    assert_eq!((found[2].of("train/lr"), found[2].of("train/tokens_per_second")), (Some(1e-4), Some(200.0)));
    assert_eq!((found[2].of("train/memory"), found[1].of("eval/loss")), (None, None));
    // A second one at the same moment is another file.
    let second = EventFile::create(&logs)?;
    assert_ne!(second.path(), file.path());
    assert_eq!(events(file.path()).len(), 3);
    assert!(
        EventFile::create(file.path()).unwrap_err().to_string().contains("events.out"),
        "a file is no folder"
    );
    Ok(())
}

const ROWS: &str = "{\"instruction\": \"1 + 1?\", \"output\": \"2\"}\n";

#[test]
fn a_run_is_followed() -> Result<()> {
    let bench = Bench::new();
    let model = bench.model(Tiny::default())?;
    let run = Run::new("followed", &model, &bench.data("rows.jsonl", ROWS)?, config())?;
    let mut file = EventFile::create("logs")?;
    run.start(3)?;
    for report in run.reports(0) {
        file.write(&report)?;
    }
    let found = events(file.path());
    let losses: Vec<Option<f32>> = found[1..].iter().map(|event| event.of("train/loss")).collect();
    let truth: Vec<Option<f32>> = run.history().steps().iter().map(|step| Some(step.loss as f32)).collect();
    assert_eq!((losses.len(), losses), (3, truth));
    Ok(())
}

#[cfg(feature = "cli")]
#[test]
fn the_command_line_writes_one() -> Result<()> {
    let bench = Bench::new();
    bench.model(Tiny::default())?;
    bench.put("rows.jsonl", ROWS);
    let train = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lorascope"));
        let done = command.arg("train").args(arguments).current_dir(bench.folder.path()).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    train(&[
        "x",
        "--model",
        "model",
        "--data",
        "rows.jsonl",
        "--steps",
        "2",
        "--batch",
        "2",
        "--tensorboard",
        "logs",
    ]);
    train(&["x", "--resume", "--more", "2", "--tensorboard", "more"]);
    // What is no folder is told before a run is made.
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lorascope"));
    command.args(["train", "y", "--model", "model", "--data", "rows.jsonl", "--tensorboard", "rows.jsonl"]);
    let done = command.current_dir(bench.folder.path()).output().unwrap();
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code() == Some(2) && told.contains("give --tensorboard a folder"), "{told}");
    assert!(!std::path::Path::new("runs/y").exists());
    for (folder, steps) in [("logs", [0, 1, 2]), ("more", [0, 3, 4])] {
        let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
        let found: Vec<i64> = events(&file).iter().map(|event| event.step).collect();
        assert_eq!(found, steps);
    }
    Ok(())
}

/// Whatever a signal falls into: the file of events has the steps of the history, the last one too.
#[cfg(all(feature = "cli", unix))]
#[test]
fn the_last_step_before_a_pause_is_in_it() -> Result<()> {
    use std::process::{Command, Stdio};
    let bench = Bench::new();
    bench.model(Tiny::default())?;
    bench.put("rows.jsonl", ROWS);
    let steps = || std::fs::read_to_string("runs/x/history.jsonl").map_or(0, |text| text.lines().count());
    let mut done = 0;
    for (round, signal) in ["-TERM", "-INT", "-TERM", "-INT", "-TERM", "-INT"].into_iter().enumerate() {
        let logs = format!("logs-{round}");
        let new = ["x", "--model", "model", "--data", "rows.jsonl", "--batch", "2", "--steps", "1000000"];
        let again = ["x", "--resume"];
        let arguments = if round == 0 { &new[..] } else { &again[..] };
        let mut command = Command::new(env!("CARGO_BIN_EXE_lorascope"));
        command.arg("train").args(arguments).args(["--tensorboard", &logs]).current_dir(bench.folder.path());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while steps() < done + 3 + round {
            assert!(child.try_wait().unwrap().is_none(), "it has ended by itself");
            std::thread::yield_now();
        }
        let sent = Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap();
        assert!(sent.success() && child.wait().unwrap().success());
        let file = std::fs::read_dir(&logs).unwrap().next().unwrap().unwrap().path();
        let found: Vec<i64> = events(&file)[1..].iter().map(|event| event.step).collect();
        assert_eq!(found, (done as i64 + 1..=steps() as i64).collect::<Vec<_>>(), "round {round}");
        done = steps();
    }
    Ok(())
}
