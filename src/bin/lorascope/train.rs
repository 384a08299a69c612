//! `lorascope train`: a run without a notebook.

#[cfg(feature = "tensorboard")]
use super::events::Follower;
use super::reading::{LISTED, format, left_out};
use clap::Args;
use lorascope::dataset::Dataset;
use lorascope::display::{Progress, Show};
use lorascope::error::{Error, Result};
use lorascope::format::Existing;
use lorascope::format::{Map, OnFault, ReadOptions, RowSchema};
use lorascope::run::{Ending, OpenRun, RowsFrom, Run, RunFile, State};
use lorascope::text::Trained;
use lorascope::train::{RunConfig, Schedule, Shape, Until};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Steps of a new run that is told nothing.
const STEPS: u64 = 100;
/// Records that the end names once more.
const LISTED_AGAIN: usize = 5;
/// Time between two looks at the run and at signals.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Args)]
pub struct Arguments {
    /// The run's name in the folder runs, with --resume also the path of its folder; or a file of settings such as run.toml
    run: String,
    /// The run's name, instead of the one in the file of settings
    #[arg(long)]
    name: Option<String>,
    /// Begin anew where a run of this name exists: the old one moves to runs/NAME.1, NAME.2, …
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Go on with the run that exists; model, data and settings come from its folder
    #[arg(long, conflicts_with_all = ["model", "data", "list", "eval", "eval_list", "map", "from", "rank", "batch", "context", "seed", "trained", "strict"])]
    resume: bool,
    /// Go on although the model or the rows are not those that the run was trained with
    #[arg(long, requires = "resume")]
    accept: bool,
    /// Go back to a step first, or to the one with the best evaluation
    #[arg(long, value_name = "STEP|best", requires = "resume")]
    rewind: Option<Back>,
    /// Train N steps more than are done, also where the run has stopped early
    #[arg(long, value_name = "N", requires = "resume", conflicts_with = "steps")]
    more: Option<u64>,
    /// How the learning rate goes along the steps: constant; linear:TOTAL, cosine:TOTAL or wsd:TOTAL, which fall
    /// until step TOTAL; or file, which takes the schedule of the file of settings
    #[arg(long, value_name = "SHAPE")]
    schedule: Option<Course>,
    /// The model: a .gguf file or a Hugging Face folder
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Rows to train on: a file, a folder or a pattern; JSON, CSV or Parquet, plain, .gz or .zst
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// The list of rows to train on, in a file that holds several: train, test
    #[arg(long, value_name = "NAME")]
    list: Option<String>,
    /// Rows to evaluate on, before and after the training
    #[arg(long, value_name = "PATH")]
    eval: Option<PathBuf>,
    /// The list of rows to evaluate on; without --eval, one in the file of --data
    #[arg(long, value_name = "NAME")]
    eval_list: Option<String>,
    /// Where the turns are in --data and --eval, files of no known format: user=question,assistant=answer
    #[arg(long, value_name = "MAP", requires = "data")]
    map: Option<Map>,
    /// The format of the rows of --data and --eval, instead of finding it by looking
    #[arg(long, value_name = "FORMAT", value_parser = format(), requires = "data", conflicts_with = "map")]
    from: Option<RowSchema>,
    /// Steps to train: 100 where nothing else says when to stop; with --resume those that are left
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// The rank of the adapters; 16 where nothing is said, and alpha is twice the rank
    #[arg(long, value_name = "R")]
    rank: Option<usize>,
    /// The peak learning rate; 2e-4 where nothing is said, after 10 steps of warm-up
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Rows of a step; 16 where nothing is said
    #[arg(long, value_name = "ROWS")]
    batch: Option<usize>,
    /// Tokens of a row at most, longer rows are left out; the model's context, at most 2048, where nothing is said
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// The seed of the first values of the adapters and of the order of the rows; 42 where nothing is said
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Which turns of a conversation are trained on: assistant, last-assistant or all; plain texts are trained on whole
    #[arg(long, value_name = "WHAT")]
    trained: Option<Trained>,
    /// Fail at the first record that cannot be read or that the chat template refuses, instead of leaving it out
    #[arg(long)]
    strict: bool,
    /// Save the adapter into this new folder when done; PEFT loads it
    #[arg(long, value_name = "FOLDER")]
    save: Option<PathBuf>,
    /// Write the numbers of each step into a new file of events in this folder, for TensorBoard
    #[cfg(feature = "tensorboard")]
    #[arg(long, value_name = "FOLDER")]
    tensorboard: Option<PathBuf>,
}

/// Where a run goes back to.
#[derive(Debug, Clone, Copy)]
enum Back {
    Step(u64),
    Best,
}

impl FromStr for Back {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "best" => Ok(Self::Best),
            step => {
                step.parse().map(Self::Step).map_err(|_| "give the number of a step, or best".to_string())
            }
        }
    }
}

/// How a learning rate goes on.
#[derive(Debug, Clone, Copy)]
enum Course {
    File,
    To(Shape, Option<u64>),
}

impl FromStr for Course {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || "say constant, linear:TOTAL, cosine:TOTAL, wsd:TOTAL or file".to_string();
        let (name, total) = match text.split_once(':') {
            Some((name, total)) => (name, Some(total.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        match (name, total) {
            ("file", None) => Ok(Self::File),
            ("constant", None) => Ok(Self::To(Shape::Constant, None)),
            ("linear", Some(_)) => Ok(Self::To(Shape::Linear, total)),
            ("cosine", Some(_)) => Ok(Self::To(Shape::Cosine, total)),
            ("wsd", Some(_)) => Ok(Self::To(Shape::Wsd { decay: None }, total)),
            _ => Err(wrong()),
        }
    }
}

impl Course {
    /// The schedule, behind a warm-up where it has none of its own.
    fn schedule(self, file: &RunFile, warmup: u64) -> Schedule {
        match self {
            Self::File => file.config.schedule.clone(),
            Self::To(shape, total) => Schedule { warmup, shape, total, last: None },
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if let Some(folder) = arguments.save.as_ref().filter(|folder| folder.exists()) {
        return Err(Error::input("the adapter was to be saved here, but this exists")
            .path(folder)
            .help("give --save another folder"));
    }
    #[cfg(feature = "tensorboard")]
    if let Some(file) = arguments.tensorboard.as_ref().filter(|folder| folder.exists() && !folder.is_dir()) {
        return Err(Error::input(
            "the file of events was to be written into this folder, but this is a file",
        )
        .path(file)
        .help("give --tensorboard a folder"));
    }
    let file = read(arguments)?;
    let asked = until_asked()?;
    let run = if arguments.resume { resume(&file, arguments)? } else { new(&file)? };
    crate::print(run.show().text);
    left_out(&run.left_out()?, LISTED);
    // Where a signal breaks it off, the run is begun all the same, so that it is known how far it was to go.
    evaluate(&run, &asked)?;
    if !train(&run, &file, arguments, &asked)? {
        return Ok(());
    }
    if !evaluate(&run, &asked)? {
        return pause(&run, arguments);
    }
    if let Some(folder) = &arguments.save {
        crate::print(run.save_adapter(folder)?);
    }
    // Once more: what was said at the beginning may be hours away.
    left_out(&run.left_out()?, LISTED_AGAIN);
    Ok(())
}

/// Whether a file of settings was given, and not a name.
fn is_file(run: &str) -> bool {
    run.ends_with(".toml")
}

/// The name of a run that is given as `runs/NAME`; another path stays what it is.
fn name_of(run: &str) -> String {
    let path = Path::new(run);
    let folder = path.parent().map(Path::canonicalize).and_then(|folder| folder.ok());
    let named = path.file_name().and_then(|name| name.to_str());
    match (folder, Path::new("runs").canonicalize().ok(), named) {
        (Some(folder), Some(runs), Some(name)) if folder == runs => name.to_string(),
        // Before the first run there is no such folder.
        (_, None, Some(name)) if path.parent() == Some(Path::new("runs")) => name.to_string(),
        _ => run.to_string(),
    }
}

/// The file of settings, or what takes its place, with all that the flags say.
fn read(arguments: &Arguments) -> Result<RunFile> {
    let mut file = if is_file(&arguments.run) {
        RunFile::open(&arguments.run)?
    } else {
        RunFile { name: Some(name_of(&arguments.run)), ..RunFile::default() }
    };
    if let Some(rank) = arguments.rank {
        file.config = file.config.rank(rank);
    }
    let config = &mut file.config;
    config.lr = arguments.lr.unwrap_or(config.lr);
    config.batch = arguments.batch.unwrap_or(config.batch);
    config.seed = arguments.seed.unwrap_or(config.seed);
    config.context = arguments.context.or(config.context);
    config.trained = arguments.trained.unwrap_or(config.trained);
    if matches!(arguments.schedule, Some(Course::File)) && !is_file(&arguments.run) {
        return Err(Error::input("--schedule file needs a file of settings")
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
                    .help(format!("say {what} = \"…\" in a file of settings, or --{what} PATH")));
            }
        }
    }
    Ok(file)
}

/// The rows of a file, with a map or a format where it does not say what it is.
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
            .help("--resume goes on with it, --overwrite begins anew and moves it aside"));
    }
    file.new_run()
}

/// The run that exists, and a word where the file says something else than it began with.
fn resume(file: &RunFile, arguments: &Arguments) -> Result<Run> {
    let name = file.name.as_deref().unwrap_or_default();
    let run = match arguments.accept && Run::exists(name)? {
        true if name.contains('/') => Run::open_with(name, &OpenRun::accept())?,
        true => Run::open_with(Path::new("runs").join(name), &OpenRun::accept())?,
        false => Run::get(name)?,
    };
    let settings = |config: &RunConfig| serde_json::to_value(config).map_err(Error::compute);
    let (said, holds) = (settings(&file.config)?, settings(run.config())?);
    let other = said.as_object().into_iter().flatten().filter(|(name, value)| holds.get(name) != Some(value));
    let other: Vec<&str> = other.map(|(name, _)| name.as_str()).collect();
    if is_file(&arguments.run) && !other.is_empty() {
        let other: Vec<&str> = other
            .into_iter()
            .filter(|name| {
                !(*name == "schedule" && arguments.schedule.is_some()
                    || *name == "lr" && arguments.lr.is_some())
            })
            .collect();
        let taken = if other.contains(&"schedule") { "; --schedule file takes that schedule" } else { "" };
        if !other.is_empty() {
            crate::complain(format_args!(
                "the run goes on with its own {}, not with the file's{taken}",
                other.join(", ")
            ));
        }
    }
    let back = match arguments.rewind {
        Some(Back::Step(step)) => Some(run.rewind(step)?),
        Some(Back::Best) => Some(run.rewind_to_best()?),
        None => None,
    };
    // Which changes still hold there.
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

/// A flag that Ctrl-C and a request to end set. The second one ends the process at once.
fn until_asked() -> Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // First looked at, then set: the first signal only sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, asked.clone())
            .and_then(|_| signal_hook::flag::register(signal, asked.clone()))
            .map_err(|e| Error::state(format!("signal {signal} cannot be listened to: {e}")))?;
    }
    Ok(asked)
}

/// Prints the loss on the rows for evaluation, where there are some; false where it was broken off.
fn evaluate(run: &Run, asked: &AtomicBool) -> Result<bool> {
    if run.config().eval.is_none() {
        return Ok(true);
    }
    let (answer, answered) = channel();
    let run = run.clone();
    // Aside: a signal does not wait for it.
    std::thread::spawn(move || answer.send(run.evaluate()));
    loop {
        match answered.recv_timeout(LOOK) {
            Ok(evaluation) => crate::print(evaluation?.show().text),
            Err(RecvTimeoutError::Timeout) if asked.load(Ordering::Relaxed) => return Ok(false),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Err(Error::state("the evaluation broke down")),
        }
        return Ok(true);
    }
}

/// Trains to the end; false where it was broken off, and has paused.
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
    }
    Ok(ended)
}

/// Watches a run that trains to its end; false where a signal asks for a pause.
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
            // Nobody asked: a spike, or a disk that is full.
            State::Paused => {
                let why = status.notes.last().map_or("the run has paused", String::as_str);
                return Err(Error::state(why));
            }
            State::Closed => return Err(Error::state(format!("the run {:?} has ended", run.name()))),
        }
    }
}

/// Begins to train; false where there is nothing left to do.
fn begin(run: &Run, file: &RunFile, arguments: &Arguments) -> Result<bool> {
    let status = run.status();
    if let (Some(_), Some(Ending::Early { .. })) = (arguments.more, status.ending) {
        run.set_patience(None)?;
        crate::complain("from here on the run does not stop early");
    }
    if let Some(ending) = run.status().ending {
        // Said by the caller, unless steps are asked for that cannot be made.
        return match arguments.steps.or(arguments.more) {
            None => Ok(false),
            Some(_) => Err(Error::state(format!("the run is finished: {ending}")).help(ways_on(ending))),
        };
    }
    let left = status.end.and_then(|end| end.checked_sub(status.step));
    match (arguments.steps.or(arguments.more), file.goal_of(run)?) {
        (Some(steps), _) => run.start(steps)?,
        // Who goes back to the best wants that one, unless more is asked for.
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
        // The file asks for more than the run was begun with.
        (None, Some(Until { steps: Some(steps), .. }))
            if steps > status.step && status.state == State::Idle =>
        {
            run.start(steps - status.step)?
        }
        (None, Some(_)) => return Ok(false),
    };
    Ok(true)
}

/// How more of a finished run is had.
fn ways_on(ending: Ending) -> String {
    match ending {
        Ending::Rate { .. } => "--resume --schedule constant --more N trains N steps more, --resume --schedule linear:TOTAL lets the rate fall once more".to_string(),
        Ending::Early { best, .. } => {
            format!("--resume --more N trains N steps more, --resume --rewind best goes back to step {best}, the best")
        }
    }
}

/// Puts a snapshot on disk and says how to go on.
fn pause(run: &Run, arguments: &Arguments) -> Result<()> {
    let status = run.pause()?;
    let name = arguments.name.as_ref().map_or(String::new(), |name| format!(" --name {name}"));
    crate::print(format_args!(
        "paused after step {}; lorascope train {}{name} --resume goes on",
        status.progress(),
        arguments.run
    ));
    Ok(())
}
