//! Signs of life of a device's thread, and what it has done.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Written by a device's thread, read by all.
#[derive(Debug, Default)]
pub(super) struct Beat {
    /// Grows between blocks.
    count: AtomicU64,
    busy: AtomicBool,
    /// Tokens that went through it.
    tokens: AtomicU64,
    /// Nanoseconds that it worked.
    worked: AtomicU64,
}

impl Beat {
    pub fn beat(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    pub fn tokens(&self) -> u64 {
        self.tokens.load(Ordering::Relaxed)
    }

    pub fn worked(&self) -> Duration {
        Duration::from_nanos(self.worked.load(Ordering::Relaxed))
    }

    /// Counts tokens that went through.
    pub fn passed(&self, tokens: usize) {
        self.tokens.fetch_add(tokens as u64, Ordering::Relaxed);
    }

    /// Counts time that was worked elsewhere.
    pub fn add_work(&self, nanoseconds: u64) {
        self.worked.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Says whether it works.
    pub fn busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// Does some work, and counts its time.
    pub fn work<R>(&self, work: impl FnOnce() -> R) -> R {
        self.beat();
        self.busy(true);
        let begun = Instant::now();
        let result = work();
        self.worked.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        self.busy(false);
        self.beat();
        result
    }
}

/// Notices a thread that works and gives no sign of life.
#[derive(Debug)]
pub(super) struct Watch {
    count: u64,
    since: Instant,
}

impl Watch {
    pub fn new(beat: &Beat) -> Self {
        Self { count: beat.count(), since: Instant::now() }
    }

    /// How long it has been silent while it was busy.
    pub fn silent(&mut self, beat: &Beat) -> Duration {
        if beat.count() != self.count || !beat.is_busy() {
            *self = Self::new(beat);
        }
        self.since.elapsed()
    }
}
