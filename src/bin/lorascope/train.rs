//! `lorascope train`: trains a run without a notebook.

#[cfg(feature = "tensorboard")]
use super::events::Follower;
use super::reading::{LISTED, format, left_out};
use super::train_values::{Back, Course};
use clap::Args;
use lorascope::dataset::Dataset;
use lorascope::display::{Progress, Show};
use lorascope::error::{Error, Result};
use lorascope::format::Existing;
use lorascope::format::{Map, OnFault, ReadOptions, RowSchema};
use lorascope::ops::Precision;
use lorascope::run::{Ending, OpenRun, RowsFrom, Run, RunFile, State};
use lorascope::text::Trained;
use lorascope::train::{Devices, Placement, Reduction, RunConfig, Schedule, Until};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Steps of a new run, by default.
const STEPS: u64 = 100;
/// Number of records to list once more at the end.
const LISTED_AGAIN: usize = 5;
/// Interval between two checks of the run and of signals.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Args)]
pub struct Arguments {
    /// Name of the run in the folder runs, or with --resume also the path of its folder; or a settings file such as run.toml
    run: String,
    /// Name of the run, instead of the one in the settings file
    #[arg(long)]
    name: Option<String>,
    /// If a run of this name exists, move it to runs/NAME.1, NAME.2, … and start a new one
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Resume the existing run; model, data and settings come from its folder
    #[arg(long, conflicts_with_all = ["model", "data", "list", "eval", "eval_list", "map", "from", "rank", "batch", "context", "precision", "reduction", "seed", "trained", "strict"])]
    resume: bool,
    /// Continue even if the model or the rows are not those that the run was trained with
    #[arg(long, requires = "resume")]
    accept: bool,
    /// First go back to a step, or to the one with the best evaluation
    #[arg(long, value_name = "STEP|best", requires = "resume")]
    rewind: Option<Back>,
    /// Train N more steps, even if the run has stopped early
    #[arg(long, value_name = "N", requires = "resume", conflicts_with = "steps")]
    more: Option<u64>,
    /// Learning-rate schedule: constant; linear:TOTAL, cosine:TOTAL or wsd:TOTAL, which decay until step TOTAL; or
    /// file, the schedule in the settings file
    #[arg(long, value_name = "SHAPE")]
    schedule: Option<Course>,
    /// Model: a .gguf file or a Hugging Face folder
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Rows to train on: a file, a folder or a glob pattern; JSON, CSV or Parquet, plain, .gz or .zst
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// List of rows to train on, if the file holds several (such as train and test)
    #[arg(long, value_name = "NAME")]
    list: Option<String>,
    /// Evaluation split: rows to evaluate on, before and after training
    #[arg(long, value_name = "PATH")]
    eval: Option<PathBuf>,
    /// List of rows to evaluate on; without --eval, a list in the file of --data
    #[arg(long, value_name = "NAME")]
    eval_list: Option<String>,
    /// Keys of the turns in --data and --eval, for files of unknown format: user=question,assistant=answer
    #[arg(long, value_name = "MAP", requires = "data")]
    map: Option<Map>,
    /// Format of the rows of --data and --eval, instead of detecting it
    #[arg(long, value_name = "FORMAT", value_parser = format(), requires = "data", conflicts_with = "map")]
    from: Option<RowSchema>,
    /// Steps to train; by default 100 unless the settings file sets an end, with --resume those that are left
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Rank of the adapters, 16 by default; alpha is twice the rank
    #[arg(long, value_name = "R")]
    rank: Option<usize>,
    /// Peak learning rate, 2e-4 by default, reached after 10 steps of warm-up
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Rows per step, 16 by default
    #[arg(long, value_name = "ROWS")]
    batch: Option<usize>,
    /// Maximum tokens per row; longer rows are left out. By default the model's context, but at most 2048
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// Precision of the matrix products: f32 by default, bf16 for GPUs, or f16
    #[arg(long, value_name = "TYPE")]
    precision: Option<Precision>,
    /// Devices to train on: auto (all GPUs, the processor where there is none), cpu:RANKS, cuda:0,1, or model (the one
    /// that the model lies on), as without this option; with --resume for this time, the run keeps its own. Numbers do
    /// not depend on how many there are, but for --reduction on-devices
    #[arg(long, value_name = "DEVICES")]
    devices: Option<Devices>,
    /// Split the model's blocks over this many of the devices, if it does not fit on one; 1 does not split it
    #[arg(long, value_name = "N")]
    split: Option<usize>,
    /// Where gradients are added: ordered (on the host, the numbers of one device) by default, or on-devices (on each
    /// device, then over them once a step: less to move between many, other last bits for another number of them)
    #[arg(long, value_name = "WHERE")]
    reduction: Option<Reduction>,
    /// Random seed for the initialisation of the adapters and the order of the rows, 42 by default
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Which turns of a conversation to train on: assistant, last-assistant or all; plain texts are always trained on whole
    #[arg(long, value_name = "WHAT")]
    trained: Option<Trained>,
    /// Fail at the first record that cannot be read or that the chat template refuses, instead of leaving it out
    #[arg(long)]
    strict: bool,
    /// When done, save the adapter in this new folder; PEFT can load it
    #[arg(long, value_name = "FOLDER")]
    save: Option<PathBuf>,
    /// Write the numbers of each step to a new TensorBoard event file in this folder
    #[cfg(feature = "tensorboard")]
    #[arg(long, value_name = "FOLDER")]
    tensorboard: Option<PathBuf>,
}

/// Trains a run as its settings say, in this process or with others that follow it.
pub fn run(file: &RunFile, arguments: &Arguments) -> Result<()> {
    if let Some(folder) = arguments.save.as_ref().filter(|folder| folder.exists()) {
        return Err(Error::input("the adapter cannot be saved here: the path exists")
            .path(folder)
            .help("give --save another folder"));
    }
    #[cfg(feature = "tensorboard")]
    if let Some(file) = arguments.tensorboard.as_ref().filter(|folder| folder.exists() && !folder.is_dir()) {
        return Err(Error::input("the event file cannot be written here: this is a file, not a folder")
            .path(file)
            .help("give --tensorboard a folder"));
    }
    let asked = until_asked()?;
    let run = if arguments.resume { resume(file, arguments)? } else { new(file)? };
    crate::print(run.show().text);
    left_out(&run.left_out()?, LISTED);
    // Even if a signal interrupts the evaluation, the run starts, so that it records how far it was to go.
    evaluate(&run, &asked)?;
    if !train(&run, file, arguments, &asked)? {
        return Ok(());
    }
    if !evaluate(&run, &asked)? {
        return pause(&run, arguments);
    }
    if let Some(folder) = &arguments.save {
        crate::print(run.save_adapter(folder)?);
    }
    // List them again: the first list may be hours old.
    left_out(&run.left_out()?, LISTED_AGAIN);
    Ok(())
}

/// Whether a settings file was given, and not a name.
fn is_file(run: &str) -> bool {
    run.ends_with(".toml")
}

/// Returns NAME for the path `runs/NAME`; leaves any other path as it is.
fn name_of(run: &str) -> String {
    let path = Path::new(run);
    let folder = path.parent().map(Path::canonicalize).and_then(|folder| folder.ok());
    let named = path.file_name().and_then(|name| name.to_str());
    match (folder, Path::new("runs").canonicalize().ok(), named) {
        (Some(folder), Some(runs), Some(name)) if folder == runs => name.to_string(),
        // The folder runs does not exist before the first run.
        (_, None, Some(name)) if path.parent() == Some(Path::new("runs")) => name.to_string(),
        _ => run.to_string(),
    }
}

/// Reads the settings file, or takes the defaults, and applies the flags.
pub fn read(arguments: &Arguments) -> Result<RunFile> {
    let mut file = if is_file(&arguments.run) {
        RunFile::open(&arguments.run)?
    } else {
        RunFile { name: Some(name_of(&arguments.run)), ..RunFile::default() }
    };
    if let Some(rank) = arguments.rank {
        file.config = file.config.rank(rank);
    }
    let config = &mut file.config;
    config.precision = arguments.precision.unwrap_or(config.precision);
    config.devices = arguments.devices.clone().unwrap_or(config.devices.clone());
    config.placement = match arguments.split {
        None => config.placement,
        Some(1) => Placement::Replicate,
        Some(stages) => Placement::Split(stages),
    };
    config.reduction = arguments.reduction.unwrap_or(config.reduction);
    config.lr = arguments.lr.unwrap_or(config.lr);
    config.batch = arguments.batch.unwrap_or(config.batch);
    config.seed = arguments.seed.unwrap_or(config.seed);
    config.context = arguments.context.or(config.context);
    config.trained = arguments.trained.unwrap_or(config.trained);
    if matches!(arguments.schedule, Some(Course::File)) && !is_file(&arguments.run) {
        return Err(Error::input("--schedule file needs a settings file")
            .help("lorascope train run.toml --resume --schedule file"));
    }
    if let Some(course) = arguments.schedule.filter(|_| !arguments.resume) {
        config.schedule = match course {
            Course::File => config.schedule.clone(),
            to => Schedule { warmup: config.schedule.warmup, ..to.schedule(&RunFile::default(), 0) },
        };
    }
    let config = &mut file.config;
    if arguments.strict {
        config.faults = OnFault::Fail;
    }
    if arguments.overwrite {
        config.existing = Existing::Replace;
    }
    file.name = arguments.name.clone().or(file.name);
    file.model = arguments.model.clone().or(file.model);
    file.list = arguments.list.clone().or(file.list);
    file.eval_list = arguments.eval_list.clone().or(file.eval_list);
    let rows = |path: &Option<PathBuf>, list: &Option<String>| {
        path.as_ref().map(|path| rows(path, arguments, list.as_ref())).transpose()
    };
    file.data = rows(&arguments.data, &file.list)?.or(file.data);
    file.eval = rows(&arguments.eval, &file.eval_list)?.or(file.eval);
    if file.name.is_none() {
        return Err(Error::input("the run has no name")
            .path(&arguments.run)
            .help("say name = \"…\" there, or --name"));
    }
    if !arguments.resume {
        for (what, given) in [("model", file.model.is_some()), ("data", file.data.is_some())] {
            if !given {
                return Err(Error::input(format!("a new run needs --{what}"))
                    .help(format!("set {what} = \"…\" in a settings file, or give --{what} PATH")));
            }
        }
    }
    Ok(file)
}

/// The rows of a file, read with --map or --from if given.
fn rows(path: &Path, arguments: &Arguments, list: Option<&String>) -> Result<RowsFrom> {
    let options = ReadOptions { map: arguments.map.clone(), schema: arguments.from, ..Default::default() };
    if options == ReadOptions::default() {
        return Ok(RowsFrom::Path(path.to_path_buf()));
    }
    let options = ReadOptions { list: list.cloned(), ..options };
    Ok(RowsFrom::Recipe(Box::new(Dataset::open_with(path, &options)?.recipe()?)))
}

fn new(file: &RunFile) -> Result<Run> {
    let name = file.name.as_deref().unwrap_or_default();
    if file.config.existing == Existing::Refuse && Run::exists(name)? {
        return Err(Error::state(format!("the run {name:?} exists"))
            .help("--resume continues it, --overwrite moves it aside and starts a new run"));
    }
    file.new_run()
}

/// Opens the existing run, and warns if the settings file differs from the settings of the run.
fn resume(file: &RunFile, arguments: &Arguments) -> Result<Run> {
    let name = file.name.as_deref().unwrap_or_default();
    let RunConfig { devices, placement, .. } = &file.config;
    // What is not said of the two is as in the run.
    let split = arguments.split.is_some() || !placement.is_replicate();
    let moved = split || !devices.is_model();
    let how = OpenRun {
        devices: (!devices.is_model()).then(|| devices.clone()),
        placement: split.then_some(*placement),
        ..if arguments.accept { OpenRun::accept() } else { OpenRun::default() }
    };
    let run = match (arguments.accept || moved) && Run::exists(name)? {
        true if name.contains('/') => Run::open_with(name, &how)?,
        true => Run::open_with(Path::new("runs").join(name), &how)?,
        false => Run::get(name)?,
    };
    let settings = |config: &RunConfig| serde_json::to_value(config).map_err(Error::compute);
    let (said, holds) = (settings(&file.config)?, settings(run.config())?);
    // A setting with its usual value may be left out on either side.
    let names = [&said, &holds].into_iter().filter_map(|settings| settings.as_object());
    let names: BTreeSet<&str> = names.flat_map(|settings| settings.keys().map(String::as_str)).collect();
    let other: Vec<&str> = names.into_iter().filter(|name| said.get(name) != holds.get(name)).collect();
    if is_file(&arguments.run) && !other.is_empty() {
        let other: Vec<&str> = other
            .into_iter()
            .filter(|name| {
                !(matches!(*name, "devices" | "placement")
                    || *name == "schedule" && arguments.schedule.is_some()
                    || *name == "lr" && arguments.lr.is_some())
            })
            .collect();
        let taken =
            if other.contains(&"schedule") { "; --schedule file takes the file's schedule" } else { "" };
        if !other.is_empty() {
            crate::complain(format_args!(
                "the run keeps its own {}, not the file's{taken}",
                other.join(", ")
            ));
        }
    }
    let back = match arguments.rewind {
        Some(Back::Step(step)) => Some(run.rewind(step)?),
        Some(Back::Best) => Some(run.rewind_to_best()?),
        None => None,
    };
    // Print which changes still apply there.
    back.iter().filter_map(|status| status.notes.last()).for_each(crate::complain);
    if let Some(lr) = arguments.lr {
        run.set_lr(lr)?;
    }
    if let Some(course) = arguments.schedule {
        let said = run.status().notes.len();
        let status = run.set_schedule(course.schedule(file, run.config().schedule.warmup))?;
        status.notes.iter().skip(said).for_each(crate::complain);
    }
    Ok(run)
}

/// Returns a flag that SIGINT (Ctrl-C) and SIGTERM set. The second signal ends the process at once. SIGUSR1 sets it as
/// well: mpirun passes it on, and gives as much time as it takes.
pub fn until_asked() -> Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    let cannot = |signal, e| Error::state(format!("cannot handle signal {signal}: {e}"));
    for signal in [SIGINT, SIGTERM] {
        // The check comes first, so the first signal only sets the flag.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, asked.clone())
            .and_then(|_| signal_hook::flag::register(signal, asked.clone()))
            .map_err(|e| cannot(signal, e))?;
    }
    signal_hook::flag::register(SIGUSR1, asked.clone()).map_err(|e| cannot(SIGUSR1, e))?;
    Ok(asked)
}

/// Prints the loss on the evaluation split, if there is one; returns false if a signal interrupted it.
fn evaluate(run: &Run, asked: &AtomicBool) -> Result<bool> {
    if run.config().eval.is_none() {
        return Ok(true);
    }
    let (answer, answered) = channel();
    let run = run.clone();
    // In its own thread, so that a signal need not wait for it.
    std::thread::spawn(move || answer.send(run.evaluate()));
    loop {
        match answered.recv_timeout(LOOK) {
            Ok(evaluation) => crate::print(evaluation?.show().text),
            Err(RecvTimeoutError::Timeout) if asked.load(Ordering::Relaxed) => return Ok(false),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::state("the evaluation ended without a result"));
            }
        }
        return Ok(true);
    }
}

/// Trains to the end; returns false if a signal interrupted it and the run has paused.
fn train(run: &Run, file: &RunFile, arguments: &Arguments, asked: &AtomicBool) -> Result<bool> {
    let begun = run.status();
    if !begin(run, file, arguments)? {
        match begun.ending {
            Some(ending) => crate::print(format_args!("the run is finished: {ending}; {}", ways_on(ending))),
            None => crate::print(format_args!(
                "nothing is left to do after step {}; --steps N trains N more",
                begun.step
            )),
        }
        return Ok(true);
    }
    #[cfg(feature = "tensorboard")]
    let follower = Follower::new(run, begun.step, arguments.tensorboard.as_deref())?;
    let ended = watch(run, begun.step, asked);
    let paused = if let Ok(false) = ended { pause(run, arguments) } else { Ok(()) };
    #[cfg(feature = "tensorboard")]
    let written = follower.end(run);
    let ended = ended?;
    paused?;
    #[cfg(feature = "tensorboard")]
    written?;
    if ended {
        crate::print(run.history().show().text);
        run.status()
            .devices
            .iter()
            .for_each(|device| crate::print(format_args!("{}: {device}", device.name)));
    }
    Ok(ended)
}

/// Watches a run until its training ends; returns false if a signal asks for a pause.
fn watch(run: &Run, begun: u64, asked: &AtomicBool) -> Result<bool> {
    let mut progress = Progress::new(run.name(), 0).after(begun);
    loop {
        let status = run.status();
        status.report(&mut progress);
        match status.state {
            State::Running if asked.load(Ordering::Relaxed) => return Ok(false),
            State::Running => std::thread::sleep(LOOK),
            State::Idle | State::Finished => return Ok(true),
            State::Failed(why) => return Err(Error::compute(why)),
            // Paused by itself: a spike of the loss, or a full disk.
            State::Paused => {
                let why = status.notes.last().map_or("the run has paused", String::as_str);
                return Err(Error::state(why));
            }
            State::Closed => return Err(Error::state(format!("the run {:?} has ended", run.name()))),
        }
    }
}

/// Starts training; returns false if nothing is left to do.
fn begin(run: &Run, file: &RunFile, arguments: &Arguments) -> Result<bool> {
    let status = run.status();
    if let (Some(_), Some(Ending::Early { .. })) = (arguments.more, status.ending) {
        run.set_patience(None)?;
        crate::complain("from here on the run does not stop early");
    }
    if let Some(ending) = run.status().ending {
        // The caller reports this, unless steps were requested that cannot be made.
        return match arguments.steps.or(arguments.more) {
            None => Ok(false),
            Some(_) => Err(Error::state(format!("the run is finished: {ending}")).help(ways_on(ending))),
        };
    }
    let left = status.end.and_then(|end| end.checked_sub(status.step));
    match (arguments.steps.or(arguments.more), file.goal_of(run)?) {
        (Some(steps), _) => run.start(steps)?,
        // After going back to the best step, train only if that is requested.
        (None, _) if matches!(arguments.rewind, Some(Back::Best)) && arguments.lr.is_none() => {
            match arguments.schedule {
                None => return Ok(false),
                Some(_) => run.resume()?,
            }
        }
        (None, _) if status.state == State::Paused => run.resume()?,
        (None, _) if arguments.resume && arguments.schedule.is_some() && left.is_some() => {
            run.start(left.unwrap_or_default())?
        }
        (None, None) if arguments.resume => return Ok(false),
        (None, None) => run.start(STEPS)?,
        (None, Some(until)) if !arguments.resume => run.start_until(until)?,
        // The file now asks for more steps than the run started with.
        (None, Some(Until { steps: Some(steps), .. }))
            if steps > status.step && status.state == State::Idle =>
        {
            run.start(steps - status.step)?
        }
        (None, Some(_)) => return Ok(false),
    };
    Ok(true)
}

/// Describes how to continue a finished run.
fn ways_on(ending: Ending) -> String {
    match ending {
        Ending::Rate { .. } => "--resume --schedule constant --more N trains N more steps, --resume --schedule linear:TOTAL lets the learning rate fall again".to_string(),
        Ending::Early { best, .. } => {
            format!("--resume --more N trains N more steps, --resume --rewind best goes back to step {best}, the best")
        }
    }
}

/// Pauses with a snapshot on disk, and prints how to resume.
fn pause(run: &Run, arguments: &Arguments) -> Result<()> {
    let status = run.pause()?;
    let name = arguments.name.as_ref().map_or(String::new(), |name| format!(" --name {name}"));
    crate::print(format_args!(
        "paused after step {}; lorascope train {}{name} --resume continues",
        status.progress(),
        arguments.run
    ));
    Ok(())
}
