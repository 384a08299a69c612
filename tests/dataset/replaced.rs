//! Files that somebody named are replaced whole or not at all, and nothing beside their content changes: a link
//! stays one, a private file stays private. What cannot be written is said of the file that was asked for.
#![cfg(unix)]

use candle_core::Device;
use lorascope::candle_core;
use lorascope::dataset::Dataset;
use lorascope::error::Result;
use lorascope::format::{Existing, RowSchema, WriteOptions};
use lorascope::lora::{Adapters, LoraConfig, Target};
use lorascope::plot::Figure;
use lorascope::run::RunFile;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

fn adapters(rank: usize) -> Adapters {
    let layer = [Target::linear("model.layers.0.mlp.up_proj", [32, 16])];
    Adapters::new(&LoraConfig { rank, ..Default::default() }, &layer, 1, &Device::Cpu).unwrap()
}

fn figure() -> Figure {
    let moved = adapters(4).map(|_, x| Ok((x + 0.1)?)).unwrap();
    moved.spectra().unwrap().plot().unwrap()
}

fn rows(folder: &Path, count: usize) -> Dataset {
    let path = folder.join("from.jsonl");
    let row = |n: usize| format!("{{\"instruction\": \"{n} + {n} = ?\", \"output\": \"{}\"}}\n", 2 * n);
    fs::write(&path, (0..count).map(row).collect::<String>()).unwrap();
    Dataset::open(path).unwrap()
}

type Writer = Box<dyn Fn(&Path) -> Result<()>>;

/// Everything that writes a file of this name, and replaces it.
fn writers(folder: &Path) -> Vec<(&'static str, Writer)> {
    let replacing = WriteOptions { existing: Existing::Replace, ..WriteOptions::default() };
    let (data, report) = (rows(folder, 20), rows(folder, 20).report().unwrap());
    let write = move |path: &Path| data.write_with(path, RowSchema::OpenAi, &replacing).map(drop);
    let table = write.clone();
    let packed = write.clone();
    let file = RunFile { name: Some("a".to_string()), ..RunFile::default() };
    vec![
        ("figure.svg", Box::new(|path| figure().overwrite(path))),
        ("rows.jsonl", Box::new(write)),
        ("rows.parquet", Box::new(table)),
        ("rows.csv.gz", Box::new(packed)),
        ("run.toml", Box::new(move |path| file.overwrite(path).map(drop))),
        ("report.html", Box::new(move |path| report.overwrite_html(path).map(drop))),
    ]
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = folder.read_dir().unwrap().map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

#[test]
fn links_stay_links_and_files_stay_private() -> Result<()> {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    for (name, write) in writers(folder) {
        let (file, link) = (folder.join(format!("real-{name}")), folder.join(name));
        // To a file that is not there yet, by two links, the second of them relative.
        let second = folder.join(format!("second-{name}"));
        symlink(format!("real-{name}"), &second).unwrap();
        symlink(&second, &link).unwrap();
        write(&link)?;
        let first = fs::read(&file).unwrap();
        assert!(link.is_symlink() && second.is_symlink() && !first.is_empty(), "{name}");
        // To one that is there, and is nobody else's to read.
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        write(&link)?;
        assert!(link.is_symlink(), "{name}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        assert_eq!(fs::read(&file).unwrap(), first, "{name}");
    }
    let left: Vec<String> = names(folder).into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");

    let path = folder.join("adapter");
    adapters(2).save(&path, "base")?;
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::set_permissions(path.join(name), fs::Permissions::from_mode(0o640)).unwrap();
    }
    adapters(3).overwrite(&path, "base")?;
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        assert_eq!(fs::metadata(path.join(name)).unwrap().permissions().mode() & 0o777, 0o640, "{name}");
    }
    Ok(())
}

/// A file would be put in its place: of /dev/null too, by whoever may.
#[test]
fn no_file_is_put_in_the_place_of_a_pipe() {
    let place = tempfile::tempdir().unwrap();
    for (name, write) in writers(place.path()) {
        let (pipe, link) = (place.path().join(format!("pipe-{name}")), place.path().join(name));
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        symlink(&pipe, &link).unwrap();
        for path in [&link, &pipe] {
            let error = write(path).unwrap_err().to_string();
            assert!(error.starts_with(&path.display().to_string()), "{error}");
            assert!(
                error.ends_with("this is a device or a pipe, which is not replaced by a file; name a file"),
                "{error}"
            );
        }
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo() && link.is_symlink(), "{name}");
    }
}

/// Whoever reads meanwhile has the old one or the new one.
#[test]
fn a_reader_never_sees_a_part() -> Result<()> {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("figure.svg");
    let figures = [figure(), figure().with_footer("another one")];
    figures[0].save(&path)?;
    let mut seen = vec![fs::read(&path).unwrap()];
    figures[1].overwrite(&path)?;
    seen.push(fs::read(&path).unwrap());
    assert_ne!(seen[0], seen[1]);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| (0..2000).all(|_| seen.contains(&fs::read(&path).unwrap())));
        let mut turns = figures.iter().cycle();
        while !reader.is_finished() {
            turns.next().unwrap().overwrite(&path).unwrap();
        }
        assert!(reader.join().unwrap(), "a reader saw a part of a file");
    });
    Ok(())
}

#[cfg(feature = "cli")]
mod commands {
    use super::*;
    use std::process::Output;

    /// A command that may write files of some kilobytes only, as on a disk that gets full.
    fn limited(folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new("bash");
        // Beyond the limit a write fails, as it does where there is no room.
        command.args([
            "-c",
            "trap '' XFSZ; ulimit -f 16; exec \"$@\"",
            "bash",
            env!("CARGO_BIN_EXE_lorascope"),
        ]);
        command.args(arguments).current_dir(folder).env("LORASCOPE_CACHE", "cache");
        command
    }

    fn err(output: &Output) -> String {
        String::from_utf8(output.stderr.clone()).unwrap()
    }

    #[test]
    fn what_cannot_be_written_is_said_of_the_file_that_was_asked_for() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        rows(folder, 4000);
        for name in ["out.jsonl", "out.json", "out.csv", "out.parquet", "out.tsv"] {
            for old in [None, Some("old")] {
                if let Some(old) = old {
                    fs::write(folder.join(name), old).unwrap();
                }
                let before = names(folder);
                let output = limited(
                    folder,
                    &["data", "convert", "from.jsonl", name, "--to", "openai", "--overwrite"],
                )
                .output()
                .unwrap();
                assert!(!output.status.success(), "{name}: {output:?}");
                assert_eq!(
                    err(&output).trim_end(),
                    format!("lorascope: {name}: File too large (os error 27)")
                );
                assert_eq!(names(folder), before, "{name}");
                assert!(old.is_none_or(|old| fs::read(folder.join(name)).unwrap() == old.as_bytes()));
            }
        }
        let output =
            limited(folder, &["data", "split", "from.jsonl", "train.csv", "test.csv"]).output().unwrap();
        assert!(err(&output).starts_with("lorascope: train.csv: File too large"), "{}", err(&output));
        let output = limited(folder, &["data", "generate", "--rows", "4000", "made.jsonl"]).output().unwrap();
        assert!(err(&output).starts_with("lorascope: made.jsonl: File too large"), "{}", err(&output));
        let output =
            limited(folder, &["data", "report", "from.jsonl", "--html", "report.html"]).output().unwrap();
        assert!(err(&output).starts_with("lorascope: report.html: File too large"), "{}", err(&output));
        assert!(names(folder).iter().all(|name| !name.starts_with('.')), "{:?}", names(folder));
    }

    #[test]
    fn what_the_cache_cannot_hold_is_said_with_the_way_out() {
        let place = tempfile::tempdir().unwrap();
        rows(place.path(), 4000);
        let mut command = limited(place.path(), &["data", "report", "from.jsonl"]);
        command.env("LORASCOPE_CACHE_ABOVE", "1000");
        let said = err(&command.output().unwrap());
        assert!(said.starts_with("lorascope: cache/rows/") && !said.contains("lorascope-"), "{said}");
        assert!(said.contains(": File too large"), "{said}");
        assert!(said.contains("make room, or set LORASCOPE_CACHE to another folder"), "{said}");
        assert_eq!(names(&place.path().join("cache/rows")), Vec::<String>::new());
    }

    #[test]
    fn two_answers_are_not_written_to_one_file() {
        let place = tempfile::tempdir().unwrap();
        let adapter = place.path().join("adapter");
        adapters(2).map(|_, x| Ok((x + 0.1)?)).unwrap().save(&adapter, "base").unwrap();
        for more in [&[][..], &["--overwrite"]] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_lorascope"));
            command.args(["spectrum", "adapter", "--svg", "a.svg", "--heat-map", "./a.svg"]).args(more);
            let output = command.current_dir(place.path()).output().unwrap();
            assert!(!output.status.success());
            assert!(err(&output).contains("./a.svg: two outputs have this path"), "{}", err(&output));
            assert_eq!(names(place.path()), ["adapter"]);
        }
    }
}
