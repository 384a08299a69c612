//! Processes the blocks of a file on all processors.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::container::{Block, Blocks};
use crate::error::{Error, Result};

/// Processes the blocks of a file on all processors, and passes the results on in the order of the blocks, with
/// the number of bytes read so far. No more than four blocks for each processor are in memory.
///
/// Each thread reads a block, works on it, and hands on what is ready: no thread waits for a round of
/// blocks to end.
pub(crate) fn each_block<T: Send>(
    blocks: &mut Blocks,
    work: impl Fn(Block) -> Result<T> + Sync,
    take: impl FnMut(T, u64) -> Result<()> + Send,
) -> Result<()> {
    /// Bytes of a file for which another thread is worth its start.
    const WORTH: u64 = 1 << 18;
    let worth = usize::try_from(blocks.progress().1 / WORTH).unwrap_or(usize::MAX);
    let threads = rayon::current_num_threads().min(worth.saturating_add(1));
    let line = Line {
        reading: Mutex::new(Reading { blocks, number: 0, ended: false }),
        done: Mutex::new(Done { results: BTreeMap::new(), handed: 0, over: false, error: None }),
        moved: Condvar::new(),
        taking: Mutex::new(take),
        ahead: 4 * threads,
    };
    thread::scope(|scope| {
        // Where the system refuses a thread, those that are there do it all.
        let helper = |_| thread::Builder::new().spawn_scoped(scope, || line.run(&work)).ok();
        let helpers: Vec<_> = (1..threads).map_while(helper).collect();
        line.run(&work);
        helpers.into_iter().for_each(|helper| helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
    });
    let done = line.done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.error.map_or(Ok(()), Err)
}

struct Line<'a, T, F> {
    reading: Mutex<Reading<'a>>,
    done: Mutex<Done<T>>,
    /// Something was handed on, or all is over.
    moved: Condvar,
    taking: Mutex<F>,
    /// How many blocks may be read before the first of them is handed on.
    ahead: usize,
}

struct Reading<'a> {
    blocks: &'a mut Blocks,
    /// How many blocks were read.
    number: usize,
    ended: bool,
}

struct Done<T> {
    /// What came of blocks and is not handed on, by their numbers, with the bytes that had been read.
    results: BTreeMap<usize, (Result<T>, u64)>,
    /// How many were handed on.
    handed: usize,
    /// Nothing more is read or handed on: there was an error, or a thread panicked.
    over: bool,
    error: Option<Error>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Send, F: FnMut(T, u64) -> Result<()> + Send> Line<'_, T, F> {
    fn run(&self, work: &(impl Fn(Block) -> Result<T> + Sync)) {
        let _alarm = Alarm(self);
        while let Some((number, block, read)) = self.next() {
            self.hand_on(number, block.and_then(work), read);
        }
    }

    /// The next block with its number and the bytes that have been read; waits where enough are read.
    fn next(&self) -> Option<(usize, Result<Block>, u64)> {
        let mut reading = lock(&self.reading);
        let mut done = lock(&self.done);
        while !done.over && reading.number >= done.handed + self.ahead {
            done = self.moved.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
        if done.over || reading.ended {
            return None;
        }
        drop(done);
        let block = reading.blocks.next();
        // What follows an error is not read.
        reading.ended = !matches!(block, Some(Ok(_)));
        let number = reading.number;
        reading.number += 1;
        Some((number, block?, reading.blocks.progress().0))
    }

    /// Puts a result with the others, and hands on those whose turn it is, unless another thread does.
    fn hand_on(&self, number: usize, result: Result<T>, read: u64) {
        lock(&self.done).results.insert(number, (result, read));
        // Whoever has just handed on looks once more, so that nothing is left that came meanwhile.
        while self.is_ready() {
            let Ok(mut take) = self.taking.try_lock() else { return };
            while let Some((result, read)) = self.ready() {
                let taken = result.and_then(|result| take(result, read));
                let mut done = lock(&self.done);
                match taken {
                    Ok(()) => done.handed += 1,
                    Err(error) => (done.over, done.error) = (true, Some(error)),
                }
                self.moved.notify_all();
            }
        }
    }

    fn is_ready(&self) -> bool {
        let done = lock(&self.done);
        !done.over && done.results.contains_key(&done.handed)
    }

    fn ready(&self) -> Option<(Result<T>, u64)> {
        let mut done = lock(&self.done);
        let next = done.handed;
        if done.over { None } else { done.results.remove(&next) }
    }
}

/// Ends the others' waiting when its thread panics: the block that they wait for does not come.
struct Alarm<'l, 'a, T, F>(&'l Line<'a, T, F>);

impl<T, F> Drop for Alarm<'_, '_, T, F> {
    fn drop(&mut self) {
        if thread::panicking() {
            lock(&self.0.done).over = true;
            self.0.moved.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(lines: usize) -> (tempfile::NamedTempFile, Blocks) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text: String =
            (0..lines).map(|n| format!("{{\"n\": {n}, \"text\": \"{}\"}}\n", "x".repeat(90))).collect();
        std::fs::write(file.path(), text).unwrap();
        let blocks = Blocks::open(file.path(), None).unwrap();
        (file, blocks)
    }

    fn first(block: &Block) -> u32 {
        block.records.first().map_or(0, |record| record.line)
    }

    #[test]
    fn results_come_in_the_order_of_the_file() {
        let (_file, mut blocks) = blocks(200_000);
        let (mut lines, mut last) = (Vec::new(), 0);
        // The first blocks of each four take longest.
        let work = |block: Block| {
            let line = first(&block);
            thread::sleep(std::time::Duration::from_millis(u64::from(3 - line % 4)));
            Ok((line, block.records.len()))
        };
        let take = |(line, records), read| {
            assert!(read >= last);
            last = read;
            lines.push((line, records));
            Ok(())
        };
        each_block(&mut blocks, work, take).unwrap();
        assert!(lines.len() > 10 && lines.is_sorted(), "{lines:?}");
        assert_eq!(lines.iter().map(|(_, records)| records).sum::<usize>(), 200_000);
    }

    #[test]
    fn the_first_error_ends_it() {
        let (_file, mut blocks) = blocks(200_000);
        let mut taken = Vec::new();
        let work = |block: Block| match first(&block) {
            line if line > 50_000 => Err(Error::input(format_args!("{line}"))),
            line => Ok(line),
        };
        let take = |line, _| {
            taken.push(line);
            Ok(())
        };
        let error = each_block(&mut blocks, work, take).unwrap_err();
        let failed: u32 = error.to_string().parse().unwrap();
        assert!(failed > 50_000 && taken.is_sorted() && taken.last().is_some_and(|last| *last <= 50_000));
        // All before it were handed on: the next block is the one that failed.
        let step = taken[1] - taken[0];
        assert!(failed - taken.last().unwrap() <= 2 * step, "{failed} after {taken:?}");
    }

    #[test]
    fn a_panic_is_passed_on() {
        let (_file, mut blocks) = blocks(200_000);
        let work = |block: Block| {
            assert!(first(&block) < 20_000, "no such line");
            Ok(())
        };
        let run = std::panic::AssertUnwindSafe(|| each_block(&mut blocks, work, |(), _| Ok(())));
        assert!(std::panic::catch_unwind(run).is_err());
    }
}
