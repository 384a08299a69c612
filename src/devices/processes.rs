//! Processes that MPI connects: the first one leads, the others follow.

use super::beat::Beat;
use super::follower::{Opened, Opener, serve};
use super::followers::{Follower, Followers, Life, Line};
use super::frames::Frame;
use super::launch::Launch;
use super::pool::share;
use super::pump::{Ending, Peer, Pump};
use super::wire::{FromFollower, Hello, Setup, frame, read};
use crate::error::{Error, Result};
use crate::train::DeviceKind;
use candle_core::Device;
use mpi::Threading;
use mpi::traits::Communicator;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long the first process waits until another one has greeted it. All have begun when MPI is there.
const GREETING: Duration = Duration::from_secs(60);

/// How long MPI may take to end after all have said goodbye, or to end all at once.
const END: Duration = Duration::from_secs(30);
const ABORT: Duration = Duration::from_secs(5);
/// How long it may take to tell the others that one is lost.
const TELLING: Duration = Duration::from_secs(1);
/// Time between two looks whether it has.
const LOOK: Duration = Duration::from_millis(5);

/// The processes that were started together, as this one sees them.
pub struct Processes {
    launch: Launch,
    role: Role,
    control: Sender<Ending>,
    pump: JoinHandle<()>,
}

/// What this process does.
enum Role {
    Leads(Arc<Followers>),
    Follows(Line, Arc<Beat>),
}

/// This process among the others, as its thread for MPI finds it.
struct Place {
    host: String,
    /// Lines to the others, in their order: all of them, or the first process.
    lines: Vec<(usize, Receiver<Frame>, Arc<Life>)>,
}

impl Role {
    /// Greets the first process, or waits for the greeting of all others.
    fn of(
        launch: &Launch,
        Place { host, lines }: Place,
        out: &Sender<(usize, Frame)>,
        beat: Arc<Beat>,
    ) -> Result<Self> {
        let own = launch.process;
        let hello = Hello { version: env!("CARGO_PKG_VERSION").to_string(), host };
        let mut lines =
            lines.into_iter().map(|(to, incoming, life)| Line { own, to, send: out.clone(), incoming, life });
        if own > 0 {
            let line = lines.next().ok_or_else(|| Error::compute("there is no line to process 0"))?;
            line.send(frame(&FromFollower::Hello(hello), Vec::new())?)?;
            return Ok(Self::Follows(line, beat));
        }
        let mut all = Vec::new();
        for line in lines {
            let greeting = line.incoming.recv_timeout(GREETING).map_err(|_| {
                Error::state(format!("process {} has not greeted for {} s", line.to, GREETING.as_secs()))
            })?;
            all.push(Follower::new(greeted(line.to, &greeting, &hello)?, line));
        }
        let followers = Followers::new(hello.host, launch.local, all);
        Followers::set(Some(followers.clone()));
        Ok(Self::Leads(followers))
    }
}

impl Processes {
    /// Connects this process with the others. Runs of the first process train with all of them from then on.
    ///
    /// # Errors
    /// When MPI knows another number of processes than were started, or another process runs another version of
    /// lorascope or does not answer.
    pub fn join(launch: &Launch) -> Result<Self> {
        launch.check()?;
        let (out, outgoing) = channel();
        let (control, controlled) = channel();
        let (found, place) = channel();
        let (beat, expected) = (Arc::new(Beat::default()), launch.clone());
        let counted = beat.clone();
        // The thread that begins with MPI is the one that may call it.
        let pump = std::thread::Builder::new()
            .name("mpi".to_string())
            .spawn(move || speak(&expected, outgoing, controlled, counted, &found))
            .map_err(|e| Error::compute(format!("cannot start a thread: {e}")))?;
        let place = place.recv().map_err(|_| Error::compute("MPI ended before it began"))??;
        match Role::of(launch, place, &out, beat) {
            Ok(role) => Ok(Self { launch: launch.clone(), role, control, pump }),
            Err(error) => {
                stop(&control, &pump);
                Err(error)
            }
        }
    }

    /// Whether this is the first process, which has the run.
    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leads(_))
    }

    /// What there is to say of them: who they are, and whether they may use all that their machine has.
    pub fn notes(&self) -> Vec<String> {
        let Role::Leads(followers) = &self.role else { return Vec::new() };
        let mut notes = vec![format!("{} processes: this one{}", self.launch.processes, followers.names())];
        let (bound, share) = share(followers.together_here());
        if bound < share {
            notes.push(format!(
                "this process may use {bound} of {share} cores that are its share: mpirun --bind-to none gives it all"
            ));
        }
        notes
    }

    /// Computes for the first process until it says goodbye, on a device that `device` opens when it is told the
    /// kind, with models that `model` opens there. Nothing is done in the first process.
    ///
    /// # Errors
    /// When nothing is heard of the first process any more.
    pub fn serve(
        self,
        device: &dyn Fn(DeviceKind) -> Result<Device>,
        model: &dyn Fn(&Setup, &Device) -> Result<Opened>,
    ) -> Result<()> {
        let Role::Follows(line, beat) = self.role else { return Ok(()) };
        match serve(&line, beat, Opener { device, model }) {
            Ok(()) => ended(self.pump),
            Err(error) => {
                stop(&self.control, &self.pump);
                Err(error)
            }
        }
    }

    /// Says goodbye to the other processes, which then end.
    ///
    /// # Errors
    /// When one of them was lost, or does not answer; then [`abort`](Self::abort) is what is left.
    pub fn leave(&self) -> Result<()> {
        let Role::Leads(followers) = &self.role else { return Ok(()) };
        Followers::set(None);
        let silent = |which: String| {
            Error::state(format!("{which} did not end, and is ended now"))
                .help("what this run has learned is on disk")
        };
        if followers.any_lost() {
            // Where MPI manages to end none of them, they end by themselves.
            let (answer, told) = channel();
            let asked = self.control.send(Ending::Abandon(answer)).is_ok();
            let _ = asked.then(|| told.recv_timeout(TELLING)); // that is as long as it may take
            return Err(silent("a process that was lost".to_string()));
        }
        let (answer, answered) = channel();
        let asked = self.control.send(Ending::Leave(answer)).ok().and_then(|()| answered.recv().ok());
        match asked.unwrap_or_default().as_slice() {
            [] => Ok(()),
            which => Err(silent(format!("process {which:?} of {}", self.launch.processes))),
        }
    }

    /// Waits until MPI has ended, after [`leave`](Self::leave).
    ///
    /// # Errors
    /// When its thread has failed.
    pub fn end(self) -> Result<()> {
        ended(self.pump)
    }

    /// Ends all processes at once, this one as well, with this code; at the latest when MPI has not managed to for
    /// some seconds, this one alone.
    pub fn abort(self, code: i32) -> ! {
        let _ = self.control.send(Ending::Abort(code)); // where it has ended there is nothing to end
        is_over(&self.pump, ABORT);
        // SAFETY: it ends the process without the handlers of MPI, which wait for others.
        unsafe { libc::_exit(code) }
    }
}

/// Waits until MPI has ended.
fn ended(pump: JoinHandle<()>) -> Result<()> {
    if !is_over(&pump, END) {
        return Err(Error::state(format!("MPI has not ended for {} s, though all was done", END.as_secs()))
            .help("another process may have failed while it ended"));
    }
    pump.join().map_err(|_| Error::compute("the thread that speaks MPI has failed"))
}

/// Leaves MPI as it is, without the others, so that this process can end.
fn stop(control: &Sender<Ending>, pump: &JoinHandle<()>) {
    let _ = control.send(Ending::Stop); // it may have ended
    is_over(pump, ABORT);
}

/// Whether a thread ends within this time.
fn is_over(thread: &JoinHandle<()>, limit: Duration) -> bool {
    let begun = Instant::now();
    while !thread.is_finished() && begun.elapsed() < limit {
        std::thread::sleep(LOOK);
    }
    thread.is_finished()
}

/// Reads the first message of a process.
fn greeted(process: usize, greeting: &Frame, own: &Hello) -> Result<Hello> {
    let FromFollower::Hello(hello) = read(greeting)? else {
        return Err(Error::format(format!("process {process} does not greet")));
    };
    if hello.version != own.version {
        let error = format!(
            "process {process} on {} is lorascope {}, process 0 is {}",
            hello.host, hello.version, own.version
        );
        return Err(Error::state(error).help("start the same version on every machine"));
    }
    Ok(hello)
}

/// The thread that speaks MPI, from its beginning to its end.
fn speak(
    expected: &Launch,
    outgoing: Receiver<(usize, Frame)>,
    control: Receiver<Ending>,
    beat: Arc<Beat>,
    found: &Sender<Result<Place>>,
) {
    let begun = mpi::initialize_with_threading(Threading::Funneled);
    let Some((universe, _)) = begun else {
        let _ = found.send(Err(Error::state("MPI has been used in this process before")));
        return;
    };
    let world = universe.world();
    let (own, all) = (world.rank() as usize, world.size() as usize);
    if (own, all) != (expected.process, expected.processes) {
        let error =
            Error::state(format!("this is {expected}, but MPI says that it is process {own} of {all}"))
                .help("start it with the mpirun of the MPI library that lorascope was built with");
        let _ = found.send(Err(error));
        return;
    }
    let host = mpi::environment::processor_name().unwrap_or_else(|_| "?".to_string());
    let others = if own == 0 { 1..all } else { 0..1 };
    let (mut lines, mut peers) = (Vec::new(), Vec::new());
    for process in others {
        let (deliver, incoming) = channel();
        let life = Arc::new(Life::default());
        lines.push((process, incoming, life.clone()));
        peers.push(Peer::new(process, life, deliver));
    }
    if found.send(Ok(Place { host, lines })).is_ok() {
        let said = Pump { world, leads: own == 0, outgoing, control, beat, peers }.run();
        if !said {
            std::mem::forget(universe); // to end MPI is to wait for the others
        }
    }
}
