//! What the tests of devices train on: the devices that `LORASCOPE_DEVICES` names, as `cuda:0,0` or `cuda:0,1`, or else
//! the processor.

use lorascope::candle_core::Device;
use lorascope::ops::Precision;
use lorascope::train::Devices;

/// So many ranks on them, in turns.
pub fn devices(ranks: usize) -> Devices {
    let named = std::env::var("LORASCOPE_DEVICES").unwrap_or("cpu:1".to_string());
    let named: Devices = named.parse().unwrap();
    match named.to_string().strip_prefix("cuda:") {
        Some(numbers) => {
            let numbers = numbers.split(',').map(|number| number.parse::<usize>().unwrap());
            Devices::cuda(numbers.cycle().take(ranks))
        }
        None => Devices::cpu(ranks),
    }
}

/// The same, opened.
pub fn all(ranks: usize) -> Vec<Device> {
    if ranks == 0 { Vec::new() } else { devices(ranks).all().unwrap() }
}

/// The first of them.
pub fn first() -> Device {
    all(1).remove(0)
}

pub fn on_gpu() -> bool {
    first().is_cuda()
}

/// Its name in messages: `cpu`, `cuda:0`.
pub fn name() -> String {
    devices(1).to_string().replace("cpu:1", "cpu")
}

/// The half type that it multiplies best.
pub fn half() -> Precision {
    if on_gpu() { Precision::Bf16 } else { Precision::F16 }
}
