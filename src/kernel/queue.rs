//! The requests that wait for the thread of the cells.

use jupyter_protocol::JupyterMessage;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

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

    /// Waits for the next request; once the queue is closed there is none, and the thread waits for the process's end.
    pub fn next(&self) -> JupyterMessage {
        let mut waiting = self.lock();
        loop {
            if !self.closed.load(Ordering::Relaxed)
                && let Some(request) = waiting.pop_front()
            {
                return request;
            }
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets no further request begin.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}
