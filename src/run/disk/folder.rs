//! The folder of a run: `run.json`, `history.jsonl`, `journal.json`, `goal.json`, `answers.jsonl`, and
//! `step-000120/` for each snapshot.

use super::identity::{FORMAT, Identity};
use super::initial_adapters::BEGUN;
use super::lock::{LOCK, lock};
use super::operations::{self as disk, PARTIAL};
use super::snapshot::{self, Context, RunProgress};
use crate::error::{Error, Result};
use crate::lora::Adapters;
use crate::run::answers::Answer;
use crate::run::journal::Journal;
use crate::train::step::Learned;
use crate::train::{Goal, RunConfig, StepReport, render_time};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const RUN: &str = "run.json";
const HISTORY: &str = "history.jsonl";
const JOURNAL: &str = "journal.json";
const GOAL: &str = "goal.json";
const ANSWERS: &str = "answers.jsonl";
const REWIND: &str = "rewind.json";
const STEP: &str = "step-";
/// The prefix of snapshots that cannot be read.
const DAMAGED: &str = "damaged-";
/// The files of a run beside its snapshots.
const FILES: [&str; 7] = [RUN, HISTORY, JOURNAL, GOAL, ANSWERS, REWIND, BEGUN];

/// What a snapshot holds.
type Kept = (Learned, RunProgress);

/// What `rewind.json` says while a run goes back.
#[derive(Debug, Serialize, Deserialize)]
struct Rewind {
    to: u64,
}

/// The folder of one run, locked by this process.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Locks a run's folder, which is made where it is missing, and removes what a killed process left half written.
    ///
    /// # Errors
    /// When another process trains this run, or the folder cannot be made.
    pub fn hold(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).map_err(|e| Error::io(path, e))?;
        let lock = lock(path)?;
        let entries = fs::read_dir(path).map_err(|e| Error::io(path, e))?;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                disk::remove(&entry.path())?;
            }
        }
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Empties the folder, `run.json` first: without it there is no run, whatever else is left.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn clear(&self) -> Result<()> {
        for name in FILES {
            disk::remove(&self.path.join(name))?;
        }
        for name in self.entries()?.iter().filter(|name| is_snapshot(name)) {
            disk::remove(&self.path.join(name))?;
        }
        Ok(())
    }

    /// Removes the run, and its folder where nothing else lies in it.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn remove(self) -> Result<()> {
        self.clear()?;
        disk::remove(&self.path.join(LOCK))?;
        match fs::remove_dir(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::DirectoryNotEmpty => Err(Error::io(&self.path, e)),
            _ => Ok(()),
        }
    }

    /// Makes room for a new run: the old one moves to `NAME.1`, or the next number that is free, and is a whole
    /// run there. Other files in the folder stay. A run without a step holds nothing that is lost, and is removed.
    ///
    /// # Errors
    /// When something cannot be moved or removed.
    pub fn set_aside(self) -> Result<(Self, Option<PathBuf>)> {
        let steps = fs::metadata(self.path.join(HISTORY)).is_ok_and(|history| history.len() > 0);
        if !(steps && Self::exists(&self.path)) {
            self.clear()?;
            return Ok((self, None));
        }
        let path = self.path.clone();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let numbered = (1..).map(|number: u32| path.with_file_name(format!("{name}.{number}")));
        let aside = numbered.into_iter().find(|aside| aside.symlink_metadata().is_err());
        let aside = aside.ok_or_else(|| Error::state("no number is free for the old run").path(&path))?;
        disk::rename(&path, &aside)?;
        let new = Self::hold(&path)?;
        let old = Self { path: aside, _lock: self._lock };
        for name in old.entries()?.iter().filter(|name| !is_own(name)) {
            disk::rename(&old.path.join(name), &path.join(name))?;
        }
        Ok((new, Some(old.path)))
    }

    fn entries(&self) -> Result<Vec<String>> {
        names(&self.path)
    }

    /// Whether there is a run at this path.
    pub fn exists(path: &Path) -> bool {
        path.join(RUN).exists()
    }

    /// When the run was made, in seconds since 1970: the time of its rows where its folder does not say one.
    pub fn time_of_making(path: &Path) -> Option<i64> {
        fs::metadata(path.join(RUN)).ok()?.modified().ok().map(render_time::seconds)
    }

    /// Reads the run's identity, without locking its folder.
    ///
    /// # Errors
    /// When there is no run at this path, or of a later version.
    pub fn identity(path: &Path) -> Result<Identity> {
        /// Read first: a later version may have fields that this one does not know.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let file = path.join(RUN);
        if !Self::exists(path) {
            return Err(Error::not_found("no run here")
                .path(path)
                .help("give the folder of a run, such as runs/NAME"));
        }
        let Version { format } = disk::read_json(&file)?;
        if format != FORMAT {
            return Err(Error::format(format!("format {format}, this version reads {FORMAT}")).path(file));
        }
        disk::read_json(&file)
    }

    /// Writes the run's identity; from then on the run exists.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_identity(&self, identity: &Identity) -> Result<()> {
        disk::write_json(&self.path.join(RUN), identity)
    }

    /// Writes all changes that were made to the run.
    ///
    /// # Errors
    /// When they cannot be written; the file has the earlier ones then.
    pub fn write_journal(path: &Path, journal: &Journal) -> Result<()> {
        disk::write_json(&path.join(JOURNAL), journal)
    }

    /// The changes that were made to the run; those of the newest snapshot where the file is damaged.
    ///
    /// # Errors
    /// When neither can be read.
    pub fn journal(&self) -> Result<Journal> {
        let path = self.path.join(JOURNAL);
        match disk::read_json(&path) {
            Ok(journal) => Ok(journal),
            Err(error) => match self.snapshots()?.pop() {
                Some(newest) => snapshot::journal(&self.snapshot(newest)).map_err(|_| error),
                None if path.exists() => Err(error),
                None => Ok(Journal::default()),
            },
        }
    }

    /// Writes the run's goal.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_goal(&self, goal: &Goal) -> Result<()> {
        disk::write_json(&self.path.join(GOAL), goal)
    }

    /// The run's goal, where it is known.
    pub fn goal(&self) -> Option<Goal> {
        disk::read_json(&self.path.join(GOAL)).ok()
    }

    /// Appends an answer to a prompt that is watched.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append_answer(&self, answer: &Answer) -> Result<()> {
        disk::append(&self.path.join(ANSWERS), &lines(std::slice::from_ref(answer))?)
    }

    /// Rewrites the answers, if there are or were some.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_answers(&self, answers: &[Answer]) -> Result<()> {
        let path = self.path.join(ANSWERS);
        if answers.is_empty() && !path.exists() {
            return Ok(());
        }
        disk::replace_file(&path, &lines(answers)?)
    }

    /// The answers up to a step; a line that was cut short is dropped.
    pub fn answers(&self, last: u64) -> Vec<Answer> {
        let text = fs::read_to_string(self.path.join(ANSWERS)).unwrap_or_default();
        let read = text.lines().filter_map(|line| serde_json::from_str::<Answer>(line).ok());
        read.filter(|answer| answer.step <= last).collect()
    }

    /// Whether the disk has room for this many bytes, as far as the system tells.
    pub fn has_room(&self, bytes: u64) -> bool {
        disk::room(&self.path).is_ok_and(|room| room >= bytes)
    }

    /// Appends one step to the history.
    ///
    /// # Errors
    /// When it cannot be written; the history is as it was then.
    pub fn append(&self, report: &StepReport) -> Result<()> {
        disk::append(&self.path.join(HISTORY), &lines(std::slice::from_ref(report))?)
    }

    /// The history up to a step; later lines are cut off, on disk too.
    ///
    /// # Errors
    /// When the file cannot be read or written, or one of these steps is not in its place.
    pub fn history(&self, last: u64) -> Result<Vec<StepReport>> {
        let path = self.path.join(HISTORY);
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && last == 0 => return Ok(Vec::new()),
            read => read.map_err(|e| Error::io(&path, e))?,
        };
        // Snapshots flush the history first, so up to here every line was whole. What a crash cut in
        // half belongs to a step after it.
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
        let (mut steps, mut length) = (Vec::new(), 0);
        for step in 1..=last {
            let broken = |what: String| {
                Error::format(what).path(&path).line(step).help(format!(
                    "put the line of step {step} back, or remove the snapshots of step {step} and later"
                ))
            };
            let line = lines.next().filter(|line| line.ends_with(b"\n"));
            let line = line.ok_or_else(|| broken(format!("step {step} is missing or cut short")))?;
            let report: StepReport = serde_json::from_slice(line).map_err(|e| broken(e.to_string()))?;
            if report.step != step {
                return Err(broken(format!("step {} stands where step {step} belongs", report.step)));
            }
            steps.push(report);
            length += line.len();
        }
        if length < bytes.len() {
            let cut = File::options().write(true).open(&path).and_then(|file| file.set_len(length as u64));
            cut.map_err(|e| Error::io(&path, e))?;
        }
        Ok(steps)
    }

    /// Rewrites the history.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_history(&self, steps: &[StepReport]) -> Result<()> {
        disk::replace_file(&self.path.join(HISTORY), &lines(steps)?)
    }

    /// Writes a snapshot, unless this step has one, and drops old ones: the last `keep`, the best by
    /// evaluation loss and every n-th step stay.
    ///
    /// # Errors
    /// When it cannot be written; earlier snapshots are untouched then.
    pub fn save(&self, learned: &Learned, place: &RunProgress, context: Context) -> Result<()> {
        let target = self.snapshot(place.step);
        if target.exists() {
            return Ok(()); // the same step has the same tensors
        }
        let partial = disk::partial(0o777).tempdir_in(&self.path).map_err(|e| Error::io(&self.path, e))?;
        snapshot::write(partial.path(), learned, place, context)?;
        // The history reaches the disk before the snapshot that relies on it.
        disk::flush(&self.path.join(HISTORY))?;
        disk::rename(partial.path(), &target)?;
        drop(partial.keep()); // it has moved: nothing is left to remove
        self.prune(context.config)
    }

    fn prune(&self, config: &RunConfig) -> Result<()> {
        let steps = self.snapshots()?;
        let best = steps
            .iter()
            .filter_map(|step| Some((snapshot::place(&self.snapshot(*step)).ok()?.eval_loss?, *step)))
            .filter(|(loss, _)| loss.is_finite())
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, step)| step);
        let kept = |step: u64| {
            Some(step) == best || config.snapshots.keep_every.is_some_and(|every| step.is_multiple_of(every))
        };
        for step in steps.iter().rev().skip(config.snapshots.keep).filter(|step| !kept(**step)) {
            disk::remove(&self.snapshot(*step))?;
        }
        Ok(())
    }

    /// The folder of the snapshot of a step. Digits are padded so that names sort as numbers do.
    pub fn snapshot(&self, step: u64) -> PathBuf {
        snapshot_in(&self.path, step)
    }

    /// The steps that have a snapshot, in order.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn snapshots(&self) -> Result<Vec<u64>> {
        snapshots(&self.path)
    }

    /// The newest snapshot of a run, whose folder need not be locked: its step, and its folder.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn newest(path: &Path) -> Result<Option<(u64, PathBuf)>> {
        Ok(snapshots(path)?.pop().map(|step| (step, snapshot_in(path, step))))
    }

    /// The names of the runs that lie in a folder, in order; none where there is no such folder.
    pub fn runs_in(folder: &Path) -> Vec<String> {
        let runs = names(folder).unwrap_or_default();
        let mut runs: Vec<String> =
            runs.into_iter().filter(|name| Self::exists(&folder.join(name))).collect();
        runs.sort();
        runs
    }

    /// Reads the newest snapshot up to a step that is whole. Newer ones that are damaged are put aside, with a note
    /// each. `None` where no snapshot is left: the run begins anew then.
    ///
    /// # Errors
    /// When the folder cannot be listed, or a damaged snapshot cannot be put aside.
    pub fn load(
        &self,
        last: u64,
        fresh: &Adapters,
        config: &RunConfig,
        device: &Device,
    ) -> Result<(Option<Kept>, Vec<String>)> {
        let mut notes = Vec::new();
        for step in self.snapshots()?.into_iter().rev().filter(|step| *step <= last) {
            let folder = self.snapshot(step);
            let checked = snapshot::check(&folder, config.adaptation);
            match checked.and_then(|()| snapshot::read(&folder, fresh, config, device)) {
                Ok((learned, place)) if place.step == step => return Ok((Some((learned, place)), notes)),
                Ok((_, place)) => notes.push(format!("{}: it is of step {}", folder.display(), place.step)),
                Err(error) => notes.push(format!("the snapshot of step {step} is damaged ({error})")),
            }
            let aside = self.path.join(format!("{DAMAGED}{STEP}{step:06}"));
            disk::remove(&aside)?;
            disk::rename(&folder, &aside)?;
        }
        Ok((None, notes))
    }

    /// Writes down that the run goes back, so that it does even if this process ends now.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin_rewind(&self, to: u64) -> Result<()> {
        disk::write_json(&self.path.join(REWIND), &Rewind { to })
    }

    /// The step that the run was going back to.
    pub fn pending_rewind(&self) -> Option<u64> {
        disk::read_json::<Rewind>(&self.path.join(REWIND)).ok().map(|rewind| rewind.to)
    }

    /// Drops what came after a step: changes and snapshots.
    ///
    /// # Errors
    /// When it cannot be written or removed.
    pub fn forget_after(&self, step: u64, journal: &Journal) -> Result<()> {
        for later in self.snapshots()?.into_iter().rev().filter(|later| *later > step) {
            disk::remove(&self.snapshot(later))?;
        }
        Self::write_journal(&self.path, journal)
    }

    /// Removes the note: the run has gone back.
    ///
    /// # Errors
    /// When the note cannot be removed.
    pub fn end_rewind(&self) -> Result<()> {
        disk::remove(&self.path.join(REWIND))
    }
}

/// The names of all that lies in a folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(|e| Error::io(folder, e))?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

fn snapshots(folder: &Path) -> Result<Vec<u64>> {
    let names = names(folder)?;
    let mut steps: Vec<u64> = names.iter().filter_map(|name| name.strip_prefix(STEP)?.parse().ok()).collect();
    steps.sort_unstable();
    Ok(steps)
}

fn snapshot_in(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("{STEP}{step:06}"))
}

/// Whether this names a snapshot, whole or damaged; `step-by-step.md` does not.
fn is_snapshot(name: &str) -> bool {
    let name = name.strip_prefix(DAMAGED).unwrap_or(name);
    name.strip_prefix(STEP).is_some_and(|step| step.len() >= 6 && step.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a run made the file or folder of this name.
fn is_own(name: &str) -> bool {
    name == LOCK || FILES.contains(&name) || is_snapshot(name) || name.starts_with(PARTIAL)
}

/// Each on a line of its own.
fn lines(values: &[impl Serialize]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for value in values {
        serde_json::to_writer(&mut bytes, value).map_err(Error::compute)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}
