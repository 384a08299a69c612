//! Processes that MPI connects: the first one leads, the others follow.

use super::beat::Beat;
use super::follower::{Opened, serve};
use super::followers::{Follower, Followers, Life, Line};
use super::frames::Frame;
use super::launch::Launch;
use super::pool::share;
use super::pump::{Ending, Peer, Pump};
use super::status::device_name;
use super::wire::{FromFollower, Hello, Setup, frame, read};
use crate::error::{Error, Result};
use candle_core::Device;
use mpi::Threading;
use mpi::traits::Communicator;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long the first process waits until another one has greeted it. All have begun when MPI is there.
const GREETING: Duration = Duration::from_secs(60);

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

impl Processes {
    /// Connects this process, which computes on this device, with the others. Runs of the first process train with all
    /// of them from then on.
    ///
    /// # Errors
    /// When MPI knows another number of processes than were started, or another process runs another version of
    /// lorascope or does not answer.
    pub fn join(launch: &Launch, device: &Device) -> Result<Self> {
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
        let Place { host, lines } =
            place.recv().map_err(|_| Error::compute("MPI ended before it began"))??;
        let mut lines = lines.into_iter();
        let hello =
            Hello { version: env!("CARGO_PKG_VERSION").to_string(), host, device: device_name(device) };
        let role = match launch.process {
            0 => {
                let mut all = Vec::new();
                for (to, incoming, life) in lines {
                    let greeting = incoming.recv_timeout(GREETING).map_err(|_| {
                        Error::state(format!("process {to} has not greeted for {} s", GREETING.as_secs()))
                    })?;
                    let line = Line { own: 0, to, send: out.clone(), incoming, life };
                    all.push(Follower::new(greeted(to, &greeting, &hello)?, line));
                }
                let followers = Followers::new(hello.host, all);
                Followers::set(Some(followers.clone()));
                Role::Leads(followers)
            }
            own => {
                let (to, incoming, life) =
                    lines.next().ok_or_else(|| Error::compute("there is no line to process 0"))?;
                let line = Line { own, to, send: out, incoming, life };
                line.send(frame(&FromFollower::Hello(hello), Vec::new())?)?;
                Role::Follows(line, beat)
            }
        };
        Ok(Self { launch: launch.clone(), role, control, pump })
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

    /// Computes for the first process until it says goodbye, with models that `open` opens. Nothing is done in the
    /// first process.
    ///
    /// # Errors
    /// When nothing is heard of the first process any more.
    pub fn serve(self, open: &dyn Fn(&Setup) -> Result<Opened>) -> Result<()> {
        let Role::Follows(line, beat) = self.role else { return Ok(()) };
        serve(&line, beat, open)?;
        ended(self.pump)
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

    /// Ends all processes at once, this one as well, with this code.
    pub fn abort(self, code: i32) {
        let _ = self.control.send(Ending::Abort(code)); // where it has ended there is nothing to end
        let _ = self.pump.join();
    }
}

fn ended(pump: JoinHandle<()>) -> Result<()> {
    pump.join().map_err(|_| Error::compute("the thread that speaks MPI has failed"))
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
        Pump { world, leads: own == 0, outgoing, control, beat, peers }.run();
    }
}
