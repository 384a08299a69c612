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
        let _waiting = self.lock();
        self.closed.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jupyter_protocol::KernelInfoRequest;
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    #[test]
    fn requests_come_in_their_order_and_none_behind_the_end() {
        let (queue, (sender, taken)) = (Arc::new(Queue::default()), mpsc::channel());
        let requests: Vec<_> = (0..3).map(|_| JupyterMessage::new(KernelInfoRequest {}, None)).collect();
        queue.push(requests[0].clone());
        queue.push(requests[1].clone());
        let theirs = queue.clone();
        std::thread::spawn(move || {
            loop {
                sender.send(theirs.next().header.msg_id).unwrap();
            }
        });
        let wait = Duration::from_secs(20);
        for request in &requests[..2] {
            assert_eq!(taken.recv_timeout(wait).unwrap(), request.header.msg_id);
        }
        queue.close();
        queue.push(requests[2].clone());
        assert!(taken.recv_timeout(Duration::from_millis(50)).is_err());
    }
}
