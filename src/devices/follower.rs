//! A process that computes for another one.

use super::balance::placed;
use super::beat::Beat;
use super::flat::Layout;
use super::followers::{LOST, Line};
use super::frames::Frame;
use super::messages::{Event, Pass, SUMS, Seat, What, Work};
use super::pool::{cores, pool};
use super::stage_thread::{StageThread, guarded};
use super::status::device_name;
use super::wire::{ErrorText, FromFollower, Setup, ToFollower, batch, frame, part, read, sum};
use crate::error::{Error, Result};
use crate::model::{Decoder, Model, OpenOptions};
use crate::train::{DeviceKind, Placement};
use candle_core::Device;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time between two looks at the signs of life of the first process.
const LOOK: Duration = Duration::from_millis(200);

/// A model that is open here, on the device of this process.
pub struct Opened {
    /// Its weights and layers.
    pub decoder: Decoder,
    /// Tells whether it is the model of the first process.
    pub fingerprint: String,
}

/// What a process does for the first one when it is asked for it.
pub(super) struct Opener<'a> {
    /// Opens a device of this kind.
    pub device: &'a dyn Fn(DeviceKind) -> Result<Device>,
    /// Opens a model on it.
    pub model: &'a dyn Fn(&Setup, &Device) -> Result<Opened>,
}

/// Opens the model that the first process asks for: `own` where it lies elsewhere for this one.
///
/// # Errors
/// When it cannot be opened, or the device has no room.
pub fn open_model(setup: &Setup, own: Option<&Path>, device: &Device) -> Result<Opened> {
    let options = OpenOptions { weights: setup.weights, ..OpenOptions::default() };
    let model = Model::open_with(own.unwrap_or(&setup.model), &options)?;
    let decoder = match device.is_cpu() {
        true => model.decoder().clone(),
        false => placed(model.decoder(), std::slice::from_ref(device), Placement::Replicate, 0)?,
    };
    Ok(Opened { decoder, fingerprint: model.fingerprint()? })
}

/// What a process holds for the first one.
struct Serving<'a> {
    line: &'a Line,
    beat: Arc<Beat>,
    opener: Opener<'a>,
    /// The device of this process, or why there is none.
    device: Result<(DeviceKind, Device)>,
    setup: Option<Setup>,
    /// The thread that computes, or why there is none.
    stage: Result<Thread>,
    events: Sender<Event>,
    structure: Option<(Layout, Frame)>,
    pass: Option<Arc<Pass>>,
    /// The pass that could not begin, and why.
    refused: Option<(u64, Error)>,
    /// The pack that the thread was given last.
    given: usize,
}

struct Thread {
    inbox: Sender<Work>,
    handle: JoinHandle<()>,
}

/// Computes what the first process asks for, until it says goodbye.
///
/// # Errors
/// When nothing is heard of it any more.
pub(super) fn serve(line: &Line, beat: Arc<Beat>, opener: Opener) -> Result<()> {
    let (events, found) = channel();
    let (send, to, worked) = (line.send.clone(), line.to, beat.clone());
    std::thread::Builder::new()
        .name("answers".to_string())
        .spawn(move || answer(&found, &worked, &mut |frame| send.send((to, frame)).is_ok()))
        .map_err(|e| Error::compute(format!("cannot start a thread: {e}")))?;
    let stage = Err(Error::compute("no model was asked for"));
    let mut serving = Serving {
        line,
        beat,
        opener,
        device: Err(Error::compute("no device was asked for")),
        setup: None,
        stage,
        events,
        structure: None,
        pass: None,
        refused: None,
        given: 0,
    };
    loop {
        serving.look()?;
        match line.incoming.recv_timeout(LOOK) {
            Ok(frame) => serving.hear(&frame)?,
            Err(RecvTimeoutError::Timeout) if line.life.silent() > LOST => {
                serving.give_up();
                let seconds = line.life.silent().as_secs_f64();
                return Err(Error::compute(format!("nothing was heard of process 0 for {seconds:.0} s"))
                    .help("it or its machine has ended, or the network between them"));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                serving.give_up();
                return line.life.take_failure().map_or(Ok(()), Err);
            }
        }
    }
}

impl Serving<'_> {
    fn hear(&mut self, heard: &Frame) -> Result<()> {
        match read::<ToFollower>(heard)? {
            ToFollower::Device { number, kind } => {
                let device = self.open_device(kind).map_err(|error| ErrorText::of(&error));
                self.line.send(frame(&FromFollower::Device { number, device }, Vec::new())?)
            }
            ToFollower::Setup { number, setup, together } => {
                self.give_up();
                if self.setup.as_ref() != Some(&setup) || self.stage.is_err() {
                    (self.setup, self.structure) = (Some(setup.clone()), None);
                    self.stage = Err(Error::compute("the model is not open")); // the old one goes first
                    self.stage = guarded(|| self.start(&setup, together));
                }
                let ready = FromFollower::Ready { number, worked: self.beat.worked().as_nanos() as u64 };
                self.line.send(frame(&ready, Vec::new())?)
            }
            ToFollower::Structure(layout) => {
                self.structure = Some((layout, heard.clone()));
                Ok(())
            }
            ToFollower::Pass { pass, kind, packs } => {
                self.give_up();
                let adapters = match &self.structure {
                    Some((layout, starts)) => layout.adapters(heard.numbers(), starts.numbers()),
                    None => Err(Error::format("a pass of unknown adapters")),
                };
                let begun = adapters.and_then(|adapters| Ok((adapters, batch(packs)?)));
                match begun {
                    Ok((adapters, batch)) => self.pass = Some(Pass::new(adapters, batch, kind, pass)),
                    Err(error) => self.refused = Some((pass, error)),
                }
                Ok(())
            }
            ToFollower::Pack { pass: number, pack } => {
                let Err(error) = self.work(number, pack) else { return Ok(()) };
                self.line.send(failed(number, pack, &error)?)
            }
            ToFollower::Collect { pass: number } => {
                let Err(error) = self.work(number, SUMS) else { return Ok(()) };
                self.line.send(failed(number, SUMS, &error)?)
            }
            ToFollower::Forget { pass } => {
                if self.pass.as_ref().is_some_and(|known| known.number == pass) {
                    self.give_up();
                }
                Ok(())
            }
        }
    }

    /// Opens a device of this kind, unless it is open, and says which it is. The model on another one goes first.
    fn open_device(&mut self, kind: DeviceKind) -> Result<String> {
        let known = self.device.as_ref().is_ok_and(|(known, _)| *known == kind);
        if !known {
            self.give_up();
            self.setup = None;
            self.stage = Err(Error::compute("no model was asked for"));
            self.device = Err(Error::compute("no device is open")); // the old one goes first
            self.device = guarded(|| Ok((kind, (self.opener.device)(kind)?)));
        }
        match &self.device {
            Ok((_, device)) => Ok(device_name(device)),
            Err(error) => Err(ErrorText::of(error).error()),
        }
    }

    /// Says so where the thread has ended that computes.
    fn look(&mut self) -> Result<()> {
        let ended = self.stage.as_ref().is_ok_and(|thread| thread.handle.is_finished());
        let Some(pass) = self.pass.as_ref().filter(|_| ended).map(|pass| pass.number) else { return Ok(()) };
        let error = Error::compute("its thread has ended");
        self.line.send(failed(pass, self.given, &ErrorText::of(&error))?)?;
        (self.stage, self.pass) = (Err(error), None);
        Ok(())
    }

    /// Gives a pack to the thread that computes, or asks it for the sums; or says why not.
    fn work(&mut self, number: u64, pack: usize) -> Result<(), ErrorText> {
        let stage = self.stage.as_ref().map_err(ErrorText::of)?;
        if let Some((_, error)) = self.refused.as_ref().filter(|(refused, _)| *refused == number) {
            return Err(ErrorText::of(error));
        }
        let pass = self.pass.as_ref().filter(|pass| pass.number == number);
        let pass = pass.ok_or_else(|| ErrorText::of(&Error::format("a pack of an unknown pass")))?;
        let pass = pass.clone();
        let work = match pack {
            SUMS => Work::Collect { pass, on_host: true },
            pack => Work::Forward { pass, pack, input: None },
        };
        let _ = stage.inbox.send(work); // that the thread has ended is noticed in the next look
        self.given = pack;
        Ok(())
    }

    /// Opens the model and starts the thread that computes with it.
    fn start(&self, setup: &Setup, together: usize) -> Result<Thread> {
        let (_, device) = self.device.as_ref().map_err(|error| ErrorText::of(error).error())?;
        let Opened { decoder, fingerprint } = (self.opener.model)(setup, device)?;
        if fingerprint != setup.fingerprint {
            return Err(Error::input(format!(
                "another model than that of process 0: its fingerprint is {fingerprint}, there {}",
                setup.fingerprint
            ))
            .help("give every process the same model file"));
        }
        let decoder = decoder.with_precision(setup.precision).with_recompute(setup.recompute);
        let layers = decoder.config().layers;
        let stages = decoder.stages(std::slice::from_ref(&(0..layers)))?;
        let stage = stages.into_iter().next().ok_or_else(|| Error::compute("a model without blocks"))?;
        let (inbox, receiver) = channel();
        let name = format!("process {}", self.line.own);
        let thread = StageThread {
            seat: Seat { pipeline: self.line.own, stage: 0, name: String::new(), beat: self.beat.clone() },
            stage,
            before: Vec::new(),
            inbox: receiver,
            to_previous: None,
            to_next: None,
            events: self.events.clone(),
        };
        let pool = pool(&name, cores(together))?;
        let handle = std::thread::Builder::new()
            .name(name)
            .spawn(move || pool.install(|| thread.serve()))
            .map_err(|e| Error::compute(format!("cannot start a thread: {e}")))?;
        Ok(Thread { inbox, handle })
    }

    /// Gives the pass up that is under way.
    fn give_up(&mut self) {
        let Some(pass) = self.pass.take() else { return };
        pass.cancel();
        if let Ok(stage) = &self.stage {
            let _ = stage.inbox.send(Work::Forget { pass }); // it may have ended
        }
    }
}

fn failed(pass: u64, pack: usize, error: &ErrorText) -> Result<Frame> {
    frame(&FromFollower::Failed { pass, pack, error: error.clone() }, Vec::new())
}

/// Sends what the thread that computes has found.
fn answer(found: &Receiver<Event>, beat: &Beat, send: &mut dyn FnMut(Frame) -> bool) {
    for Event { pass, pack, what, .. } in found.iter() {
        let worked = beat.worked().as_nanos() as u64;
        let told = match what {
            What::Part { gradients, losses } => {
                let losses = losses.map(|(losses, _)| losses).unwrap_or_default();
                guarded(|| part((pass, pack), losses, &gradients, worked))
            }
            What::Sum(gradients) => guarded(|| sum(pass, &gradients, worked)),
            What::Failed(error) => Err(error),
        };
        let told = told.or_else(|error| failed(pass, pack, &ErrorText::of(&error)));
        if !told.is_ok_and(&mut *send) {
            return;
        }
    }
}
