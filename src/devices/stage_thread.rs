//! The thread of one device: it runs its stage forward and backward for the packs that it is sent.

use super::faults;
use super::messages::{Event, Pass, PassKind, SUMS, Seat, What, Work};
use crate::error::{Error, Result};
use crate::lora::{Adapters, DropoutPass, Gradients};
use crate::model::{Counted, Saved, Stage, Tokens};
use crate::text::Pack;
use crate::train::memory::advised;
use crate::train::step::{RowLoss, row_losses, trained};
use candle_core::Tensor;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

pub(super) struct StageThread {
    pub seat: Seat,
    pub stage: Stage,
    /// Whether this stage and each of those before it are trained is decided by the adapters of a pass, so they
    /// are asked.
    pub before: Vec<Stage>,
    pub inbox: Receiver<Work>,
    pub to_previous: Option<Sender<Work>>,
    pub to_next: Option<Sender<Work>>,
    pub events: Sender<Event>,
}

/// What a thread keeps while a pass lasts.
struct Local {
    pass: Arc<Pass>,
    /// Those of this stage on its device.
    adapters: Adapters,
    /// Whether something before this stage is trained.
    wanted: bool,
    /// Whether something of this stage or before it is trained.
    keeps: bool,
    saved: BTreeMap<usize, Saved>,
    /// Σ of the gradients of its packs, where it adds them.
    sums: Gradients,
}

impl StageThread {
    /// Works until nobody sends anything any more.
    pub fn serve(self) {
        let (mut forward, mut backward) = (VecDeque::new(), VecDeque::new());
        let mut local: Option<Local> = None;
        loop {
            let mut sort = |work: Work| match work {
                Work::Forward { .. } => forward.push_back(work),
                Work::Backward { .. } | Work::Collect { .. } | Work::Forget { .. } | Work::End => {
                    backward.push_back(work);
                }
            };
            self.inbox.try_iter().for_each(&mut sort);
            // A gradient first: it frees what its pack keeps (one forward, one backward, in turns).
            let work = match backward.pop_front().or_else(|| forward.pop_front()) {
                Some(work) => work,
                None => match self.inbox.recv() {
                    Ok(work) => work,
                    Err(_) => return,
                },
            };
            let Some(pass) = work.pass().cloned() else { return };
            let pack = work.pack();
            if !pass.goes_on() {
                // What comes late of a pass that was given up leaves the one after it alone.
                if local.as_ref().is_some_and(|local| local.pass.number <= pass.number) {
                    local = None;
                }
                continue;
            }
            let done = self.seat.beat.work(|| {
                guarded(|| {
                    if !faults::injected(self.seat.pipeline, self.seat.stage, pack)? {
                        return Ok(false);
                    }
                    if local.as_ref().is_none_or(|local| local.pass.number != pass.number) {
                        local = None; // before the next one is made
                        local = Some(self.begin(pass.clone())?);
                    }
                    match &mut local {
                        Some(local) => self.work(local, work).map(|()| true),
                        None => Ok(true),
                    }
                })
            });
            match done {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    local = None;
                    let error = match pack_of(&pass, pack) {
                        Ok(pack) => advised(error, pack),
                        Err(_) => error,
                    };
                    self.tell(&pass, pack, What::Failed(error.on_device(&self.seat.name)));
                }
            }
        }
    }

    fn begin(&self, pass: Arc<Pass>) -> Result<Local> {
        let adapters = self.stage.place(&pass.adapters)?;
        let wanted = self.before.iter().any(|stage| stage.is_trained(&adapters));
        let keeps = wanted || self.stage.is_trained(&adapters) || self.stage.is_last();
        Ok(Local { pass, adapters, wanted, keeps, saved: BTreeMap::new(), sums: Gradients::new() })
    }

    fn work(&self, local: &mut Local, work: Work) -> Result<()> {
        let pass = local.pass.clone();
        let goes_on = || {
            self.seat.beat.beat();
            pass.goes_on()
        };
        match work {
            Work::Forward { pack: number, input, .. } => {
                let pack = pack_of(&pass, number)?;
                let tokens = Tokens { ids: &pack.ids, borders: &pack.borders };
                self.seat.beat.passed(pack.len());
                match pass.kind {
                    PassKind::Evaluate => {
                        let hidden = self.stage.hidden(input, tokens, &local.adapters, &goes_on)?;
                        self.evaluated(local, number, hidden)
                    }
                    PassKind::Train { .. } => {
                        let adapters = self.dropped(local, number);
                        if !local.keeps {
                            let hidden = self.stage.hidden(input, tokens, &adapters, &goes_on)?;
                            return self.pass_on(&pass, number, hidden);
                        }
                        let (hidden, saved) = self.stage.forward(input, tokens, &adapters, &goes_on)?;
                        if !self.stage.is_last() {
                            local.saved.insert(number, saved);
                            return self.pass_on(&pass, number, hidden);
                        }
                        let (places, targets) = trained(pack);
                        let counted = Counted { places: &places, targets: &targets };
                        let mut gradients = std::mem::take(&mut local.sums);
                        let (losses, dhidden) = self.stage.loss_backward(
                            &hidden,
                            counted,
                            &adapters,
                            &mut gradients,
                            &goes_on,
                        )?;
                        drop(hidden);
                        let rows = row_losses(pack, &pass.batch.rows, &places, &losses);
                        self.back(local, number, saved, dhidden, gradients, Some((losses, rows)))
                    }
                }
            }
            Work::Backward { pack: number, dy, .. } => {
                let saved = local.saved.remove(&number);
                let saved =
                    saved.ok_or_else(|| Error::compute(format!("pack {number} was not run forward")))?;
                let sums = std::mem::take(&mut local.sums);
                self.back(local, number, saved, dy, sums, None)
            }
            Work::Collect { on_host, .. } => {
                let sums = std::mem::take(&mut local.sums);
                let sums = if on_host { sums.on_host()? } else { sums };
                self.tell(&pass, SUMS, What::Sum(sums));
                Ok(())
            }
            Work::Forget { .. } | Work::End => Ok(()),
        }
    }

    /// The backward pass of a pack, and what comes of it: its gradients, or sums with them added.
    fn back(
        &self,
        local: &mut Local,
        number: usize,
        saved: Saved,
        dy: Tensor,
        mut gradients: Gradients,
        losses: Option<(Vec<f32>, Vec<RowLoss>)>,
    ) -> Result<()> {
        let pass = local.pass.clone();
        let goes_on = || {
            self.seat.beat.beat();
            pass.goes_on()
        };
        // A loss that is not finite is looked into by the coordinator.
        let finite = losses.as_ref().is_none_or(|(_, rows)| rows.iter().all(|row| row.loss.is_finite()));
        if finite {
            let borders = &pack_of(&pass, number)?.borders;
            let adapters = self.dropped(local, number);
            let (stage, wanted) = (&self.stage, local.wanted);
            let below = stage.backward(saved, dy, borders, &adapters, &mut gradients, wanted, &goes_on)?;
            if let (Some(dy), Some(previous)) = (below, &self.to_previous) {
                // A thread that has ended is noticed by the coordinator.
                let _ = previous.send(Work::Backward { pass: pass.clone(), pack: number, dy });
            }
        }
        let gradients = match pass.sums() {
            true => {
                local.sums = gradients;
                Gradients::new()
            }
            false => gradients.on_host()?,
        };
        self.tell(&pass, number, What::Part { gradients, losses });
        Ok(())
    }

    fn evaluated(&self, local: &Local, number: usize, hidden: Tensor) -> Result<()> {
        let pass = &local.pass;
        if !self.stage.is_last() {
            return self.pass_on(pass, number, hidden);
        }
        let pack = pack_of(pass, number)?;
        let (places, targets) = trained(pack);
        let counted = Counted { places: &places, targets: &targets };
        let losses = self.stage.decoder().loss(&hidden, counted, &local.adapters)?;
        let rows = row_losses(pack, &pass.batch.rows, &places, &losses);
        self.tell(pass, number, What::Part { gradients: Gradients::new(), losses: Some((losses, rows)) });
        Ok(())
    }

    fn dropped(&self, local: &Local, number: usize) -> Adapters {
        match local.pass.kind {
            PassKind::Train { seed, step, first_pack, .. } => {
                local.adapters.training(DropoutPass { seed, step, pack: first_pack + number as u64 })
            }
            PassKind::Evaluate => local.adapters.clone(),
        }
    }

    fn pass_on(&self, pass: &Arc<Pass>, pack: usize, hidden: Tensor) -> Result<()> {
        if let Some(next) = &self.to_next {
            let _ = next.send(Work::Forward { pass: pass.clone(), pack, input: Some(hidden) });
        }
        Ok(())
    }

    fn tell(&self, pass: &Pass, pack: usize, what: What) {
        let (pipeline, stage) = (self.seat.pipeline, self.seat.stage);
        // Nobody listens any more where the group is gone.
        let _ = self.events.send(Event { pass: pass.number, pack, pipeline, stage, what });
    }
}

fn pack_of(pass: &Pass, number: usize) -> Result<&Pack> {
    pass.batch.packs.get(number).ok_or_else(|| Error::compute(format!("there is no pack {number}")))
}

/// Does work in which a panic becomes an error, and the thread lives on.
pub(crate) fn guarded<R>(work: impl FnOnce() -> Result<R>) -> Result<R> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<&str>().map(|s| (*s).to_string());
        let what = what.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::compute(format!("panic: {what}")).help("this is a defect of lorascope: please report it"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::LoraConfig;
    use crate::model::Decoder;
    use crate::train::{Batch, Reduction};
    use candle_core::Device;
    use std::sync::mpsc::channel;

    #[test]
    fn late_work_of_a_pass_that_was_given_up_leaves_the_next_one_alone() -> Result<()> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tiny");
        let model = Decoder::open(folder, &Device::Cpu)?;
        let adapters = model.new_adapters(&LoraConfig { rank: 2, ..LoraConfig::default() }, 0)?;
        let pack = Pack {
            ids: vec![1, 2, 3],
            positions: vec![0, 1, 2],
            targets: vec![Some(2), Some(3), None],
            borders: vec![0, 3],
            examples: vec![0],
        };
        let kind = PassKind::Train { seed: 0, step: 1, first_pack: 0, reduction: Reduction::Ordered };
        let pass = |number| Pass::new(adapters.clone(), Batch::of(vec![pack.clone()]), kind, number);
        let (given_up, pass) = (pass(1), pass(2));
        let [(inbox, receiver), (to_next, next)] = [channel(), channel()];
        let (events, found) = channel();
        let thread = StageThread {
            seat: Seat { pipeline: 0, stage: 0, name: "cpu".to_string(), beat: Arc::default() },
            stage: model.stages(&[0..1, 1..2])?.remove(0),
            before: Vec::new(),
            inbox: receiver,
            to_previous: None,
            to_next: Some(to_next),
            events,
        };
        let thread = std::thread::spawn(move || thread.serve());
        let send = |work| inbox.send(work).unwrap();
        send(Work::Forward { pass: pass.clone(), pack: 0, input: None });
        let Ok(Work::Forward { input: Some(hidden), .. }) = next.recv() else { panic!("nothing came") };
        // The stage after it was in its last block when the pass was given up.
        given_up.cancel();
        let dy = hidden.zeros_like()?;
        send(Work::Backward { pass: given_up, pack: 0, dy: dy.clone() });
        send(Work::Backward { pass, pack: 0, dy });
        let event = found.recv().unwrap();
        assert_eq!((event.pass, event.pack), (2, 0));
        if let What::Failed(error) = event.what {
            panic!("{error}");
        }
        drop(inbox);
        thread.join().unwrap();
        Ok(())
    }
}
