//! `lorascope train` in one process, or in several that mpirun or srun starts together.

use super::train::{self, Arguments};
use lorascope::devices::Launch;
use lorascope::error::Result;

pub fn train(arguments: &Arguments) -> Result<()> {
    match Launch::from_environment()? {
        None => train::run(&train::read(arguments)?, arguments),
        Some(launch) => {
            launch.check()?;
            together(&launch, arguments)
        }
    }
}

/// Without MPI the check before has failed.
#[cfg(not(feature = "mpi"))]
fn together(_: &Launch, _: &Arguments) -> Result<()> {
    Ok(())
}

/// The first process has the run; the others compute for it.
#[cfg(feature = "mpi")]
fn together(launch: &Launch, arguments: &Arguments) -> Result<()> {
    use lorascope::candle_core::Device;
    use lorascope::devices::{Processes, open_model};
    use lorascope::error::Error;

    let file = train::read(arguments).and_then(|mut file| {
        file.config.devices = file.config.devices.of_process(launch.local)?;
        Ok(file)
    });
    let device = match (&file, launch.process) {
        (Ok(file), 0) => file.config.devices.all().map(|all| all.into_iter().next().unwrap_or(Device::Cpu)),
        (Ok(file), _) => file.config.devices.of_follower(launch.local),
        (Err(_), _) => Ok(Device::Cpu),
    };
    let processes = Processes::join(launch, device.as_ref().unwrap_or(&Device::Cpu))?;
    if !processes.leads() {
        // Both wait for the goodbye of the first process, which pauses its run.
        train::until_asked()?;
        return processes.serve(&|setup| {
            // What went wrong here is for the first process to tell.
            let (device, file) = match (&device, &file) {
                (Ok(device), Ok(file)) => (device, file),
                (Err(error), _) | (_, Err(error)) => return Err(Error::state(error)),
            };
            open_model(setup, file.model.as_deref(), device)
        });
    }
    processes.notes().iter().for_each(crate::complain);
    let done = file.and_then(|file| train::run(&file, arguments));
    match processes.leave() {
        Ok(()) => processes.end().and(done),
        Err(left) => {
            if let Err(error) = &done {
                crate::complain(format_args!("lorascope: {error}"));
            }
            crate::complain(format_args!("lorascope: {left}"));
            processes.abort(2);
            done
        }
    }
}
