//! NCCL adds the sums of the GPUs of this process, in a thread of its own that has all communicators: no rank can be
//! missing where they begin, and whoever waits for them can go.

use super::messages::Sums;
use super::stage_thread::guarded;
use crate::error::{Error, Result};
use crate::lora::Gradients;
use candle_core::cuda_backend::cudarc;
use candle_core::{DType, Device, Storage, Tensor};
use cudarc::driver::{CudaSlice, DriverError};
use cudarc::nccl::{Comm, ReduceOp, group_end, group_start, result::NcclError};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A GPU that has not finished a reduction after so long has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// Time between two looks at whether it has finished.
const LOOK: Duration = Duration::from_micros(100);
/// Time between two looks at the stop button.
const TICK: Duration = Duration::from_millis(20);

/// Two runs that begin on the same GPUs at the same time would each wait for the other where their parts are in
/// different orders.
static LAUNCH: Mutex<()> = Mutex::new(());

/// The GPUs of one process.
pub(super) struct Nccl {
    jobs: Sender<Job>,
    /// Those of other processes have higher numbers.
    ranks: usize,
    /// Why the thread has ended, where nobody waited for its answer.
    why: Arc<Mutex<Option<Error>>>,
}

struct Job {
    found: Sums,
    answer: Sender<Result<Sums>>,
}

/// The ranks of one stage.
struct Ring {
    names: Vec<String>,
    devices: Vec<Device>,
    /// Made for the first sums.
    communicators: Vec<Comm>,
}

impl Nccl {
    /// Starts the thread, for the names and devices of the stages of each rank.
    pub fn start(ranks: Vec<Vec<(String, Device)>>) -> Option<Self> {
        let (jobs, requests) = channel();
        let (count, why) = (ranks.len(), Arc::new(Mutex::new(None)));
        let untold = why.clone();
        let thread = std::thread::Builder::new().name("nccl".to_string());
        thread.spawn(move || serve(&ranks, &requests, &untold)).ok()?;
        Some(Self { jobs, ranks: count, why })
    }

    /// The sum over the ranks here of each stage, in memory, and what came from other processes.
    pub fn add(&self, mut found: Sums, limit: Duration, go_on: &dyn Fn() -> bool) -> Result<Sums> {
        let others: Vec<(usize, usize)> =
            found.keys().copied().filter(|(_, rank)| *rank >= self.ranks).collect();
        let others: Sums =
            others.into_iter().filter_map(|key| found.remove(&key).map(|sums| (key, sums))).collect();
        if found.is_empty() {
            return Ok(others);
        }
        let (answer, answers) = channel();
        let ended = || {
            let why = self.why.lock().unwrap_or_else(PoisonError::into_inner).take();
            why.unwrap_or_else(|| Error::compute("the thread of NCCL has ended"))
        };
        self.jobs.send(Job { found, answer }).map_err(|_| ended())?;
        let begun = Instant::now();
        loop {
            match answers.recv_timeout(TICK) {
                Ok(sums) => {
                    let mut all = sums?;
                    all.extend(others);
                    return Ok(all);
                }
                Err(RecvTimeoutError::Disconnected) => return Err(ended()),
                Err(RecvTimeoutError::Timeout) if !go_on() => return Err(Error::interrupted()),
                Err(RecvTimeoutError::Timeout) if begun.elapsed() > limit => {
                    let seconds = begun.elapsed().as_secs_f64();
                    return Err(Error::compute(format!("NCCL has given no answer for {seconds:.1} s"))
                        .help("a GPU may hang: resume() begins the step anew with other threads"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Adds until nobody asks any more, or something fails. Communicators are aborted in the end, and with them what a
/// GPU has not finished.
fn serve(ranks: &[Vec<(String, Device)>], jobs: &Receiver<Job>, untold: &Mutex<Option<Error>>) {
    let stages = ranks.first().map_or(0, Vec::len);
    let ring = |stage: usize| {
        let seats: Vec<(String, Device)> = ranks.iter().map(|rank| rank[stage].clone()).collect();
        let (names, devices) = seats.into_iter().unzip();
        Ring { names, devices, communicators: Vec::new() }
    };
    let mut rings: Vec<Ring> = (0..stages).map(ring).collect();
    for Job { found, answer } in jobs.iter() {
        let sums = guarded(|| all(&mut rings, found));
        let failed = sums.is_err();
        // Whoever asked may be gone.
        if let Err(SendError(Err(error))) = answer.send(sums) {
            *untold.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
        if failed {
            break;
        }
    }
    // One by one: cudarc panics where one cannot be aborted.
    for communicator in rings.into_iter().flat_map(|ring| ring.communicators) {
        let _ = guarded(|| {
            drop(communicator);
            Ok(())
        });
    }
}

/// The sums of all stages, one after the other.
fn all(rings: &mut [Ring], found: Sums) -> Result<Sums> {
    let mut stages: BTreeMap<usize, BTreeMap<usize, Gradients>> = BTreeMap::new();
    for ((stage, rank), sums) in found {
        stages.entry(stage).or_default().insert(rank, sums);
    }
    let mut added = Sums::new();
    for (stage, sums) in stages {
        added.insert((stage, 0), rings[stage].add(&sums)?);
    }
    Ok(added)
}

impl Ring {
    /// The sum over its ranks, in memory. A rank that had no pack adds zeros.
    fn add(&mut self, sums: &BTreeMap<usize, Gradients>) -> Result<Gradients> {
        let Some(first) = sums.values().next().filter(|sums| !sums.is_empty()) else {
            return Ok(Gradients::new());
        };
        if self.communicators.is_empty() {
            let streams = self.devices.iter().map(|device| Ok(device.as_cuda_device()?.cuda_stream()));
            let streams = streams.collect::<Result<Vec<_>>>()?;
            let _alone = LAUNCH.lock().unwrap_or_else(PoisonError::into_inner);
            self.communicators = Comm::from_devices(streams).map_err(|e| self.failed(&e))?;
        }
        let count = first.numbers();
        let mut flats = Vec::with_capacity(self.devices.len());
        for (rank, device) in self.devices.iter().enumerate() {
            flats.push(match sums.get(&rank) {
                Some(sums) if !sums.is_like(first) => {
                    return Err(Error::compute("it has gradients of other tensors than another device")
                        .on_device(&self.names[rank]));
                }
                Some(sums) => sums.flat(device)?,
                None => Tensor::zeros(count, DType::F32, device)?,
            });
        }
        let sum = self.reduce(&flats, count)?;
        Gradients::of_flat_sum(sums.values(), &Tensor::from_vec(sum, count, &Device::Cpu)?)
    }

    /// The sum of as many numbers on each GPU.
    fn reduce(&self, flats: &[Tensor], count: usize) -> Result<Vec<f32>> {
        let on = |rank: usize| move |e: DriverError| Error::compute(e).on_device(&self.names[rank]);
        let root = self.communicators[0].stream();
        let mut sum = root.alloc_zeros::<f32>(count).map_err(on(0))?;
        let begun = {
            let _alone = LAUNCH.lock().unwrap_or_else(PoisonError::into_inner);
            group_start().map_err(|e| self.failed(&e))?;
            let begun = self.begin(flats, &mut sum);
            group_end().map_err(|e| self.failed(&e))?;
            begun
        };
        begun?;
        let done = self.communicators.iter().enumerate();
        let done = done.map(|(rank, comm)| comm.stream().record_event(None).map_err(on(rank)));
        let done = done.collect::<Result<Vec<_>>>()?;
        let since = Instant::now();
        for (rank, event) in done.iter().enumerate() {
            while !event.try_is_complete().map_err(on(rank))? {
                if since.elapsed() > LIMIT {
                    let seconds = since.elapsed().as_secs_f64();
                    return Err(Error::compute(format!(
                        "its part of a reduction by NCCL has not ended after {seconds:.0} s"
                    ))
                    .on_device(&self.names[rank])
                    .help("the GPU may hang: resume() begins the step anew with other threads"));
                }
                std::thread::sleep(LOOK);
            }
        }
        root.clone_dtoh(&sum).map_err(on(0))
    }

    /// Asks each GPU for its part. They begin where the group ends.
    fn begin(&self, flats: &[Tensor], sum: &mut CudaSlice<f32>) -> Result<()> {
        for (rank, (communicator, flat)) in self.communicators.iter().zip(flats).enumerate() {
            let context = communicator.context();
            context.bind_to_thread().map_err(|e| Error::compute(e).on_device(&self.names[rank]))?;
            let (storage, layout) = flat.storage_and_layout();
            let Storage::Cuda(storage) = &*storage else {
                return Err(Error::compute("its sums are not on the GPU").on_device(&self.names[rank]));
            };
            let Some((begin, end)) = layout.contiguous_offsets() else {
                return Err(Error::compute("its sums are not contiguous").on_device(&self.names[rank]));
            };
            let numbers = storage.as_cuda_slice::<f32>()?.slice(begin..end);
            let into = (rank == 0).then_some(&mut *sum);
            communicator.reduce(&numbers, into, &ReduceOp::Sum, 0).map_err(|e| self.failed(&e))?;
        }
        Ok(())
    }

    fn failed(&self, error: &NcclError) -> Error {
        Error::compute(format!("NCCL: {:?}", error.0))
            .on_device(&self.names.join("; "))
            .help("NCCL_DEBUG=INFO makes it say more")
    }
}
