//! The coordinator: it hands the packs of a batch to the devices and adds what they find in the order of the packs.

use super::balance::balanced;
use super::beat::{Beat, Watch};
use super::followers::{Claim, together};
use super::messages::{Event, Pass, PassKind, Seat, Sums, What, Work};
use super::pipeline::{Deal, On, Pipeline, Place};
use super::pool::{cores, pool};
use super::remote::RemoteThread;
use super::stage_thread::StageThread;
use super::status::{DeviceStatus, device_name};
use super::sums::Adder;
use super::wire::Setup;
use crate::error::{Error, Result};
use crate::lora::{Adapters, Gradients};
use crate::model::Decoder;
use crate::train::step::{Accumulated, Learned, RowLoss, check_evaluated};
use crate::train::{Batch, DeviceKind, Placement, Reduction};
use candle_core::Device;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Time between two looks at the stop button and at the threads.
const TICK: Duration = Duration::from_millis(20);
/// A thread that gives no sign of life for so long has failed. Between two signs lies one block, or a piece of the
/// head: seconds on a slow processor.
const SILENCE: Duration = Duration::from_secs(300);

/// The number of passes of this process, so that no answer is taken for that of another pass.
static PASSES: AtomicU64 = AtomicU64::new(0);

/// Threads that work on the packs of a batch at the same time, one for each device, and one for each other process
/// that takes part.
///
/// With R devices that each have the whole model, pack i goes to the device that is free first. With S stages, the
/// blocks of a model lie on S devices, and up to S packs are on their way through them. Each pack's gradients are
/// added in the order of the packs, so that the sums are those of one device to the bit; with
/// [`Reduction::OnDevices`] each rank adds those of its own packs, and the sums of the ranks are added in the end.
pub struct DeviceGroup {
    pipelines: Vec<Pipeline>,
    events: Receiver<Event>,
    events_in: Sender<Event>,
    silence: Duration,
    /// Time in passes.
    spent: Duration,
    blocks: usize,
    reduction: Reduction,
    adder: Adder,
    /// The other processes, as long as they work for this group.
    claim: Option<Claim>,
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
        let blocks = decoder.config().layers;
        placement.check(devices.len(), blocks)?;
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
        Ok(Self {
            pipelines,
            events,
            events_in,
            silence: SILENCE,
            spent: Duration::ZERO,
            blocks,
            reduction: Reduction::Ordered,
            adder: Adder::default(),
            claim: None,
        })
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

    /// Sets where gradients are added.
    #[must_use]
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self.adder = match reduction {
            Reduction::Ordered => Adder::default(),
            Reduction::OnDevices => Adder::of(&self.pipelines),
        };
        self
    }

    /// Why the sums of several GPUs are added in the memory of the host, if they are.
    pub fn note(&self) -> Option<&'static str> {
        self.adder.note()
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
        let kind = PassKind::Train { seed, step, first_pack, reduction: self.reduction };
        let sums = self.pass(&learned.adapters, batch, kind, go_on, |pack, pending| {
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
        into.gradients.merge(sums)?;
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
    /// order of the packs. Gives the sums that the devices made.
    fn pass(
        &mut self,
        adapters: &Adapters,
        batch: &Batch,
        kind: PassKind,
        go_on: &dyn Fn() -> bool,
        mut add: impl FnMut(usize, Pending) -> Result<()>,
    ) -> Result<Gradients> {
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
    ) -> Result<Gradients> {
        let packs = pass.batch.packs.iter().enumerate();
        let order: Vec<usize> = packs.filter(|(_, pack)| pack.trained_tokens() > 0).map(|(i, _)| i).collect();
        // What is not yet added takes memory; sums take none.
        let window = match pass.sums() {
            true => order.len(),
            false => 2 * self.pipelines.iter().map(|pipeline| pipeline.room(true)).sum::<usize>(),
        };
        let mut deal = Deal::of(pass, &order, self.pipelines.len());
        let mut watches = self.watches();
        let mut on_their_way = vec![0; self.pipelines.len()];
        let mut pending: BTreeMap<usize, Pending> = BTreeMap::new();
        let mut given_to: BTreeMap<usize, usize> = BTreeMap::new();
        let mut worked = BTreeSet::new();
        let (mut sent, mut added) = (0, 0);
        while added < order.len() {
            while sent < added + window
                && let Some((rank, pack)) = deal.next(&self.pipelines, &on_their_way)
            {
                let work = Work::Forward { pass: pass.clone(), pack, input: None };
                self.pipelines[rank].seats[0].send(work)?;
                given_to.insert(pack, rank);
                worked.insert(rank);
                on_their_way[rank] += 1;
                sent += 1;
            }
            let Some(event) = self.hear(pass, go_on, &mut watches)? else { continue };
            let Event { pack, stage, what, pipeline, .. } = event;
            if let What::Part { gradients, losses } = what {
                let of_pack = pending.entry(pack).or_default();
                of_pack.parts.insert(stage, gradients);
                of_pack.losses = of_pack.losses.take().or(losses);
                let losses = of_pack.losses.iter();
                let finite = losses.flat_map(|(_, rows)| rows).all(|row| row.loss.is_finite());
                if of_pack.parts.len() == self.pipelines[pipeline].reporting(pass).len() || !finite {
                    on_their_way[pipeline] -= 1;
                    given_to.remove(&pack);
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
        match pass.sums() {
            true => self.collect(pass, &worked, go_on, &mut watches),
            false => Ok(Gradients::new()),
        }
    }

    /// Asks the ranks that have worked for their sums, and adds them.
    fn collect(
        &self,
        pass: &Arc<Pass>,
        worked: &BTreeSet<usize>,
        go_on: &dyn Fn() -> bool,
        watches: &mut [Watch],
    ) -> Result<Gradients> {
        let on_host = self.adder.is_host();
        let places = worked.iter().flat_map(|rank| self.pipelines[*rank].reporting(pass));
        let mut asked = 0;
        for place in places {
            place.send(Work::Collect { pass: pass.clone(), on_host })?;
            asked += 1;
        }
        let mut found = Sums::new();
        while found.len() < asked {
            if let Some(Event { pipeline, stage, what: What::Sum(sums), .. }) =
                self.hear(pass, go_on, watches)?
            {
                found.insert((stage, pipeline), sums);
            }
        }
        self.adder.add(found, self.silence, go_on)
    }

    /// What the threads tell of a pass next; none if they tell nothing for a moment.
    fn hear(&self, pass: &Pass, go_on: &dyn Fn() -> bool, watches: &mut [Watch]) -> Result<Option<Event>> {
        if !go_on() {
            return Err(Error::interrupted());
        }
        match self.events.recv_timeout(TICK) {
            Ok(event) if event.pass != pass.number => Ok(None), // of a pass that was given up
            Ok(Event { what: What::Failed(error), .. }) => Err(error),
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => self.look(watches).map(|()| None),
            Err(RecvTimeoutError::Disconnected) => {
                Err(Error::compute("the threads of all devices have ended"))
            }
        }
    }

    fn watches(&self) -> Vec<Watch> {
        self.pipelines.iter().flat_map(|p| &p.seats).map(|place| Watch::new(&place.beat)).collect()
    }

    /// Fails where a thread has ended, or has been silent for too long in the middle of its work.
    fn look(&self, watches: &mut [Watch]) -> Result<()> {
        let places = self.pipelines.iter().flat_map(|pipeline| &pipeline.seats);
        for (place, watch) in places.zip(watches) {
            if place.thread.is_finished() {
                return Err(place.gone());
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
