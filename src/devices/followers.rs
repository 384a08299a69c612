//! The other processes that compute for this one, and which run they work for.

use super::frames::Frame;
use super::wire::Hello;
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A process of which nothing is heard for so long has ended, or cannot be reached. Each says something every half
/// second, whatever it computes.
pub(super) const LOST: Duration = Duration::from_secs(30);

/// The processes that follow this one. A run takes them all, and gives them back when it ends.
pub struct Followers {
    /// The machine of this process.
    host: String,
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
        }
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
    pub(super) fn new(host: String, all: Vec<Follower>) -> Arc<Self> {
        let all = all.into_iter().map(Arc::new).collect();
        Arc::new(Self { host, all, taken: AtomicBool::new(false) })
    }

    /// Gives these processes to the runs of this one from now on, or none.
    pub fn set(followers: Option<Arc<Self>>) {
        *FOLLOWERS.lock().unwrap_or_else(PoisonError::into_inner) = followers;
    }

    /// Takes all of them, unless a run works with them.
    pub fn claim(self: &Arc<Self>) -> Option<Claim> {
        (!self.taken.swap(true, Ordering::AcqRel)).then(|| Claim { followers: self.clone() })
    }

    /// `, process 1 on node2 (cpu)`, for each.
    #[cfg(feature = "mpi")]
    pub(super) fn names(&self) -> String {
        let name = |follower: &Arc<Follower>| {
            format!(", process {} on {} ({})", follower.process, follower.hello.host, follower.hello.device)
        };
        self.all.iter().map(name).collect()
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

/// The processes that follow this one, for one run.
pub(crate) fn claim() -> Claimed {
    let followers = followers();
    let Some(followers) = followers.filter(|f| f.all.iter().any(|follower| !follower.is_lost())) else {
        return Claimed::Nobody;
    };
    followers.claim().map_or(Claimed::ByAnother, Claimed::Here)
}
