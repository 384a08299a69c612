//! The thread that speaks MPI: it alone calls the library, and none of its calls waits.

use super::beat::Beat;
use super::followers::{LOST, Life};
use super::frames::{Assembly, Frame, PIECE, Piece};
use crate::error::{Error, Result};
use mpi::Tag;
use mpi::datatype::Equivalence;
use mpi::point_to_point::Message;
use mpi::request::{Request, StaticScope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, Source};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// What a message of MPI holds: bytes of a text, numbers, how far a process has counted, or goodbye.
const TEXT: Tag = 1;
const NUMBERS: Tag = 2;
const ALIVE: Tag = 3;
const BYE: Tag = 4;
/// Pieces that are on their way to a process at the same time.
const AHEAD: usize = 2;
/// Time between two signs of life.
const LIFE: Duration = Duration::from_millis(500);
/// Time between two looks while messages come and go, and after a while without any.
const BUSY: Duration = Duration::from_micros(50);
const IDLE: Duration = Duration::from_millis(1);
const UNTIL_IDLE: Duration = Duration::from_millis(20);
/// A longer time between two looks was spent asleep, by the whole machine or by this process alone: it says nothing of
/// the others.
const ASLEEP: Duration = Duration::from_millis(100);
/// How long the others have to say goodbye, without time asleep.
const GOODBYE: Duration = Duration::from_secs(10);

/// How it ends.
pub(super) enum Ending {
    /// Say goodbye to all, and tell those that do not answer.
    Leave(Sender<Vec<usize>>),
    /// Tell those that are left to end by themselves, as another one is lost; answers when they have been told.
    Abandon(Sender<()>),
    /// End all processes at once, with this code.
    Abort(i32),
    /// Call MPI no more: this process ends without the others.
    Stop,
}

/// Another process.
pub(super) struct Peer {
    process: i32,
    life: Arc<Life>,
    /// Where its messages go; nowhere after a goodbye.
    deliver: Option<Sender<Frame>>,
    waiting: VecDeque<Outgoing>,
    sending: VecDeque<Sending>,
    receiving: Option<Receiving>,
    assembly: Assembly,
    /// Whether goodbye was said to it, and by it.
    said: bool,
    heard: bool,
}

/// What is to be sent.
enum Outgoing {
    /// The pieces of a message from this one on.
    Frame(Frame, usize),
    Alive(u64),
    Bye(Why),
}

/// Why goodbye is said. MPI ends with all processes or not at all: where one is lost, the others do not wait for it.
#[derive(Clone, Copy)]
enum Why {
    Done,
    OneIsLost,
}

/// What MPI is sending. The data stay where they are until it is done.
struct Sending {
    request: Transfer,
    _data: Sent,
}

/// What MPI is receiving, and where it writes.
struct Receiving {
    request: Transfer,
    place: Place,
    tag: Tag,
}

enum Transfer {
    Bytes(Request<'static, [u8], StaticScope>),
    Numbers(Request<'static, [f32], StaticScope>),
}

/// Memory that MPI reads. It is shared, so that nothing moves or changes it.
#[derive(Clone)]
enum Sent {
    Frame(Frame, usize),
    Bytes(Arc<[u8]>),
}

/// Memory that MPI writes. A pointer, as nothing else may refer to it meanwhile; it is never freed where the transfer
/// does not end.
enum Place {
    Bytes(*mut [u8]),
    Numbers(*mut [f32]),
}

/// What has come.
enum Received {
    Bytes(Box<[u8]>),
    Numbers(Box<[f32]>),
}

pub(super) struct Pump {
    pub world: SimpleCommunicator,
    /// Whether it says goodbye first.
    pub leads: bool,
    pub outgoing: Receiver<(usize, Frame)>,
    pub control: Receiver<Ending>,
    pub beat: Arc<Beat>,
    pub peers: Vec<Peer>,
}

impl Transfer {
    fn test(self) -> Result<(), Self> {
        match self {
            Self::Bytes(request) => request.test().map(drop).map_err(Self::Bytes),
            Self::Numbers(request) => request.test().map(drop).map_err(Self::Numbers),
        }
    }
}

impl Sent {
    fn piece(&self) -> Option<Piece<'_>> {
        match self {
            Self::Frame(frame, at) => frame.pieces().nth(*at),
            Self::Bytes(bytes) => Some(Piece::Text(bytes)),
        }
    }
}

impl Place {
    /// What has been written there.
    ///
    /// # Safety
    /// The transfer has ended, and this is called once.
    unsafe fn received(self) -> Received {
        // SAFETY: the pointers come from boxes, which nothing has freed.
        unsafe {
            match self {
                Self::Bytes(bytes) => Received::Bytes(Box::from_raw(bytes)),
                Self::Numbers(numbers) => Received::Numbers(Box::from_raw(numbers)),
            }
        }
    }
}

impl Peer {
    pub fn new(process: usize, life: Arc<Life>, deliver: Sender<Frame>) -> Self {
        Self {
            process: process as i32,
            life,
            deliver: Some(deliver),
            waiting: VecDeque::new(),
            sending: VecDeque::new(),
            receiving: None,
            assembly: Assembly::default(),
            said: false,
            heard: false,
        }
    }

    /// Nothing more is sent to it but goodbye.
    fn say_goodbye(&mut self, why: Why) {
        if !std::mem::replace(&mut self.said, true) {
            self.waiting.clear();
            self.waiting.push_back(Outgoing::Bye(why));
        }
    }

    /// Begins to send what waits, and forgets what has been sent; whether something was done.
    fn send(&mut self, world: &SimpleCommunicator) -> bool {
        let before = self.sending.len();
        while let Some(first) = self.sending.pop_front() {
            match first.request.test() {
                Ok(()) => {}
                Err(request) => {
                    self.sending.push_front(Sending { request, ..first });
                    break;
                }
            }
        }
        let mut moved = self.sending.len() < before;
        while self.sending.len() < AHEAD
            && let Some(next) = self.waiting.pop_front()
        {
            moved = true;
            let (data, tag) = match next {
                Outgoing::Alive(count) => (Sent::Bytes(Arc::from(count.to_le_bytes())), ALIVE),
                Outgoing::Bye(Why::Done) => (Sent::Bytes(Arc::from([])), BYE),
                Outgoing::Bye(Why::OneIsLost) => (Sent::Bytes(Arc::from([1])), BYE),
                Outgoing::Frame(frame, at) => {
                    let tag = match frame.pieces().nth(at) {
                        Some(Piece::Text(_)) => TEXT,
                        Some(Piece::Numbers(_)) => NUMBERS,
                        None => continue,
                    };
                    self.waiting.push_front(Outgoing::Frame(frame.clone(), at + 1));
                    (Sent::Frame(frame, at), tag)
                }
            };
            let to = world.process_at_rank(self.process);
            let request = match data.piece() {
                // SAFETY: `data` is kept beside the request until that is complete.
                Some(Piece::Text(bytes)) => {
                    Transfer::Bytes(to.immediate_send_with_tag(StaticScope, unsafe { kept(bytes) }, tag))
                }
                // SAFETY: as above.
                Some(Piece::Numbers(numbers)) => {
                    Transfer::Numbers(to.immediate_send_with_tag(StaticScope, unsafe { kept(numbers) }, tag))
                }
                None => continue,
            };
            self.sending.push_back(Sending { request, _data: data });
        }
        moved
    }

    /// Takes what has come; whether there was something.
    fn receive(&mut self, world: &SimpleCommunicator) -> Result<bool> {
        let mut moved = false;
        if let Some(Receiving { request, place, tag }) = self.receiving.take() {
            match request.test() {
                Err(request) => {
                    self.receiving = Some(Receiving { request, place, tag });
                    return Ok(false);
                }
                Ok(()) => {
                    moved = true;
                    // SAFETY: the transfer has ended.
                    let received = unsafe { place.received() };
                    self.take(tag, &received)?;
                }
            }
        }
        if let Some((message, status)) = world.process_at_rank(self.process).immediate_matched_probe() {
            moved = true;
            let tag = status.tag();
            let count = match tag {
                NUMBERS => status.count(f32::equivalent_datatype()) as usize * size_of::<f32>(),
                _ => status.count(u8::equivalent_datatype()) as usize,
            };
            if count > PIECE {
                std::mem::forget(message); // it stays where it is: nothing is taken from this process any more
                return Err(Error::format(format!(
                    "a piece of {count} bytes came from process {}",
                    self.process
                )));
            }
            self.receiving = Some(receive(message, tag, count));
        }
        Ok(moved)
    }

    fn take(&mut self, tag: Tag, received: &Received) -> Result<()> {
        self.life.heard();
        let piece = match (tag, received) {
            (ALIVE, Received::Bytes(bytes)) => {
                if let Ok(count) = <[u8; 8]>::try_from(&bytes[..]) {
                    self.life.counted(u64::from_le_bytes(count));
                }
                return Ok(());
            }
            (BYE, goodbye) => {
                if matches!(goodbye, Received::Bytes(why) if !why.is_empty()) {
                    let error = format!("process {} has lost another process and ends all", self.process);
                    self.life.fail(Error::compute(error));
                }
                (self.heard, self.deliver) = (true, None);
                return Ok(());
            }
            (TEXT, Received::Bytes(bytes)) => Piece::Text(bytes),
            (NUMBERS, Received::Numbers(numbers)) => Piece::Numbers(numbers),
            _ => {
                return Err(Error::format(format!(
                    "a message of kind {tag} came from process {}",
                    self.process
                )));
            }
        };
        // Nothing is put together any more after a failure.
        let Some(deliver) = &self.deliver else { return Ok(()) };
        if let Some(frame) = self.assembly.add(piece)? {
            let _ = deliver.send(frame); // nobody listens any more where the work has ended
        }
        Ok(())
    }
}

/// Begins to receive a message.
fn receive(message: Message, tag: Tag, bytes: usize) -> Receiving {
    if tag == NUMBERS {
        let place = Box::into_raw(vec![0f32; bytes / size_of::<f32>()].into_boxed_slice());
        // SAFETY: nothing else refers to this memory until the transfer has ended.
        let request = message.immediate_matched_receive_into(StaticScope, unsafe { &mut *place });
        return Receiving { request: Transfer::Numbers(request), place: Place::Numbers(place), tag };
    }
    let place = Box::into_raw(vec![0u8; bytes].into_boxed_slice());
    // SAFETY: as above.
    let request = message.immediate_matched_receive_into(StaticScope, unsafe { &mut *place });
    Receiving { request: Transfer::Bytes(request), place: Place::Bytes(place), tag }
}

/// The same memory without the limit of a borrow.
///
/// # Safety
/// The caller keeps it, unmoved, for as long as what is returned is used.
unsafe fn kept<T>(memory: &[T]) -> &'static [T] {
    // SAFETY: pointer and length are those of a slice.
    unsafe { std::slice::from_raw_parts(memory.as_ptr(), memory.len()) }
}

impl Pump {
    /// Carries messages until goodbye is said; `false` where it was stopped before.
    pub fn run(mut self) -> bool {
        let (mut looked, mut moved, mut lived) = (Instant::now(), Instant::now(), Instant::now());
        let mut silent = Duration::ZERO;
        let mut leaving: Option<(Sender<Vec<usize>>, Duration)> = None;
        let mut abandoning: Option<Sender<()>> = None;
        loop {
            let now = Instant::now();
            let awake = now.duration_since(looked).min(ASLEEP);
            looked = now;
            silent += awake;
            if silent > ASLEEP {
                self.peers.iter().for_each(|peer| peer.life.waited(silent));
                silent = Duration::ZERO;
            }
            if now.duration_since(lived) > LIFE {
                lived = now;
                let count = self.beat.count();
                for peer in self.peers.iter_mut().filter(|peer| !peer.said && peer.life.silent() < LOST) {
                    peer.waiting.push_back(Outgoing::Alive(count));
                }
            }
            match self.control.try_recv() {
                Ok(Ending::Abort(code)) => self.world.abort(code),
                Ok(Ending::Stop) => {
                    // What is on its way is MPI's for as long as the process lives.
                    std::mem::forget(self);
                    return false;
                }
                Ok(Ending::Abandon(answer)) => {
                    self.peers.iter_mut().for_each(|peer| peer.say_goodbye(Why::OneIsLost));
                    abandoning = Some(answer);
                }
                Ok(Ending::Leave(answer)) => {
                    self.peers.iter_mut().for_each(|peer| peer.say_goodbye(Why::Done));
                    leaving = Some((answer, Duration::ZERO));
                }
                Err(_) => {}
            }
            if self.turn() {
                moved = now;
            }
            if let Some(answer) = abandoning.take_if(|_| self.told_those_left()) {
                let _ = answer.send(()); // whoever asked may be gone
            }
            if self.is_over() {
                if let Some((answer, _)) = leaving {
                    let _ = answer.send(Vec::new()); // whoever asked may be gone
                }
                return true;
            }
            if let Some((_, waited)) = &mut leaving {
                *waited += awake;
            }
            if let Some((answer, _)) = leaving.take_if(|(_, waited)| *waited > GOODBYE) {
                let silent = self.peers.iter().filter(|peer| !peer.heard);
                let _ = answer.send(silent.map(|peer| peer.process as usize).collect());
            }
            let wait = if now.duration_since(moved) > UNTIL_IDLE { IDLE } else { BUSY };
            match self.outgoing.recv_timeout(wait) {
                Ok(post) => self.post(post),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(wait),
            }
        }
    }

    fn post(&mut self, (process, frame): (usize, Frame)) {
        let peer = self.peers.iter_mut().find(|peer| peer.process as usize == process && !peer.said);
        if let Some(peer) = peer {
            peer.waiting.push_back(Outgoing::Frame(frame, 0));
        }
    }

    /// Moves what can be moved; whether that was anything.
    fn turn(&mut self) -> bool {
        let mut moved = false;
        while let Ok(post) = self.outgoing.try_recv() {
            self.post(post);
            moved = true;
        }
        for peer in &mut self.peers {
            moved |= peer.send(&self.world);
            match peer.receive(&self.world) {
                Ok(received) => moved |= received,
                Err(error) => {
                    peer.life.fail(error);
                    peer.deliver = None;
                }
            }
            if peer.heard && !self.leads {
                peer.say_goodbye(Why::Done);
            }
        }
        moved
    }

    /// Whether all that was to be said to the processes that are not lost has been sent.
    fn told_those_left(&self) -> bool {
        let mut left = self.peers.iter().filter(|peer| peer.life.silent() < LOST);
        left.all(|peer| peer.waiting.is_empty() && peer.sending.is_empty())
    }

    /// Whether goodbye was said on all sides.
    fn is_over(&self) -> bool {
        self.peers.iter().all(|peer| {
            peer.said
                && peer.heard
                && peer.waiting.is_empty()
                && peer.sending.is_empty()
                && peer.receiving.is_none()
        })
    }
}
