//! The other processes that compute for this one, and which run they work for.

use super::frames::Frame;
use super::wire::{ErrorText, FromFollower, Hello, ToFollower, frame, read};
use crate::error::{Error, Result};
use crate::train::{DeviceKind, Devices};
use candle_core::Device;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A process of which nothing is heard for so long has ended, or cannot be reached. Each says something every half
/// second, whatever it computes, from a thread that does nothing else: one that is stopped for some seconds, or shares
/// its cores with many others, is not taken for lost.
pub(super) const LOST: Duration = Duration::from_millis(6500);
/// How long a process may take to open its device.
const OPENING: Duration = Duration::from_secs(120);
/// Time between two looks at the signs of life of one that opens its device.
const LOOK: Duration = Duration::from_millis(20);

static ASKED: AtomicU64 = AtomicU64::new(0);

/// The processes that follow this one. A run takes them all, and gives them back when it ends.
pub struct Followers {
    /// The machine of this process.
    host: String,
    /// The number of this process among those of its machine.
    local: usize,
    all: Vec<Arc<Follower>>,
    taken: AtomicBool,
}

/// Signs of life of another process.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// Milliseconds since something was heard of it.
    silent: AtomicU64,
    /// Grows while it computes.
    count: AtomicU64,
    /// Why the line to it has ended.
    failure: Mutex<Option<Error>>,
}

/// A line to another process.
pub(super) struct Line {
    /// The number of this process, and of the other one.
    pub own: usize,
    pub to: usize,
    pub send: Sender<(usize, Frame)>,
    pub incoming: Receiver<Frame>,
    pub life: Arc<Life>,
}

/// Another process, as the first one sees it.
pub(super) struct Follower {
    pub process: usize,
    pub hello: Hello,
    pub life: Arc<Life>,
    send: Sender<(usize, Frame)>,
    incoming: Mutex<Receiver<Frame>>,
    lost: AtomicBool,
    /// What it computes on, once it was told.
    device: Mutex<Option<(DeviceKind, String)>>,
}

/// Those that work for one run.
pub struct Claim {
    followers: Arc<Followers>,
}

/// What came of asking for them.
pub(crate) enum Claimed {
    /// This process works alone.
    Nobody,
    /// They work for another run.
    ByAnother,
    Here(Claim),
}

static FOLLOWERS: Mutex<Option<Arc<Followers>>> = Mutex::new(None);

impl Life {
    pub fn heard(&self) {
        self.silent.store(0, Ordering::Relaxed);
    }

    /// Nothing was heard for a while.
    pub fn waited(&self, time: Duration) {
        self.silent.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }

    /// The line has ended, for this reason.
    #[cfg(feature = "mpi")]
    pub fn fail(&self, error: Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    pub fn take_failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub fn silent(&self) -> Duration {
        Duration::from_millis(self.silent.load(Ordering::Relaxed))
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub fn counted(&self, count: u64) {
        self.count.store(count, Ordering::Relaxed);
    }
}

impl Line {
    pub fn send(&self, frame: Frame) -> Result<()> {
        self.send.send((self.to, frame)).map_err(|_| gone())
    }
}

fn gone() -> Error {
    Error::compute("the connection between the processes has ended")
}

impl Follower {
    pub fn new(hello: Hello, line: Line) -> Self {
        Self {
            process: line.to,
            hello,
            life: line.life,
            send: line.send,
            incoming: Mutex::new(line.incoming),
            lost: AtomicBool::new(false),
            device: Mutex::new(None),
        }
    }

    /// `process 1 on node2`.
    pub fn name(&self) -> String {
        format!("process {} on {}", self.process, self.hello.host)
    }

    /// What it computes on: `cpu`, `cuda:1`; nothing before it was told.
    pub fn device(&self) -> Option<String> {
        let device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        device.as_ref().map(|(_, name)| name.clone())
    }

    /// Tells it which kind of device to compute on; the number of the answer, if one is to come.
    fn tell_kind(&self, kind: DeviceKind) -> Result<Option<u64>> {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        if device.as_ref().is_some_and(|(known, _)| *known == kind) {
            return Ok(None);
        }
        *device = None;
        let number = 1 + ASKED.fetch_add(1, Ordering::Relaxed);
        self.send(frame(&ToFollower::Device { number, kind }, Vec::new())?)?;
        Ok(Some(number))
    }

    /// Waits for that answer.
    fn hear_device(&self, asked: u64, kind: DeviceKind, begun: Instant) -> Result<()> {
        let incoming = self.incoming();
        let of_it = |error: Error| ErrorText::of(&error).error_of(&self.name());
        loop {
            match incoming.recv_timeout(LOOK) {
                Ok(heard) => match read(&heard).map_err(of_it)? {
                    FromFollower::Device { number, device } if number == asked => {
                        let name = device.map_err(|error| error.error_of(&self.name()))?;
                        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
                        *device = Some((kind, name));
                        return Ok(());
                    }
                    _ => {} // of a pass that was given up
                },
                Err(RecvTimeoutError::Timeout) => {
                    self.check_life().map_err(of_it)?;
                    if begun.elapsed() > OPENING {
                        let seconds = OPENING.as_secs();
                        return Err(of_it(
                            Error::compute(format!("no device is open after {seconds} s"))
                                .help("its driver may hang: nvidia-smi on that machine tells"),
                        ));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(of_it(self.cut())),
            }
        }
    }

    /// Fails where nothing was heard of it for too long.
    pub fn check_life(&self) -> Result<()> {
        let silent = self.life.silent();
        if silent <= LOST {
            return Ok(());
        }
        self.lose();
        Err(Error::compute(format!("nothing was heard of it for {:.0} s", silent.as_secs_f64())).help(
            "the process or its machine has ended, or the network between them; --resume goes on with those that are left",
        ))
    }

    /// The line to it has ended: why.
    pub fn cut(&self) -> Error {
        self.lose();
        self.life.take_failure().unwrap_or_else(|| Error::compute("the connection has ended"))
    }

    pub fn send(&self, frame: Frame) -> Result<()> {
        self.send.send((self.process, frame)).map_err(|_| gone())
    }

    /// What it says. Whoever holds this listens alone.
    pub fn incoming(&self) -> MutexGuard<'_, Receiver<Frame>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is not asked any more.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Followers {
    pub(super) fn new(host: String, local: usize, all: Vec<Follower>) -> Arc<Self> {
        let all = all.into_iter().map(Arc::new).collect();
        Arc::new(Self { host, local, all, taken: AtomicBool::new(false) })
    }

    /// Gives these processes to the runs of this one from now on, or none.
    pub fn set(followers: Option<Arc<Self>>) {
        *FOLLOWERS.lock().unwrap_or_else(PoisonError::into_inner) = followers;
    }

    /// Takes all of them, unless a run works with them.
    pub fn claim(self: &Arc<Self>) -> Option<Claim> {
        (!self.taken.swap(true, Ordering::AcqRel)).then(|| Claim { followers: self.clone() })
    }

    /// `, process 1 on node2`, for each.
    #[cfg(feature = "mpi")]
    pub(super) fn names(&self) -> String {
        self.all.iter().map(|follower| format!(", {}", follower.name())).collect()
    }

    /// The number of processes on this machine.
    pub(super) fn together_here(&self) -> usize {
        self.together(&self.host)
    }

    /// The number of processes on a machine, this one included.
    fn together(&self, host: &str) -> usize {
        let others = self.all.iter().filter(|follower| follower.hello.host == host).count();
        others + usize::from(self.host == host)
    }

    /// Whether one of them does not answer any more.
    pub fn any_lost(&self) -> bool {
        self.all.iter().any(|follower| follower.is_lost())
    }
}

impl Claim {
    /// Tells all of them which kind of device to compute on, and waits until they have it open.
    ///
    /// # Errors
    /// When one of them has none of this kind, was started with another one, or is lost: the error names it.
    pub fn compute_on(&self, kind: DeviceKind) -> Result<()> {
        let mut asked = Vec::new();
        for follower in self.followers() {
            if let Some(number) = follower.tell_kind(kind)? {
                asked.push((follower.clone(), number));
            }
        }
        // All open theirs at the same time. Each answer is heard, so that none is left for what is asked next.
        let begun = Instant::now();
        let heard: Vec<Result<()>> =
            asked.iter().map(|(follower, number)| follower.hear_device(*number, kind, begun)).collect();
        heard.into_iter().collect()
    }

    /// Those that answer.
    pub(super) fn followers(&self) -> impl Iterator<Item = &Arc<Follower>> {
        self.followers.all.iter().filter(|follower| !follower.is_lost())
    }

    /// The number of processes on a machine, this one included.
    pub(super) fn together(&self, host: &str) -> usize {
        self.followers.together(host)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.followers.taken.store(false, Ordering::Release);
    }
}

fn followers() -> Option<Arc<Followers>> {
    FOLLOWERS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The number of processes on this machine that compute together.
pub(super) fn together() -> usize {
    followers().map_or(1, |followers| followers.together_here())
}

/// The devices of a run in this process: of several processes, `auto` is one GPU for each.
pub(crate) fn devices_here(devices: &Devices) -> Result<Vec<Device>> {
    match followers() {
        Some(followers) => devices.of_process(followers.local)?.all(),
        None => devices.all(),
    }
}

/// The processes that follow this one, for one run.
pub(crate) fn claim() -> Claimed {
    let followers = followers();
    let Some(followers) = followers.filter(|f| f.all.iter().any(|follower| !follower.is_lost())) else {
        return Claimed::Nobody;
    };
    followers.claim().map_or(Claimed::ByAnother, Claimed::Here)
}

/// Tells the processes that follow this one on which kind of device a run will compute, before its model is opened.
/// Nothing is told while they work for another run.
///
/// # Errors
/// When one of them cannot: the error names it.
pub(crate) fn agree_on(devices: &Devices) -> Result<()> {
    let Claimed::Here(claim) = claim() else { return Ok(()) };
    // A model lies on the processor where no device is named.
    let first = devices_here(devices)?.into_iter().next().unwrap_or(Device::Cpu);
    claim.compute_on(DeviceKind::of(&first)?)
}
