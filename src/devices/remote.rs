//! The thread that speaks with another process: a whole model there takes packs like a device here.

use super::beat::Beat;
use super::followers::Follower;
use super::frames::Frame;
use super::messages::{Event, Pass, PassKind, SUMS, What, Work};
use super::wire::{FromFollower, Setup, ToFollower, frame, parts, pass_frames, read};
use crate::error::{Error, Result};
use crate::lora::Gradients;
use crate::train::step::{row_losses, trained};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Duration;

/// Time between two looks at the inbox while packs are on their way.
const LOOK: Duration = Duration::from_millis(1);

static SETUPS: AtomicU64 = AtomicU64::new(0);

/// It has the inbox and the events of the thread of a device.
pub(super) struct RemoteThread {
    pub pipeline: usize,
    pub name: String,
    pub beat: Arc<Beat>,
    pub setup: Setup,
    /// Processes on its machine.
    pub together: usize,
    pub follower: Arc<Follower>,
    pub inbox: Receiver<Work>,
    pub events: Sender<Event>,
}

/// What it knows of the other process.
#[derive(Default)]
struct Known {
    /// The number of what was asked for with [`ToFollower::Setup`].
    setup: u64,
    ready: bool,
    /// The adapters that it was told last.
    structure: Option<Frame>,
    pass: Option<Arc<Pass>>,
    /// Packs of the pass that it works on, and its sums when they were asked for.
    waits: BTreeSet<usize>,
    /// Nanoseconds that it had worked, and how far it had counted.
    worked: u64,
    count: u64,
}

impl RemoteThread {
    /// Works until nobody sends anything any more, or the process is lost.
    pub fn serve(self) {
        let incoming = self.follower.incoming();
        let mut known = Known { setup: 1 + SETUPS.fetch_add(1, Ordering::Relaxed), ..Known::default() };
        let (number, together) = (known.setup, self.together);
        let setup = ToFollower::Setup { number, setup: self.setup.clone(), together };
        let mut asked = frame(&setup, Vec::new()).and_then(|frame| self.follower.send(frame));
        loop {
            self.beat.busy(!known.waits.is_empty());
            let work = match known.waits.is_empty() {
                true => self.inbox.recv().map_err(|_| TryRecvError::Disconnected),
                false => self.inbox.try_recv(),
            };
            match work {
                Ok(work) => {
                    let Some(pass) = work.pass().cloned() else { break };
                    let pack = work.pack();
                    let asked = std::mem::replace(&mut asked, Ok(()));
                    if let Err(error) = asked.and_then(|()| self.tell(&mut known, work)) {
                        self.fail(&pass, pack, error);
                        known.waits.clear();
                    }
                    continue;
                }
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {}
            }
            let heard = match incoming.recv_timeout(LOOK) {
                Ok(frame) => self.hear(&mut known, &frame),
                Err(RecvTimeoutError::Timeout) => self.look(&mut known),
                Err(RecvTimeoutError::Disconnected) => Err(self.follower.cut()),
            };
            if let (Err(error), Some(pass)) = (heard, &known.pass) {
                let pack = known.waits.first().copied().unwrap_or_default();
                self.fail(pass, pack, error);
                known.waits.clear();
                if self.follower.is_lost() {
                    break;
                }
            }
        }
        if let Some(pass) = &known.pass {
            let _ = self.forget(pass); // it may be gone
        }
        self.beat.busy(false);
    }

    /// Passes work on.
    fn tell(&self, known: &mut Known, work: Work) -> Result<()> {
        match work {
            Work::Forward { pass, pack, .. } => {
                if !pass.goes_on() {
                    return Ok(());
                }
                if known.pass.as_ref().is_none_or(|known| known.number != pass.number) {
                    let [structure, begin] = pass_frames(&pass)?;
                    if known.structure.as_ref() != Some(&structure) {
                        self.follower.send(structure.clone())?;
                        known.structure = Some(structure);
                    }
                    self.follower.send(begin)?;
                    known.waits.clear();
                    known.pass = Some(pass.clone());
                }
                let message = ToFollower::Pack { pass: pass.number, pack };
                self.follower.send(frame(&message, Vec::new())?)?;
                if let Some(pack) = pass.batch.packs.get(pack) {
                    self.beat.passed(pack.len());
                }
                known.waits.insert(pack);
                Ok(())
            }
            Work::Collect { pass, .. } => {
                if pass.goes_on() {
                    self.follower.send(frame(&ToFollower::Collect { pass: pass.number }, Vec::new())?)?;
                    known.waits.insert(SUMS);
                }
                Ok(())
            }
            Work::Backward { .. } | Work::End => {
                Err(Error::compute("a gradient for a process that has the whole model"))
            }
            Work::Forget { pass } => {
                if known.pass.as_ref().is_some_and(|known| known.number == pass.number) {
                    known.waits.clear();
                    known.pass = None;
                    self.forget(&pass)?;
                }
                Ok(())
            }
        }
    }

    fn forget(&self, pass: &Pass) -> Result<()> {
        self.follower.send(frame(&ToFollower::Forget { pass: pass.number }, Vec::new())?)
    }

    /// Takes what the process says.
    fn hear(&self, known: &mut Known, frame: &Frame) -> Result<()> {
        self.beat.beat();
        match read::<FromFollower>(frame)? {
            FromFollower::Ready { number, worked } if number == known.setup => {
                (known.ready, known.worked) = (true, worked);
            }
            FromFollower::Part { pass, pack, losses, gradients, worked } => {
                let Some(ours) = known.pass.as_ref().filter(|known| known.number == pass) else {
                    return Ok(()); // of a pass that was given up
                };
                if !known.waits.remove(&pack) {
                    return Err(Error::format(format!(
                        "it answered for pack {pack}, which it was not given"
                    )));
                }
                self.worked(&mut known.worked, worked);
                let (losses, gradients) = parts(frame, losses, &gradients, &ours.adapters)?;
                self.report(ours, pack, losses, gradients)?;
            }
            FromFollower::Sum { pass, gradients, worked } => {
                let Some(ours) = known.pass.as_ref().filter(|known| known.number == pass) else {
                    return Ok(()); // of a pass that was given up
                };
                if !known.waits.remove(&SUMS) {
                    return Err(Error::format("it gave sums that it was not asked for"));
                }
                self.worked(&mut known.worked, worked);
                let (_, gradients) = parts(frame, 0, &gradients, &ours.adapters)?;
                if gradients.is_empty() {
                    return Err(Error::format("sums came without gradients"));
                }
                self.event(ours, SUMS, What::Sum(gradients));
            }
            FromFollower::Failed { pass, pack, error } => {
                if known.pass.as_ref().is_some_and(|known| known.number == pass) {
                    known.waits.remove(&pack);
                    return Err(error.error());
                }
            }
            FromFollower::Ready { .. } | FromFollower::Device { .. } | FromFollower::Hello(_) => {}
        }
        Ok(())
    }

    /// Hands what came of a pack to the coordinator.
    fn report(&self, pass: &Pass, number: usize, losses: Vec<f32>, gradients: Gradients) -> Result<()> {
        let pack = pass.batch.packs.get(number);
        let pack = pack.ok_or_else(|| Error::compute(format!("there is no pack {number}")))?;
        let (places, _) = trained(pack);
        if losses.len() != places.len() {
            let error = format!("{} losses of a pack of {} trained tokens", losses.len(), places.len());
            return Err(Error::format(error));
        }
        let rows = row_losses(pack, &pass.batch.rows, &places, &losses);
        let finite = rows.iter().all(|row| row.loss.is_finite());
        let wanted = matches!(pass.kind, PassKind::Train { .. }) && !pass.sums();
        if finite && wanted && gradients.is_empty() {
            return Err(Error::format("a pack came without gradients"));
        }
        if !wanted && !gradients.is_empty() {
            return Err(Error::format("a pack came with gradients that nobody asked for"));
        }
        self.event(pass, number, What::Part { gradients, losses: Some((losses, rows)) });
        Ok(())
    }

    /// Counts what it has worked since the last time.
    fn worked(&self, before: &mut u64, now: u64) {
        self.beat.add_work(now.saturating_sub(*before));
        *before = now;
    }

    /// Counts its signs of life, and fails where there are none.
    fn look(&self, known: &mut Known) -> Result<()> {
        self.follower.check_life()?;
        let count = self.follower.life.count();
        // While it reads a model there is nothing to count.
        if count != known.count || !known.ready {
            known.count = count;
            self.beat.beat();
        }
        Ok(())
    }

    fn fail(&self, pass: &Pass, pack: usize, error: Error) {
        self.event(pass, pack, What::Failed(error.on_device(&self.name)));
    }

    fn event(&self, pass: &Pass, pack: usize, what: What) {
        // Nobody listens any more where the group is gone.
        let _ = self.events.send(Event { pass: pass.number, pack, pipeline: self.pipeline, stage: 0, what });
    }
}
