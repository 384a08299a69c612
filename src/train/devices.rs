//! Which devices a run trains on, and how the model lies on them.

use crate::error::{Error, Result};
use crate::ops;
use candle_core::{Device, DeviceLocation};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Ranks on the processor that a process has threads for.
const MOST_RANKS: usize = 256;

/// The devices that a run trains on. The numbers of a run do not depend on how many there are.
///
/// A file writes them as text: `model`, `auto`, `cpu:4`, `cuda:0,1`.
///
/// # Examples
/// ```
/// use lorascope::train::Devices;
///
/// assert_eq!("cuda:0,1".parse::<Devices>()?, Devices::cuda([0, 1]));
/// assert_eq!(Devices::cpu(4).to_string(), "cpu:4");
/// assert_eq!(Devices::cpu(4).all()?.len(), 4);
/// let error = "gpu:1".parse::<Devices>().unwrap_err().to_string();
/// assert_eq!(error, "devices \"gpu:1\"; write model, auto, cpu:4 or cuda:0,1");
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Devices(Kind);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Kind {
    /// The one that the model was opened on.
    #[default]
    Model,
    /// All GPUs, or the processor where there is none.
    Auto,
    /// So many ranks on the processor.
    Cpu(usize),
    /// GPUs by their numbers. A number that occurs twice is two ranks on one GPU.
    Cuda(Vec<usize>),
}

/// What the processes that train one run compute on: all of them the processor, or a GPU each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The processor.
    Processor,
    /// An NVIDIA GPU.
    Gpu,
}

impl DeviceKind {
    /// The kind of a device.
    ///
    /// # Errors
    /// When it is neither the processor nor an NVIDIA GPU.
    pub fn of(device: &Device) -> Result<Self> {
        match device.location() {
            DeviceLocation::Cpu => Ok(Self::Processor),
            DeviceLocation::Cuda { .. } => Ok(Self::Gpu),
            DeviceLocation::Metal { .. } => Err(Error::input("several processes cannot train on Metal")
                .help("they compute on the processor or on NVIDIA GPUs")),
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Processor => "the processor",
            Self::Gpu => "a GPU",
        })
    }
}

const SAME_KIND: &str =
    "numbers would depend on which process computes: give all of them devices cpu:1, or auto";

/// How the model lies on the devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// The whole model on each device (data parallel): each takes some of the micro-batches of a step.
    #[default]
    Replicate,
    /// Consecutive blocks on each of this many devices (layer split, pipeline parallel): for a model that does not
    /// fit on one. With more devices, each group of so many has the whole model, and takes some of the micro-batches.
    Split(usize),
}

/// Where the gradients of the micro-batches of a step are added.
///
/// `Ordered` gives the bits of one device on any number of them. `OnDevices` moves fewer bytes: each rank adds the
/// gradients of its own micro-batches, and the sums of the ranks are added once a step. The bits then depend on the
/// number of ranks, and are the same each time for the same number; with NCCL, which adds between GPUs (feature
/// `nccl`), as far as NCCL repeats itself.
///
/// # Examples
/// ```
/// use lorascope::train::{Devices, Reduction, RunConfig};
///
/// assert_eq!("on-devices".parse::<Reduction>()?, Reduction::OnDevices);
/// let config = RunConfig::default().devices(Devices::cpu(4)).reduction(Reduction::OnDevices);
/// assert!(!config.reduction.is_ordered());
/// let error = "nccl".parse::<Reduction>().unwrap_err().to_string();
/// assert_eq!(error, "reduction \"nccl\"; write ordered or on-devices");
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reduction {
    /// On the host, in the order of the micro-batches: the numbers of a run do not depend on how many devices there
    /// are.
    #[default]
    Ordered,
    /// On each rank for its own micro-batches, then once a step over the ranks: less to move between many devices.
    #[serde(alias = "on-devices")]
    OnDevices,
}

impl Reduction {
    /// Whether gradients are added in the order of the micro-batches.
    pub fn is_ordered(&self) -> bool {
        *self == Self::Ordered
    }
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ordered => "ordered",
            Self::OnDevices => "on-devices",
        })
    }
}

impl FromStr for Reduction {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "ordered" => Ok(Self::Ordered),
            "on-devices" | "on_devices" => Ok(Self::OnDevices),
            _ => Err(Error::input(format!("reduction {text:?}")).help("write ordered or on-devices")),
        }
    }
}

impl Placement {
    /// Whether each device has the whole model.
    pub fn is_replicate(&self) -> bool {
        *self == Self::Replicate
    }

    /// Checks that so many devices can have a model of so many blocks so.
    ///
    /// # Errors
    /// When the devices cannot be divided into groups that each have the whole model, or there are fewer blocks than
    /// devices in a group.
    pub fn check(self, devices: usize, blocks: usize) -> Result<()> {
        let stages = self.stages();
        if stages == 0 || devices == 0 || !devices.is_multiple_of(stages) {
            let devices = if devices == 1 { "1 device".to_string() } else { format!("{devices} devices") };
            return Err(Error::input(format!("{devices} for a model split over {stages}")).help(format!(
                "take {stages} devices or a multiple of that, or split it over another number"
            )));
        }
        if stages > blocks {
            return Err(Error::input(format!("a model of {blocks} blocks split over {stages} devices"))
                .help(format!("split it over at most {blocks}")));
        }
        Ok(())
    }

    /// Devices that have the whole model together.
    pub fn stages(self) -> usize {
        match self {
            Self::Replicate => 1,
            Self::Split(stages) => stages,
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replicate => Ok(()),
            Self::Split(stages) => write!(f, ", the model split over {stages}"),
        }
    }
}

impl Devices {
    /// All GPUs of this machine, or the processor where there is none.
    pub fn auto() -> Self {
        Self(Kind::Auto)
    }

    /// So many ranks on the processor, each with its share of the cores: what happens on several GPUs, without one.
    pub fn cpu(ranks: usize) -> Self {
        Self(Kind::Cpu(ranks))
    }

    /// GPUs by their numbers. A number that occurs twice is two ranks on one GPU.
    pub fn cuda(numbers: impl IntoIterator<Item = usize>) -> Self {
        Self(Kind::Cuda(numbers.into_iter().collect()))
    }

    /// Those of one of several processes on this machine, by its number there: `auto` is one GPU for each.
    ///
    /// # Errors
    /// When there are fewer GPUs than processes.
    pub fn of_process(&self, local: usize) -> Result<Self> {
        if self.0 != Kind::Auto || !candle_core::utils::cuda_is_available() {
            return Ok(if self.0 == Kind::Auto { Self::default() } else { self.clone() });
        }
        match gpu_of_process(local) {
            Ok(_) => Ok(Self::cuda([local])),
            Err(_) if gpu(0).is_err() => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// The one device of a process that computes for another one, of the kind that this one computes on: the
    /// processor, or the GPU of its number on this machine, of those that are named.
    ///
    /// # Errors
    /// When a device of the other kind was named here, or the GPU is not there.
    ///
    /// # Examples
    /// ```
    /// use lorascope::train::{DeviceKind, Devices};
    ///
    /// assert!(Devices::auto().of_follower(DeviceKind::Processor, 1)?.is_cpu());
    /// let error = Devices::cuda([0]).of_follower(DeviceKind::Processor, 1).unwrap_err().to_string();
    /// assert!(error.starts_with("it was started with devices cuda:0, and process 0 computes on the processor"));
    /// # Ok::<(), lorascope::error::Error>(())
    /// ```
    pub fn of_follower(&self, kind: DeviceKind, local: usize) -> Result<Device> {
        match (kind, &self.0) {
            (DeviceKind::Processor, Kind::Model | Kind::Auto | Kind::Cpu(_)) => Ok(Device::Cpu),
            (DeviceKind::Gpu, Kind::Model | Kind::Auto) => gpu_of_process(local),
            (DeviceKind::Gpu, Kind::Cuda(numbers)) => match numbers.len() {
                0 => gpu(local),
                count => gpu(numbers[local % count]),
            },
            (DeviceKind::Processor, Kind::Cuda(_)) | (DeviceKind::Gpu, Kind::Cpu(_)) => Err(Error::input(
                format!("it was started with devices {self}, and process 0 computes on {kind}"),
            )),
        }
        .map_err(|error| error.help(SAME_KIND))
    }

    /// Whether it is the device that the model was opened on.
    pub fn is_model(&self) -> bool {
        self.0 == Kind::Model
    }

    /// Whether all ranks are on the processor, or it is left to the model.
    pub fn on_processor(&self) -> bool {
        match self.0 {
            Kind::Model | Kind::Cpu(_) => true,
            Kind::Auto | Kind::Cuda(_) => false,
        }
    }

    /// The devices; none where it is the one that the model was opened on.
    ///
    /// # Errors
    /// When a device is not there, or the program was built without support for it.
    pub fn all(&self) -> Result<Vec<Device>> {
        match &self.0 {
            Kind::Model => Ok(Vec::new()),
            Kind::Auto => Ok(gpus()),
            Kind::Cpu(0) => Err(Error::input("0 devices").help("take at least one")),
            Kind::Cpu(ranks) if *ranks > MOST_RANKS => {
                Err(Error::input(format!("{ranks} ranks on the processor"))
                    .help(format!("each is a thread of its own: take at most {MOST_RANKS}")))
            }
            Kind::Cpu(ranks) => Ok(vec![Device::Cpu; *ranks]),
            Kind::Cuda(numbers) if numbers.is_empty() => {
                Err(Error::input("no GPU is named").help("cuda:0 is the first"))
            }
            Kind::Cuda(numbers) => {
                let mut opened: Vec<(usize, Device)> = Vec::new();
                for number in numbers {
                    // Two ranks on one GPU share its context.
                    let device = match opened.iter().find(|(n, _)| n == number) {
                        Some((_, device)) => device.clone(),
                        None => gpu(*number)?,
                    };
                    opened.push((*number, device));
                }
                Ok(opened.into_iter().map(|(_, device)| device).collect())
            }
        }
    }
}

/// Opens a GPU.
fn gpu(number: usize) -> Result<Device> {
    ops::gpu(number).map_err(|error| {
        Error::not_found(format!("there is no GPU {number} for this program: {}", error.message())).help(
            match candle_core::utils::cuda_is_available() {
                true => "nvidia-smi -L lists those of this machine, cpu:1 trains on the processor",
                false => "build with the feature cuda, or train on the processor: cpu:1",
            },
        )
    })
}

/// Opens the GPU of one of several processes on this machine.
fn gpu_of_process(local: usize) -> Result<Device> {
    match gpu(local) {
        Err(_) if local > 0 && gpu(0).is_ok() => {
            Err(Error::not_found(format!("there is no GPU {local} for process {local} of this machine"))
                .help("start as many processes on a machine as it has GPUs"))
        }
        opened => opened,
    }
}

/// All GPUs that can be opened.
fn gpus() -> Vec<Device> {
    if !candle_core::utils::cuda_is_available() {
        return Vec::new();
    }
    (0..).map_while(|number| gpu(number).ok()).collect()
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Model => f.write_str("model"),
            Kind::Auto => f.write_str("auto"),
            Kind::Cpu(ranks) => write!(f, "cpu:{ranks}"),
            Kind::Cuda(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
                write!(f, "cuda:{}", numbers.join(","))
            }
        }
    }
}

impl FromStr for Devices {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::input(format!("devices {text:?}")).help("write model, auto, cpu:4 or cuda:0,1");
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong());
        Ok(match text.split_once(':') {
            None if text == "model" => Self::default(),
            None if text == "auto" => Self::auto(),
            None if text == "cpu" => Self::cpu(1),
            None if text == "cuda" => Self::cuda([0]),
            Some(("cpu", ranks)) => Self::cpu(number(ranks)?),
            Some(("cuda", numbers)) => {
                Self(Kind::Cuda(numbers.split(',').map(number).collect::<Result<_>>()?))
            }
            _ => return Err(wrong()),
        })
    }
}

impl TryFrom<String> for Devices {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Devices> for String {
    fn from(devices: Devices) -> Self {
        devices.to_string()
    }
}
