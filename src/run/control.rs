//! Step, start, pause, resume, rewind.

use super::handle::Run;
use super::history::History;
use super::state::shared::RunState;
use super::state::status::{Ending, State, Status};
use super::worker::thread::Request;
use crate::display::{Progress, advice, stop_requested};
use crate::error::{Error, Result};
use crate::train::{Goal, StepReport, Until};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

/// Time between two looks at the progress and at the stop button.
const LOOK: Duration = Duration::from_millis(50);

impl Run {
    /// Trains one step and waits for it.
    ///
    /// # Errors
    /// When the run is training already or finished, or the step fails; and an interrupted error as [`wait`](Self::wait).
    pub fn step(&self) -> Result<StepReport> {
        let steps = self.steps(1)?;
        steps.steps().last().cloned().ok_or_else(|| {
            Error::state("the step was paused").help(advice("run.resume() continues", "--resume continues"))
        })
    }

    /// Trains some steps and waits for them, with progress.
    ///
    /// # Errors
    /// When the run is training already or finished, or a step fails; and an interrupted error as [`wait`](Self::wait).
    pub fn steps(&self, steps: u64) -> Result<History> {
        let before = self.0.shared.read().place.step;
        self.start(steps)?;
        self.wait()?;
        let done = self.0.shared.read().history.iter().filter(|s| s.step > before).cloned().collect();
        Ok(History::new(done, self.footer()))
    }

    /// Begins to train this many steps in the background; the call returns at once.
    ///
    /// # Errors
    /// When the run is training already, is finished, or has ended.
    pub fn start(&self, steps: u64) -> Result<Status> {
        self.train_until(Until::steps(steps))
    }

    /// Begins to train until all rows were seen so many times more: the last step may go on into the next epoch.
    ///
    /// # Errors
    /// When the data cannot be read, and as [`start`](Self::start).
    pub fn start_epochs(&self, epochs: u64) -> Result<Status> {
        self.start(self.steps_of(epochs)?)
    }

    /// The steps in which all rows are seen so many times.
    ///
    /// # Errors
    /// When the data cannot be read.
    pub fn steps_of(&self, epochs: u64) -> Result<u64> {
        let settings = self.settings();
        let rows = self.0.segments.get(settings.segment)?.batches.rows() as u64;
        Ok(rows.saturating_mul(epochs).div_ceil(settings.batch as u64))
    }

    /// Begins to train for so long: `20min`, `1h30min`, `45s`. Only training counts, pauses do not.
    ///
    /// # Errors
    /// When the text is no duration, and as [`start`](Self::start).
    pub fn start_for(&self, time: &str) -> Result<Status> {
        self.train_until(Until::time(time)?)
    }

    /// Begins to train until a condition holds.
    ///
    /// # Errors
    /// When it cannot be used or needs evaluations that the run does not make, and as
    /// [`start`](Self::start).
    pub fn start_until(&self, until: Until) -> Result<Status> {
        until.check()?;
        if until.eval_loss.is_some() && (self.0.eval.is_none() || self.settings().eval_every.is_none()) {
            return Err(Error::state("this run makes no evaluations").help(advice(
                "give it RunConfig::default().eval(&test).eval_every(20)",
                "give the file eval = \"ROWS\" and eval_every = 20",
            )));
        }
        self.train_until(until)
    }

    fn train_until(&self, until: Until) -> Result<Status> {
        self.go(|current| Ok(Goal::from(current.place.step, current.place.seconds, until)))
    }

    /// Publishes a goal and wakes the worker.
    fn go(&self, goal: impl FnOnce(&RunState) -> Result<Goal>) -> Result<Status> {
        self.0.shared.update(|current| {
            match current.state {
                State::Closed => return Err(self.ended()),
                State::Running => {
                    return Err(Error::state(format!("this run is training: step {}", self.status_of(current).progress()))
                        .help("run.status() shows it, run.pause()? stops it"));
                }
                _ if current.partial.is_some() => {
                    return Err(Error::state("gradients of forward_backward are not applied yet")
                        .help("run.optimizer_step()? makes it, run.clear_gradients() forgets them"));
                }
                State::Idle | State::Paused | State::Finished | State::Failed(_) => {}
            }
            if let Some(ending) = current.ending(&self.0.config) {
                let error = Error::state(format!("this run is finished: {ending}"));
                return Err(match ending {
                    Ending::Rate { .. } => error.help(advice(
                        "run.set_schedule(Schedule::default())? goes on at a constant rate, run.rewind(step)? goes back, run.fork(name, ..)? tries another way",
                        "--resume --schedule constant --more N goes on at a constant rate, --resume --rewind STEP goes back",
                    )),
                    Ending::Early { best, .. } => error.help(advice(
                        format!("run.rewind({best})? goes back to it, run.set_patience(None)? trains on, run.fork(name, ..)? tries another way"),
                        "--resume --rewind best goes back to it, --resume --more N trains on".to_string(),
                    )),
                });
            }
            current.goal = goal(current)?;
            current.state = if current.is_reached() { State::Idle } else { State::Running };
            Ok(())
        })?;
        self.send(Request::Go)?;
        Ok(self.status())
    }

    /// Goes on to the goal that the run had before it was paused, failed or was closed.
    ///
    /// # Errors
    /// When no step is left to do, or the run is finished or has ended.
    pub fn resume(&self) -> Result<Status> {
        {
            let current = self.0.shared.read();
            if current.state == State::Running {
                return Ok(self.status_of(&current));
            }
        }
        self.go(|current| match current.is_reached() {
            true => Err(Error::state("no steps are left to do")
                .help(advice("run.start(n)? begins n more", "--more N trains N more"))),
            false => Ok(current.goal),
        })
    }

    /// Stops within a block of the model and returns when a snapshot is on disk. The unfinished step is dropped, and
    /// repeated by [`resume`](Self::resume).
    ///
    /// # Errors
    /// When the snapshot cannot be written.
    pub fn pause(&self) -> Result<Status> {
        let (answer, answered) = channel();
        self.0.shared.stop.store(true, Ordering::Relaxed);
        self.send(Request::Pause(answer))?;
        answered.recv().map_err(|_| self.ended())??;
        Ok(self.status())
    }

    /// Stops for good: as [`pause`](Self::pause), and drops the goal.
    ///
    /// # Errors
    /// When the snapshot cannot be written.
    pub fn stop(&self) -> Result<Status> {
        self.pause()?;
        self.0.shared.update(|current| {
            current.goal = Goal::none(current.place.step);
            if current.state == State::Paused {
                current.rest(&self.0.config);
            }
        });
        self.send(Request::Go)?; // writes the goal
        Ok(self.status())
    }

    /// Goes back to a step: adapters, moments, the place in the data, changes and history are as they
    /// were after it, and the next losses are the same as then. Latest steps are in memory; others
    /// are reached from the snapshot before them by doing steps again, which gives the same to the
    /// bit. A run that trains is paused first. What came after that step is forgotten: take a
    /// [`fork`](Self::fork) first to keep it. A change that was made when that step was done holds from the next
    /// one, and still does: the last of the [notes](Status::notes) says which do.
    ///
    /// # Errors
    /// When the run is not so far yet, or a step in between was made by hand.
    pub fn rewind(&self, step: u64) -> Result<Status> {
        let done = self.0.shared.read().place.step;
        if step > done {
            return Err(Error::input(format!("step {step} is not done yet: the run is at step {done}"))
                .help(advice(
                    format!("give a step from 0 to {done}, or run.start({}) to get there", step - done),
                    format!("give a step from 0 to {done}"),
                )));
        }
        self.rewind_to(step)?;
        let mut status = self.status();
        status.notes.push(self.standing());
        Ok(status)
    }

    pub(crate) fn rewind_to(&self, step: u64) -> Result<()> {
        let (answer, answered) = channel();
        self.0.shared.stop.store(true, Ordering::Relaxed);
        self.send(Request::Rewind(step, answer))?;
        self.await_answer(&answered, "doing steps again", step)
    }

    /// Goes back to the step with the best evaluation so far, as [`rewind`](Self::rewind) does.
    ///
    /// # Errors
    /// When no evaluation was made, and as [`rewind`](Self::rewind).
    pub fn rewind_to_best(&self) -> Result<Status> {
        match self.best() {
            Some(best) => self.rewind(best.step),
            None => Err(Error::state("no evaluation was made along the steps").help(advice(
                "give the run RunConfig::default().eval(&test).eval_every(20)",
                "say eval_every = 20 in a file of settings, beside eval = \"ROWS\"",
            ))),
        }
    }

    /// Waits for the worker's answer, and shows the steps that it makes meanwhile. The stop button ends the waiting, not
    /// the steps: a run that is between two places is of no use.
    pub(crate) fn await_answer<T>(&self, answered: &Receiver<Result<T>>, label: &str, to: u64) -> Result<T> {
        let mut progress: Option<Progress> = None;
        loop {
            match answered.try_recv() {
                Ok(answer) => return answer,
                Err(TryRecvError::Disconnected) => return Err(self.ended()),
                Err(TryRecvError::Empty) => {}
            }
            let step = self.0.shared.read().place.step;
            if stop_requested() {
                return Err(Error::interrupted_at(format!(
                    "{label}: the run is at step {step} of {to}, and goes on to it"
                ))
                .help("run.status() shows how far it is"));
            }
            self.0.shared.wait(Duration::from_millis(20));
            if step <= to {
                let progress = progress.get_or_insert_with(|| Progress::new(label, to).after(step));
                progress.advance(step.saturating_sub(progress.done()), "");
            }
        }
    }

    /// Waits until the run is no longer training, with progress. The stop button of the notebook pauses it, as
    /// [`pause`](Self::pause) does.
    ///
    /// # Errors
    /// When a step fails, or the run ends; an interrupted error when the stop button has paused it.
    pub fn wait(&self) -> Result<Status> {
        let mut progress = Progress::new(self.0.name.clone(), 0).after(self.status().step);
        loop {
            let status = self.status();
            status.report(&mut progress);
            match &status.state {
                State::Running if stop_requested() => self.pause()?.report(&mut progress),
                // By the button, or because the kernel is asked to end: what stands behind is not to be done.
                State::Paused if stop_requested() => {
                    return Err(Error::interrupted_at(format!("paused at step {}", status.progress()))
                        .help("run.resume()? goes on, run.status() shows it"));
                }
                State::Running => self.0.shared.wait(LOOK),
                State::Idle | State::Paused | State::Finished => return Ok(status),
                State::Failed(why) => return Err(Error::compute(why)),
                State::Closed => return Err(self.ended()),
            }
        }
    }

    /// The run's status; answers at once, also in the middle of a step.
    pub fn status(&self) -> Status {
        self.status_of(&self.0.shared.read())
    }

    pub(crate) fn status_of(&self, current: &RunState) -> Status {
        const CURVE: usize = 30;
        let recent: Vec<f64> = current.history.iter().rev().take(8).map(|s| s.seconds).collect();
        let pace = recent.iter().sum::<f64>() / recent.len().max(1) as f64;
        let end = current.end(&self.0.config);
        let ending = if current.state == State::Finished { current.ending(&self.0.config) } else { None };
        let next = current.place.step + 1;
        let next_lr = (!matches!(current.state, State::Finished | State::Closed)).then(|| {
            let settings = current.journal.settings(&self.0.config, next);
            settings.lr * settings.factor(next)
        });
        let goes_on = matches!(current.state, State::Running | State::Paused);
        let by_steps = [current.goal.step, end].into_iter().flatten().min();
        let by_steps = by_steps.map(|last| pace * last.saturating_sub(current.place.step) as f64);
        let by_time = current.goal.seconds.map(|limit| limit - current.place.seconds);
        let left = [by_steps, by_time].into_iter().flatten().min_by(f64::total_cmp);
        let from = current.history.len().saturating_sub(CURVE);
        Status {
            name: self.0.name.clone(),
            state: current.state.clone(),
            step: current.place.step,
            goal: current.goal,
            end,
            ending,
            next_lr,
            last: current.history.last().cloned(),
            losses: current.history[from..].iter().map(|step| step.loss).collect(),
            snapshot: current.snapshot,
            snapshot_seconds: current.snapshot_seconds,
            left: left
                .filter(|seconds| goes_on && *seconds > 0.0)
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
            folder: self.0.folder.clone(),
            notes: current.notes.clone(),
            about_rows: self.about_rows(current),
            devices: current.devices.clone(),
            told: self.0.shared.told.clone(),
        }
    }

    /// The notes on the rows: how many are left out, and what was found before the first step.
    fn about_rows(&self, current: &RunState) -> Vec<String> {
        let settings = current.journal.settings(&self.0.config, current.place.step + 1);
        let train =
            self.0.segments.read(settings.segment).and_then(|segment| segment.batches.counts().note());
        let eval = self.0.eval.as_ref().and_then(|eval| eval.counts().note());
        train.into_iter().chain(eval).chain(current.about_rows.iter().cloned()).collect()
    }
}
