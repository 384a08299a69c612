//! `lorascope train` as a process: files of settings, signals, going on.

use crate::common;
use crate::common::clock;
use crate::common::runs::Bench;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use lorascope::dataset::Dataset;
use lorascope::error::Result;
use lorascope::lora::TargetModules;
use lorascope::model::WeightDtype;
use lorascope::run::{RowsFrom, RunFile};
use lorascope::train::{OptimizerConfig, RunConfig, Schedule, SgdConfig, Snapshots, Until};

/// A working folder with some rows.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Short ones: it is signals and files that are tested.
        let row = |i: u32| format!("{{\"instruction\": \"{i} + {} =\", \"output\": \"{}\"}}\n", 2 * i, 3 * i);
        fs::write(folder.path().join("rows.jsonl"), (1..=40).map(row).collect::<String>()).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// A file of settings for a small run.
    fn settings(&self, file: &str, name: &str, steps: u64) {
        let model = common::model_path();
        self.write(
            file,
            &format!(
                "name = {name:?}\nmodel = {model:?}\ndata = \"rows.jsonl\"\nsteps = {steps}\nbatch = 2\nseed = 7\n\n\
                 [schedule]\nwarmup = 2\n\n[lora]\nrank = 2\nalpha = 6.0\ntarget_modules.named = [\"q_proj\", \"v_proj\"]\n"
            ),
        );
    }

    fn train(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lorascope"));
        command.arg("train").args(arguments).current_dir(self.0.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What a process that must end well printed.
    fn done(&self, arguments: &[&str]) -> String {
        let (code, out, err) = read(self.train(arguments).output().unwrap());
        assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
        out
    }

    /// What a process complained about that must fail.
    fn refused(&self, arguments: &[&str]) -> String {
        let (code, out, err) = read(self.train(arguments).output().unwrap());
        assert_eq!(code, Some(2), "{arguments:?}: {out}{err}");
        err
    }

    /// Starts a process and waits until its run has done some steps.
    fn start(&self, arguments: &[&str], name: &str, steps: usize) -> Child {
        let mut child = self.train(arguments).spawn().unwrap();
        clock::eventually("some steps", || {
            let done = self.steps(name) >= steps;
            assert!(
                done || child.try_wait().unwrap().is_none(),
                "it has ended after {} steps",
                self.steps(name)
            );
            done.then_some(())
        });
        child
    }

    /// The steps of a run's history on disk.
    fn steps(&self, name: &str) -> usize {
        let history = fs::read_to_string(self.path(&format!("runs/{name}/history.jsonl")));
        history.map_or(0, |text| text.matches('\n').count())
    }

    fn adapter(&self, folder: &str) -> Vec<Vec<u8>> {
        let files = ["adapter_model.safetensors", "adapter_config.json"];
        files.map(|file| fs::read(self.path(folder).join(file)).unwrap()).into()
    }
}

fn read(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn signal(child: &Child, signal: i32) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
}

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

#[test]
fn a_run_that_was_asked_to_end_goes_on_to_the_bit() {
    let place = Place::new();
    place.settings("straight.toml", "straight", 10);
    place.settings("broken.toml", "broken", 10);
    place.done(&["straight.toml", "--save", "straight"]);
    assert_eq!(place.steps("straight"), 10);

    // Twice, by both signals, in the middle of whatever step there is.
    let child = place.start(&["broken.toml"], "broken", 2);
    signal(&child, SIGTERM);
    let (code, out, err) = read(child.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{out}{err}");
    let step = place.steps("broken");
    assert!((2..10).contains(&step), "{step}");
    let told = format!("paused after step {step} of 10; lorascope train broken.toml --resume continues");
    assert!(out.contains(&told), "{out}");
    assert!(place.path(&format!("runs/broken/step-{step:06}")).exists(), "no snapshot of step {step}");

    let child = place.start(&["broken.toml", "--resume"], "broken", step + 1);
    signal(&child, SIGINT);
    let (code, out, err) = read(child.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("paused after step ") || place.steps("broken") == 10, "{out}{err}");

    // A folder that is there already is seen before an hour of training, not after it.
    assert!(place.refused(&["broken.toml", "--resume", "--save", "straight"]).contains("the path exists"));
    place.done(&["broken.toml", "--resume", "--save", "broken"]);
    assert_eq!(place.steps("broken"), 10);
    assert_eq!(place.adapter("broken"), place.adapter("straight"));

    // A script may say it once more.
    let out = place.done(&["broken", "--resume"]);
    assert!(out.contains("nothing is left to do after step 10; --steps N trains N more"), "{out}");
    place.settings("broken.toml", "broken", 11);
    place.done(&["broken.toml", "--resume"]);
    assert_eq!(place.steps("broken"), 11, "the file asks for one more");
    place.done(&["broken", "--resume", "--steps", "1"]);
    assert_eq!(place.steps("broken"), 12);
}

#[test]
fn a_signal_before_the_first_step_keeps_what_was_asked_for() {
    let place = Place::new();
    place.settings("run.toml", "early", 3);
    // The evaluation before the first step takes a while.
    let mut child = place.train(&["run.toml", "--eval", "rows.jsonl"]).spawn().unwrap();
    clock::eventually("a run", || {
        assert!(child.try_wait().unwrap().is_none());
        place.path("runs/early/run.json").exists().then_some(())
    });
    signal(&child, SIGTERM);
    let (code, out, err) = read(child.wait_with_output().unwrap());
    assert_eq!((code, place.steps("early")), (Some(0), 0), "{out}{err}");
    assert!(out.contains("paused after step 0 of 3"), "{out}");
    let out = place.done(&["early", "--resume"]);
    assert_eq!((place.steps("early"), out.matches("loss").count() > 1), (3, true), "{out}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let place = Place::new();
    place.settings("run.toml", "twice", 500);
    let child = place.start(&["run.toml"], "twice", 1);
    // Both at once: whichever is seen second ends the process.
    signal(&child, SIGTERM);
    signal(&child, SIGINT);
    let (code, out, err) = read(child.wait_with_output().unwrap());
    assert!([Some(0), Some(128 + SIGINT), Some(128 + SIGTERM)].contains(&code), "{code:?} {out}{err}");
    let steps = place.steps("twice");
    let out = place.done(&["twice", "--resume", "--steps", "1"]);
    assert!(out.contains("twice"), "{out}");
    assert!((1..=steps + 1).contains(&place.steps("twice")), "{} after {steps}", place.steps("twice"));
}

/// Processes that cannot compute together would each make a run of their own, in one folder.
#[test]
fn processes_that_cannot_work_together_are_refused() {
    let place = Place::new();
    place.settings("run.toml", "none", 1);
    let way_out = if cfg!(feature = "mpi") { "mpirun -n 2" } else { "the feature mpi" };
    for variables in [
        [("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")],
        [("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")],
        [("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2"), ("SLURM_LOCALID", "1")],
    ] {
        let mut command = place.train(&["run.toml", "--devices", "auto"]);
        let (code, out, err) = read(command.envs(variables).output().unwrap());
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains("of 2 (") && err.contains(way_out), "{err}");
        assert!(!place.path("runs/none").exists());
    }
    // What says that there is one process changes nothing.
    let mut alone = place.train(&["run.toml", "--devices", "auto"]);
    let (code, out, err) = read(alone.envs([("RANK", "0"), ("WORLD_SIZE", "1")]).output().unwrap());
    assert_eq!(code, Some(0), "{out}{err}");
    let written = fs::read_to_string(place.path("runs/none/run.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["config"]["devices"], "auto");
}

/// What is not said anew of devices and split is as in the run, and all of it is shown.
#[test]
fn devices_of_a_run_are_shown_and_kept() -> Result<()> {
    let bench = Bench::new()?;
    let settings =
        "name = \"two\"\nmodel = \"small.gguf\"\ndata = \"rows.jsonl\"\nbatch = 5\nmicro_batch = 40\n";
    fs::write(bench.folder().join("run.toml"), settings).unwrap();
    let train = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lorascope"));
        let command = command.args(["train", "run.toml", "--steps", "1"]).args(arguments);
        read(command.current_dir(bench.folder()).output().unwrap())
    };
    let devices = |out: &str| out.lines().filter(|line| line.starts_with("cpu, rank ")).count();
    let (code, out, err) = train(&["--devices", "cpu:2", "--split", "2", "--reduction", "on-devices"]);
    assert_eq!((code, devices(&out)), (Some(0), 2), "{out}{err}");
    assert!(out.contains("cpu:2, the model split over 2") && out.contains("added on the devices"), "{out}");
    for (arguments, count) in [
        (&["--devices", "cpu:4"][..], 4),
        (&["--devices", "cpu:3", "--split", "1"], 3),
        (&["--split", "4", "--devices", "cpu:4"], 4),
        (&[], 2),
    ] {
        let (code, out, err) = train(&[&["--resume"], arguments].concat());
        assert_eq!((code, devices(&out)), (Some(0), count), "{arguments:?}: {out}{err}");
        assert!(err.contains("the run keeps its own") && err.contains("reduction"), "{err}");
    }
    for (arguments, error) in [
        (["--devices", "cpu:3"], "3 devices for a model split over 2"),
        (["--reduction", "ordered"], "cannot be used with"),
    ] {
        let (code, out, err) = train(&[&["--resume"], &arguments[..]].concat());
        assert_eq!(code, Some(2), "{out}{err}");
        assert!(err.contains(error), "{err}");
    }
    Ok(())
}

/// A command other than train does not share its work, and the first process says so.
#[test]
fn a_command_that_each_process_does_anew_says_so() {
    let place = Place::new();
    let report = |variables: [(&str, &str); 2]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lorascope"));
        command.args(["data", "report", "rows.jsonl"]).current_dir(place.0.path()).envs(variables);
        let (code, out, err) = read(command.output().unwrap());
        assert_eq!(code, Some(0), "{out}{err}");
        err
    };
    let first = report([("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2")]);
    let said = "this is process 0 of 2 (OMPI_COMM_WORLD_SIZE), and each of them does all of this command";
    assert!(first.contains(said), "{first}");
    for quiet in [
        [("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "2")],
        [("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1")],
        // A script that torchrun started may call it once.
        [("RANK", "0"), ("WORLD_SIZE", "2")],
    ] {
        let err = report(quiet);
        assert!(!err.contains("process 0"), "{err}");
    }
}

#[test]
fn files_that_are_wrong_say_where() {
    let place = Place::new();
    place.write("typo.toml", "name = \"x\"\nlr = 1e-4\n\n[lora]\nrnak = 8\n");
    let told = place.refused(&["typo.toml"]);
    assert!(
        told.starts_with("lorascope: typo.toml, line 5: unknown field `rnak`, expected one of `rank`"),
        "{told}"
    );
    place.write("top.toml", "name = \"x\"\nsteps = 8\nlearning_rate = 1\n");
    let told = place.refused(&["top.toml"]);
    assert!(told.contains("top.toml, line 3: unknown field `learning_rate`"), "{told}");
    assert!(told.contains("beside settings there are name, model"), "{told}");
    place.write("kind.toml", "name = \"x\"\nbatch = 2\nsteps = \"many\"\n");
    let told = place.refused(&["kind.toml"]);
    assert!(told.contains("kind.toml, line 3: invalid type: string \"many\", expected u64"), "{told}");
    place.write("broken.toml", "name = \"x\"\nlr = = 1\n");
    assert!(place.refused(&["broken.toml"]).contains("broken.toml, line 2: "));

    assert_eq!(place.refused(&["missing.toml"]), "lorascope: missing.toml: no such file or folder\n");
    place.write("few.toml", "name = \"x\"\nmodel = \"nowhere.gguf\"\n");
    assert!(place.refused(&["few.toml"]).contains("a new run needs --data"));
    let told = place.refused(&["few.toml", "--data", "rows.jsonl"]);
    assert!(told.contains(place.path("nowhere.gguf").to_str().unwrap()), "{told}");
    place.write("nameless.toml", "lr = 1e-4\n");
    assert!(place.refused(&["nameless.toml"]).contains("the run has no name"));
    place.settings("eval.toml", "x", 3);
    let text = fs::read_to_string(place.path("eval.toml")).unwrap() + "\n[until]\neval_loss = 1.0\n";
    place.write("eval.toml", &text);
    assert!(place.refused(&["eval.toml"]).contains("needs evaluations"));
    assert!(!place.path("runs/x/run.json").exists(), "a run was made before all was checked");
}

#[test]
fn the_readme_shows_a_file_that_is_read() -> Result<()> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let place = Place::new();
    place.write("run.toml", rest.split_once("```").unwrap().0);
    let file = RunFile::open(place.path("run.toml"))?;
    assert_eq!(
        (file.name.as_deref(), file.steps, file.config.lora.rank),
        (Some("school-math"), Some(200), 8)
    );
    assert_eq!(file.model, Some(place.path("models/smollm2-135m.gguf")), "relative to the file");
    Ok(())
}

/// Everything that differs from the defaults comes back, and what is missing is missing.
#[test]
fn settings_written_are_settings_read() -> Result<()> {
    let place = Place::new();
    let json = |config: &RunConfig| serde_json::to_value(config).unwrap();
    let mut config =
        RunConfig::default().rank(3).alpha(7.5).lr(1.2345678901234567e-4).seed(u64::MAX).context(300);
    config.clip = None;
    config.schedule = Schedule { warmup: 3, ..Schedule::to(lorascope::train::Shape::Linear, 90) };
    config.optimizer = OptimizerConfig::Sgd(SgdConfig { momentum: 0.5, ..Default::default() });
    config.snapshots = Snapshots { keep_every: Some(10), ..Default::default() };
    config.lora.target_modules = TargetModules::Matching(r".*\.[0-3]\..*_proj".into());
    config.lora.rank_pattern = [("v_proj".to_string(), 2), ("a_proj".to_string(), 4)].into_iter().collect();
    config.lora.layers_to_transform = Some(vec![0, 2]);
    config.lora.enable_lora.insert("c_attn".into(), vec![true, false, true]);
    config.init_from = Some(place.path("adapter"));
    config.save(place.path("run.toml"))?;
    let read = RunFile::open(place.path("run.toml"))?;
    assert_eq!(json(&read.config), json(&config));
    let ranks: Vec<&str> = read.config.lora.rank_pattern.keys().map(String::as_str).collect();
    assert_eq!(ranks, ["v_proj", "a_proj"], "the first that fits counts");
    assert!(config.save(place.path("run.toml")).unwrap_err().to_string().contains("the file exists"));

    let defaults = RunConfig::default();
    assert!(defaults.clip.is_some(), "None is written as inf");
    defaults.save(place.path("defaults.toml"))?;
    assert_eq!(json(&RunFile::open(place.path("defaults.toml"))?.config), json(&defaults));
    place.write("empty.toml", "");
    assert_eq!(json(&RunFile::open(place.path("empty.toml"))?.config), json(&defaults));

    // Chosen rows are written as what was done to get them.
    let data = Dataset::open(place.path("rows.jsonl"))?;
    let (train, test) = data.split(0.75, 3)?;
    let file = RunFile {
        name: Some("a".into()),
        model: Some(common::model_path()),
        weights: WeightDtype::Q8_0,
        data: Some(RowsFrom::Recipe(Box::new(train.recipe()?))),
        eval: Some(RowsFrom::Path(place.path("rows.jsonl"))),
        steps: Some(20),
        epochs: Some(3),
        until: Some(Until::loss_below(1.5)),
        config: config.clone(),
        ..RunFile::default()
    };
    file.save(place.path("all.toml"))?;
    let read = RunFile::open(place.path("all.toml"))?;
    assert_eq!((&read.name, &read.model, read.weights), (&file.name, &file.model, file.weights));
    assert_eq!(
        (&read.data, &read.eval, read.steps, read.epochs, read.until),
        (&file.data, &file.eval, file.steps, file.epochs, file.until)
    );
    assert_eq!(read.goal(), Some(Until::loss_below(1.5).max_steps(20)));
    let (rows, held) = (read.data.unwrap().open()?, test);
    assert_eq!(rows.len() + held.len(), data.len());
    assert_eq!(rows.row(0)?, train.row(0)?);
    assert!(file.save(place.path("all.toml")).is_err());
    file.overwrite(place.path("all.toml"))?;
    Ok(())
}

#[test]
fn a_run_writes_the_file_that_makes_it_again() -> Result<()> {
    let place = Place::new();
    place.settings("run.toml", "first", 2);
    place.done(&["run.toml", "--save", "first"]);
    let run = lorascope::run::Run::open(place.path("runs/first"))?;
    run.save_config(place.path("again.toml"))?;
    run.config().save(place.path("settings.toml"))?;
    run.close()?;
    place.done(&["again.toml", "--name", "second", "--steps", "2", "--save", "second"]);
    assert_eq!(place.adapter("second"), place.adapter("first"));
    // Settings alone, the rest as flags.
    let model = common::model_path();
    let flags =
        ["--name", "third", "--model", model.to_str().unwrap(), "--data", "rows.jsonl", "--steps", "2"];
    place.done(&[&["settings.toml"], &flags[..], &["--save", "third"]].concat());
    assert_eq!(place.adapter("third"), place.adapter("first"));

    // Another file than the run began with: the run's own settings hold, and that is said.
    place.settings("other.toml", "first", 3);
    let (code, out, err) = read(place.train(&["other.toml", "--resume"]).output().unwrap());
    assert_eq!((code, err.contains("with its own")), (Some(0), false), "{out}{err}");
    let text = fs::read_to_string(place.path("other.toml")).unwrap();
    place.write("other.toml", &text.replace("batch = 2", "batch = 3").replace("steps = 3", "steps = 4"));
    let (code, out, err) = read(place.train(&["other.toml", "--resume"]).output().unwrap());
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(err.contains("the run keeps its own batch, not the file's"), "{err}");
    assert_eq!(place.steps("first"), 4);
    Ok(())
}
