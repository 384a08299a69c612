//! A pool of buffers to use again: a fresh buffer costs a page fault for every 4 KB.

use std::sync::Mutex;

use super::records::BLOCK;

/// Buffers of about a block.
#[derive(Debug, Default)]
pub(crate) struct BufferPool(Mutex<Vec<Vec<u8>>>);

impl BufferPool {
    /// An empty buffer for a block, or for what is made of one.
    pub fn take(&self) -> Vec<u8> {
        let spare = self.0.lock().map_or(None, |mut spare| spare.pop());
        spare.unwrap_or_else(|| Vec::with_capacity(BLOCK * 5 / 4))
    }

    /// Keeps a buffer for later, unless it grew for an unusually large record.
    pub fn give(&self, mut buffer: Vec<u8>) {
        if (BLOCK..=4 * BLOCK).contains(&buffer.capacity())
            && let Ok(mut spare) = self.0.lock()
        {
            buffer.clear();
            spare.push(buffer);
        }
    }
}
