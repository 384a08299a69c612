//! Followers that are threads of this process: all that processes tell each other, without a library that connects
//! them. For tests.

use super::beat::Beat;
use super::follower::{Opened, Opener, serve};
use super::followers::{Follower, Followers, Life, Line};
use super::frames::{Assembly, Frame};
use super::wire::{Hello, Setup};
use crate::error::{Error, Result};
use crate::train::Devices;
use candle_core::Device;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// Time between two signs of life.
const LIFE: Duration = Duration::from_millis(5);

/// Followers in threads.
pub struct InProcess {
    /// They, for [`Followers::set`].
    pub followers: Arc<Followers>,
    cut: Vec<Arc<AtomicBool>>,
    told: Told,
}

/// Of each message: the process, and how many numbers it has.
type Told = Arc<Mutex<Vec<(usize, usize)>>>;

impl InProcess {
    /// Cuts the line to a process: nothing is heard of it any more. It counts as silent for as long as a lost one.
    pub fn cut(&self, process: usize) {
        if let Some(cut) = process.checked_sub(1).and_then(|index| self.cut.get(index)) {
            cut.store(true, Ordering::Relaxed);
        }
    }

    /// What the followers have said since the last time: of each message the process, and how many numbers it has.
    pub fn take_told(&self) -> Vec<(usize, usize)> {
        std::mem::take(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Starts `count` followers on the processor that open models with `open`, whose argument is the number of the process.
///
/// # Errors
/// When a thread cannot be started.
pub fn in_process(
    count: usize,
    open: impl Fn(usize, &Setup) -> Result<Opened> + Send + Sync + 'static,
) -> Result<InProcess> {
    in_process_on(count, |_| Devices::default(), open)
}

/// The same with followers that were started with these devices.
///
/// # Errors
/// When a thread cannot be started.
pub fn in_process_on(
    count: usize,
    devices: impl Fn(usize) -> Devices,
    open: impl Fn(usize, &Setup) -> Result<Opened> + Send + Sync + 'static,
) -> Result<InProcess> {
    let open = Arc::new(open);
    let (mut all, mut cuts, told) = (Vec::new(), Vec::new(), Told::default());
    for process in 1..=count {
        let cut = Arc::new(AtomicBool::new(false));
        let (out, sent) = channel();
        let (answers_in, answers) = channel();
        let (to_follower, incoming) = channel();
        let (to_leader, found) = channel();
        let (life, beat) = (Arc::new(Life::default()), Arc::new(Beat::default()));
        carry(sent, to_follower, cut.clone(), |_| {})?;
        let counted = told.clone();
        carry(found, answers_in, cut.clone(), move |frame| {
            let message = (process, frame.numbers().len());
            counted.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        })?;
        live(Arc::downgrade(&life), beat.clone(), cut.clone())?;
        let line = Line { own: process, to: 0, send: to_leader, incoming, life: Arc::default() };
        let (open, devices) = (open.clone(), devices(process));
        spawn(move || {
            let device = |kind| devices.of_follower(kind, 0);
            let model = |setup: &Setup, _: &Device| open(process, setup);
            let _ = serve(&line, beat, Opener { device: &device, model: &model }); // it ends with the line
        })?;
        let hello = Hello { version: String::new(), host: format!("host{}", process % 2) };
        all.push(Follower::new(hello, Line { own: 0, to: process, send: out, incoming: answers, life }));
        cuts.push(cut);
    }
    Ok(InProcess { followers: Followers::new("host0".to_string(), 0, all), cut: cuts, told })
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = std::thread::Builder::new().name("follower".to_string()).spawn(work);
    thread.map(drop).map_err(|e| Error::compute(format!("cannot start a thread: {e}")))
}

/// Carries messages in pieces, as a library between processes does, until the line is cut.
fn carry(
    from: Receiver<(usize, Frame)>,
    to: Sender<Frame>,
    cut: Arc<AtomicBool>,
    count: impl Fn(&Frame) + Send + 'static,
) -> Result<()> {
    spawn(move || {
        let mut assembly = Assembly::default();
        for (_, frame) in from.iter().take_while(|_| !cut.load(Ordering::Relaxed)) {
            count(&frame);
            for piece in frame.pieces() {
                let Ok(whole) = assembly.add(piece) else { return };
                if whole.is_some_and(|frame| to.send(frame).is_err()) {
                    return;
                }
            }
        }
        // Whoever listens to a line that is cut goes on to do so.
        while cut.load(Ordering::Relaxed) {
            std::thread::park_timeout(Duration::from_secs(1));
        }
    })
}

/// Gives signs of life until the line is cut.
fn live(life: Weak<Life>, beat: Arc<Beat>, cut: Arc<AtomicBool>) -> Result<()> {
    spawn(move || {
        while let Some(life) = life.upgrade() {
            life.counted(beat.count());
            match cut.load(Ordering::Relaxed) {
                true => life.waited(Duration::from_secs(1)),
                false => life.heard(),
            }
            drop(life);
            std::thread::sleep(LIFE);
        }
    })
}
