//! The requests that wait for the thread of the cells.

use jupyter_protocol::JupyterMessage;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Requests that wait for the thread of the cells.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<VecDeque<JupyterMessage>>,
    more: Condvar,
    closed: AtomicBool,
}

impl Queue {
    pub fn push(&self, request: JupyterMessage) {
        self.lock().push_back(request);
        self.more.notify_one();
    }

    pub fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<JupyterMessage>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn next(&self, wait: Option<Duration>) -> Option<JupyterMessage> {
        let (begun, mut waiting) = (Instant::now(), self.lock());
        loop {
            if let Some(request) = waiting.pop_front() {
                return Some(request);
            }
            let left = wait.map(|wait| wait.saturating_sub(begun.elapsed()));
            if self.closed.load(Ordering::Relaxed) || left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            let left = left.unwrap_or(Duration::from_secs(3600));
            waiting = self.more.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.more.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_queue_ends_and_a_wait_has_an_end() {
        let queue = Queue::default();
        assert!(queue.next(Some(Duration::from_millis(1))).is_none());
        queue.close();
        assert!(queue.next(None).is_none());
    }
}
