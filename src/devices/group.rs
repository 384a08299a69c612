//! The coordinator: it hands the packs of a batch to the devices and adds what they find in the order of the packs.

use super::balance::balanced;
use super::beat::{Beat, Watch};
use super::followers::{Claim, Follower, together};
use super::messages::{Event, Pass, PassKind, Seat, What, Work};
use super::pool::{cores, pool};
use super::remote::RemoteThread;
use super::stage_thread::StageThread;
use super::status::{DeviceStatus, device_name};
use super::wire::Setup;
use crate::error::{Error, Result};
use crate::lora::{Adapters, Gradients};
use crate::model::{Decoder, Stage};
use crate::train::step::{Accumulated, Learned, RowLoss, check_evaluated};
use crate::train::{Batch, DeviceKind, Placement};
use candle_core::Device;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Time between two looks at the stop button and at the threads.
const TICK: Duration = Duration::from_millis(20);
/// A thread that gives no sign of life for so long has failed. Between two signs lies one block, or a piece of the
/// head: seconds on a slow processor.
const SILENCE: Duration = Duration::from_secs(300);

/// The number of packs on their way to another process: while it computes one, the next one is there already.
const AHEAD: usize = 2;

/// The number of passes of this process, so that no answer is taken for that of another pass.
static PASSES: AtomicU64 = AtomicU64::new(0);

/// Threads that work on the packs of a batch at the same time, one for each device, and one for each other process
/// that takes part.
///
/// With R devices that each have the whole model, pack i goes to the device that is free first. With S stages, the
/// blocks of a model lie on S devices, and up to S packs are on their way through them. Each pack's gradients are
/// added in the order of the packs, so that the sums are those of one device to the bit.
pub struct DeviceGroup {
    pipelines: Vec<Pipeline>,
    events: Receiver<Event>,
    events_in: Sender<Event>,
    silence: Duration,
    /// Time in passes.
    spent: Duration,
    blocks: usize,
    /// The other processes, as long as they work for this group.
    claim: Option<Claim>,
}

/// Stages that have a whole model together.
struct Pipeline {
    seats: Vec<Place>,
}

struct Place {
    inbox: Sender<Work>,
    thread: std::thread::JoinHandle<()>,
    beat: Arc<Beat>,
    name: String,
    on: On,
}

/// Where a whole model or a part of it lies.
enum On {
    Here(Box<Stage>),
    Elsewhere(Arc<Follower>),
}

/// What has come of a pack so far.
#[derive(Default)]
struct Pending {
    parts: BTreeMap<usize, Gradients>,
    losses: Option<(Vec<f32>, Vec<RowLoss>)>,
}

impl DeviceGroup {
    /// Starts a thread for each device. `tokens` of a micro-batch decide with the weights how blocks are split.
    ///
    /// # Errors
    /// When the devices cannot be divided into groups of so many stages, there are fewer blocks than stages, or a
    /// device has no room for its part of the model.
    pub fn new(decoder: &Decoder, devices: &[Device], placement: Placement, tokens: usize) -> Result<Self> {
        let stages = placement.stages();
        if stages == 0 || devices.is_empty() || !devices.len().is_multiple_of(stages) {
            return Err(Error::input(format!("{} devices in groups of {stages}", devices.len()))
                .help("the number of devices is a multiple of the number of stages"));
        }
        let blocks = decoder.config().layers;
        if stages > blocks {
            return Err(Error::input(format!("{stages} stages for a model of {blocks} blocks"))
                .help(format!("split it into at most {blocks}")));
        }
        let ranges = balanced(decoder, stages, tokens);
        let threads = (cores(together()) / devices.len()).max(1);
        let (events_in, events) = channel();
        let mut pipelines = Vec::new();
        for (pipeline, devices) in devices.chunks(stages).enumerate() {
            let of_blocks: Vec<Device> =
                ranges.iter().zip(devices).flat_map(|(r, device)| vec![device.clone(); r.len()]).collect();
            let placed = decoder.on_devices(&of_blocks)?;
            let parts = placed.stages(&ranges)?;
            let boxes: Vec<(Sender<Work>, Receiver<Work>)> = parts.iter().map(|_| channel()).collect();
            let senders: Vec<Sender<Work>> = boxes.iter().map(|(sender, _)| sender.clone()).collect();
            let mut seats = Vec::new();
            for (stage, (part, (inbox, receiver))) in parts.iter().zip(boxes).enumerate() {
                let device = part.device().clone();
                let name = format!("{}, rank {}", device_name(&device), pipeline * stages + stage);
                let beat = Arc::new(Beat::default());
                let thread = StageThread {
                    seat: Seat { pipeline, stage, name: name.clone(), beat: beat.clone() },
                    stage: part.clone(),
                    before: parts[..stage].to_vec(),
                    inbox: receiver,
                    to_previous: stage.checked_sub(1).map(|previous| senders[previous].clone()),
                    to_next: senders.get(stage + 1).cloned(),
                    events: events_in.clone(),
                };
                let pool = pool(&name, threads)?;
                let thread = std::thread::Builder::new()
                    .name(name.clone())
                    .spawn(move || pool.install(|| thread.serve()))
                    .map_err(|e| Error::compute(format!("cannot start a thread: {e}")))?;
                seats.push(Place { inbox, thread, beat, name, on: On::Here(Box::new(part.clone())) });
            }
            pipelines.push(Pipeline { seats });
        }
        let (silence, spent) = (SILENCE, Duration::ZERO);
        Ok(Self { pipelines, events, events_in, silence, spent, blocks, claim: None })
    }

    /// The same with other processes, which open the model and take packs as the devices here do.
    ///
    /// # Errors
    /// When one of them cannot compute on the kind of device that is used here. That it cannot open the model, or has another one, is an
    /// error of the first pass.
    pub fn with_followers(mut self, claim: Claim, setup: &Setup) -> Result<Self> {
        claim.compute_on(self.devices().next().map_or(Ok(DeviceKind::Processor), DeviceKind::of)?)?;
        for (ranks, follower) in (self.devices().count()..).zip(claim.followers()) {
            let device = follower.device().unwrap_or_default();
            let name = format!("{device}, rank {ranks}, {}", follower.name());
            let (inbox, receiver) = channel();
            let beat = Arc::new(Beat::default());
            let thread = RemoteThread {
                pipeline: self.pipelines.len(),
                name: name.clone(),
                beat: beat.clone(),
                setup: setup.clone(),
                together: claim.together(&follower.hello.host),
                follower: follower.clone(),
                inbox: receiver,
                events: self.events_in.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(name.clone())
                .spawn(move || thread.serve())
                .map_err(|e| Error::compute(format!("cannot start a thread: {e}")))?;
            let on = On::Elsewhere(follower.clone());
            self.pipelines.push(Pipeline { seats: vec![Place { inbox, thread, beat, name, on }] });
        }
        self.claim = Some(claim);
        Ok(self)
    }

    fn devices(&self) -> impl Iterator<Item = &Device> {
        self.pipelines.iter().flat_map(|pipeline| &pipeline.seats).filter_map(|place| match &place.on {
            On::Here(stage) => Some(stage.device()),
            On::Elsewhere(_) => None,
        })
    }

    /// Sets how long a thread may be silent in the middle of its work.
    #[must_use]
    pub fn silence(mut self, limit: Duration) -> Self {
        self.silence = limit;
        self
    }

    /// Whether it has made no pass yet.
    pub(crate) fn is_new(&self) -> bool {
        self.spent.is_zero()
    }

    /// The number of stages.
    pub fn stages(&self) -> usize {
        self.pipelines.first().map_or(0, |pipeline| pipeline.seats.len())
    }

    /// What each device has done so far.
    pub fn status(&self) -> Vec<DeviceStatus> {
        let all = self.pipelines.iter().flat_map(|pipeline| &pipeline.seats);
        all.map(|place| {
            let on = match &place.on {
                On::Here(stage) => Ok(&**stage),
                On::Elsewhere(_) => Err(self.blocks),
            };
            DeviceStatus::of(&place.name, on, &place.beat, self.spent)
        })
        .collect()
    }

    /// As [`step::forward_backward`](crate::train::step::forward_backward), on all devices.
    ///
    /// # Errors
    /// As it, and when a device fails: the error names it.
    pub fn forward_backward(
        &mut self,
        model: &Decoder,
        learned: &Learned,
        batch: &Batch,
        into: &mut Accumulated,
        go_on: &dyn Fn() -> bool,
    ) -> Result<()> {
        batch.check_trained()?;
        let (seed, step, first_pack) = (learned.seed, learned.optimizer.updates() + 1, into.packs());
        let kind = PassKind::Train { seed, step, first_pack };
        self.pass(&learned.adapters, batch, kind, go_on, |pack, pending| {
            let number = first_pack + pack as u64;
            let pack = &batch.packs[pack];
            let (losses, rows) = pending.losses.unwrap_or_default();
            into.check_finite(model, learned, pack, number, &rows)?;
            // The head's come first, as in one pass through the whole model.
            for (_, gradients) in pending.parts.into_iter().rev() {
                into.gradients.merge(gradients)?;
            }
            into.add(pack, &losses, rows);
            Ok(())
        })?;
        into.count(batch.packs.len());
        Ok(())
    }

    /// As [`step::evaluate`](crate::train::step::evaluate), on all devices.
    ///
    /// # Errors
    /// As it, and when a device fails: the error names it.
    pub fn evaluate(
        &mut self,
        adapters: &Adapters,
        batch: &Batch,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<RowLoss>> {
        let mut all = Vec::with_capacity(batch.rows.len());
        self.pass(adapters, batch, PassKind::Evaluate, go_on, |_, pending| {
            all.extend(pending.losses.map(|(_, rows)| rows).unwrap_or_default());
            Ok(())
        })?;
        check_evaluated(all)
    }

    /// Sends the packs that train something through the pipelines, and hands what comes of each to `add` in the
    /// order of the packs.
    fn pass(
        &mut self,
        adapters: &Adapters,
        batch: &Batch,
        kind: PassKind,
        go_on: &dyn Fn() -> bool,
        mut add: impl FnMut(usize, Pending) -> Result<()>,
    ) -> Result<()> {
        let number = 1 + PASSES.fetch_add(1, Ordering::Relaxed);
        let pass = Pass::new(adapters.clone(), batch.clone(), kind, number);
        let begun = Instant::now();
        let done = self.follow(&pass, go_on, &mut add);
        self.spent += begun.elapsed();
        if done.is_err() {
            pass.cancel();
            for place in self.pipelines.iter().flat_map(|pipeline| &pipeline.seats) {
                let _ = place.inbox.send(Work::Forget { pass: pass.clone() });
            }
        }
        done
    }

    fn follow(
        &self,
        pass: &Arc<Pass>,
        go_on: &dyn Fn() -> bool,
        add: &mut dyn FnMut(usize, Pending) -> Result<()>,
    ) -> Result<()> {
        let packs = pass.batch.packs.iter().enumerate();
        let order: Vec<usize> = packs.filter(|(_, pack)| pack.trained_tokens() > 0).map(|(i, _)| i).collect();
        let expected: Vec<usize> = self.pipelines.iter().map(|pipeline| pipeline.reporting(pass)).collect();
        let window = 2 * self.pipelines.iter().map(|pipeline| pipeline.room(true)).sum::<usize>();
        let mut watches = self.watches();
        let mut on_their_way = vec![0; self.pipelines.len()];
        let mut pending: BTreeMap<usize, Pending> = BTreeMap::new();
        let mut given_to: BTreeMap<usize, usize> = BTreeMap::new();
        let (mut sent, mut added) = (0, 0);
        while added < order.len() {
            while sent < order.len() && sent < added + window {
                // The last packs go to whoever is free.
                let many = order.len() - sent > self.pipelines.len();
                let free =
                    (0..self.pipelines.len()).filter(|p| on_their_way[*p] < self.pipelines[*p].room(many));
                let Some(free) = free.min_by_key(|p| on_their_way[*p]) else { break };
                let first = &self.pipelines[free].seats[0];
                let work = Work::Forward { pass: pass.clone(), pack: order[sent], input: None };
                first.inbox.send(work).map_err(|_| gone(first))?;
                given_to.insert(order[sent], free);
                on_their_way[free] += 1;
                sent += 1;
            }
            if !go_on() {
                return Err(Error::interrupted());
            }
            let event = match self.events.recv_timeout(TICK) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => {
                    self.look(&mut watches)?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::compute("the threads of all devices have ended"));
                }
            };
            if event.pass != pass.number {
                continue; // of a pass that was given up
            }
            let Event { pack, stage, what, pipeline, .. } = event;
            match what {
                What::Failed(error) => return Err(error),
                What::Part { gradients, losses } => {
                    let of_pack = pending.entry(pack).or_default();
                    of_pack.parts.insert(stage, gradients);
                    of_pack.losses = of_pack.losses.take().or(losses);
                    let finite = of_pack
                        .losses
                        .as_ref()
                        .is_none_or(|(_, rows)| rows.iter().all(|row| row.loss.is_finite()));
                    if of_pack.parts.len() == expected[pipeline] || !finite {
                        on_their_way[pipeline] -= 1;
                        given_to.remove(&pack);
                    }
                }
            }
            while let Some(next) = order.get(added).copied() {
                if given_to.contains_key(&next) {
                    break;
                }
                let Some(found) = pending.remove(&next) else { break };
                add(next, found)?;
                added += 1;
            }
        }
        Ok(())
    }

    fn watches(&self) -> Vec<Watch> {
        self.pipelines.iter().flat_map(|p| &p.seats).map(|place| Watch::new(&place.beat)).collect()
    }

    /// Fails where a thread has ended, or has been silent for too long in the middle of its work.
    fn look(&self, watches: &mut [Watch]) -> Result<()> {
        let places = self.pipelines.iter().flat_map(|pipeline| &pipeline.seats);
        for (place, watch) in places.zip(watches) {
            if place.thread.is_finished() {
                return Err(gone(place));
            }
            let silent = watch.silent(&place.beat);
            if silent > self.silence {
                if let On::Elsewhere(follower) = &place.on {
                    follower.lose();
                }
                let seconds = silent.as_secs_f64();
                return Err(Error::compute(format!("no sign of life for {seconds:.1} s"))
                    .on_device(&place.name)
                    .help("the device may hang: resume() begins the step anew with another thread"));
            }
        }
        Ok(())
    }
}

impl Pipeline {
    /// How many packs may be on their way through it.
    fn room(&self, many: bool) -> usize {
        match self.seats.first().map(|place| &place.on) {
            Some(On::Elsewhere(_)) if many => AHEAD,
            _ => self.seats.len(),
        }
    }

    /// The number of stages that report on a pack: all that something is trained in or before, and the last.
    fn reporting(&self, pass: &Pass) -> usize {
        let trained = |place: &Place| match &place.on {
            On::Here(stage) => stage.is_trained(&pass.adapters),
            On::Elsewhere(_) => true,
        };
        match pass.kind {
            PassKind::Evaluate => 1,
            PassKind::Train { .. } => {
                let last = self.seats.len().saturating_sub(1);
                self.seats.len() - self.seats.iter().position(trained).unwrap_or(last)
            }
        }
    }
}

/// A thread that is in the middle of a block ends after it. Those that speak with other processes end at once: these
/// processes may then work for another group.
impl Drop for DeviceGroup {
    fn drop(&mut self) {
        for place in self.pipelines.drain(..).flat_map(|pipeline| pipeline.seats) {
            if let On::Here(_) = place.on {
                let _ = place.inbox.send(Work::End); // it may have ended before
            }
            drop(place.inbox);
            if let On::Elsewhere(_) = place.on {
                let _ = place.thread.join(); // an error has nobody to go to
            }
        }
    }
}

fn gone(place: &Place) -> Error {
    Error::compute("its thread has ended")
        .on_device(&place.name)
        .help("resume() begins the step anew with another thread")
}
