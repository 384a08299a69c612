//! The places that have a whole model together, and which packs they get.

use super::beat::Beat;
use super::followers::Follower;
use super::messages::{Pass, PassKind, Work};
use crate::error::{Error, Result};
use crate::model::Stage;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// The number of packs on their way to another process: while it computes one, the next one is there already.
const AHEAD: usize = 2;

/// Stages that have a whole model together: a rank.
pub(super) struct Pipeline {
    pub seats: Vec<Place>,
}

pub(super) struct Place {
    pub inbox: Sender<Work>,
    pub thread: std::thread::JoinHandle<()>,
    pub beat: Arc<Beat>,
    pub name: String,
    pub on: On,
}

/// Where a whole model or a part of it lies.
pub(super) enum On {
    Here(Box<Stage>),
    Elsewhere(Arc<Follower>),
}

impl Place {
    pub fn send(&self, work: Work) -> Result<()> {
        self.inbox.send(work).map_err(|_| self.gone())
    }

    pub fn gone(&self) -> Error {
        Error::compute("its thread has ended")
            .on_device(&self.name)
            .help("resume() begins the step anew with another thread")
    }
}

impl Pipeline {
    /// How many packs may be on their way through it.
    pub fn room(&self, many: bool) -> usize {
        match self.seats.first().map(|place| &place.on) {
            Some(On::Elsewhere(_)) if many => AHEAD,
            _ => self.seats.len(),
        }
    }

    /// The stages that report on a pack: all that something is trained in or before, and the last.
    pub fn reporting(&self, pass: &Pass) -> &[Place] {
        let trained = |place: &Place| match &place.on {
            On::Here(stage) => stage.is_trained(&pass.adapters),
            On::Elsewhere(_) => true,
        };
        let last = self.seats.len().saturating_sub(1);
        let first = match pass.kind {
            PassKind::Evaluate => last,
            PassKind::Train { .. } => self.seats.iter().position(trained).unwrap_or(last),
        };
        &self.seats[first..]
    }
}

/// The packs of a pass that are not yet on their way.
pub(super) enum Deal {
    /// The next one goes to the rank that is free first.
    Any(VecDeque<usize>),
    /// Each rank has its own: which packs are added to which does not depend on how fast they are.
    Own(Vec<VecDeque<usize>>),
}

impl Deal {
    /// Deals packs, of which these are the numbers. Where ranks have their own, each pack goes to the rank with the
    /// fewest tokens so far, the first of them if there are several.
    pub fn of(pass: &Pass, packs: &[usize], ranks: usize) -> Self {
        if !pass.sums() {
            return Self::Any(packs.iter().copied().collect());
        }
        let mut own = vec![(0, VecDeque::new()); ranks];
        for pack in packs {
            if let Some((tokens, own)) = own.iter_mut().min_by_key(|(tokens, _)| *tokens) {
                *tokens += pass.batch.packs[*pack].len();
                own.push_back(*pack);
            }
        }
        Self::Own(own.into_iter().map(|(_, own)| own).collect())
    }

    /// The next rank of these that have room, and the pack that it gets; `waiting` says how many packs a rank has.
    pub fn next(&mut self, pipelines: &[Pipeline], waiting: &[usize]) -> Option<(usize, usize)> {
        // The last packs go to whoever is free.
        let many = match self {
            Self::Any(packs) => packs.len() > pipelines.len(),
            Self::Own(_) => true,
        };
        let mut free = (0..pipelines.len()).filter(|p| waiting[*p] < pipelines[*p].room(many));
        match self {
            Self::Any(packs) => Some((free.min_by_key(|p| waiting[*p])?, packs.pop_front()?)),
            Self::Own(own) => free.find_map(|p| Some((p, own[p].pop_front()?))),
        }
    }
}
