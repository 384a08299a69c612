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

/// Says once of a command other than train that each process does all of it.
pub fn note_alone() {
    if let Ok(Some(launch)) = Launch::from_environment()
        && launch.connected
        && launch.process == 0
    {
        crate::complain(format_args!(
            "this is {launch}, and each of them does all of this command: only train shares its work"
        ));
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
    use lorascope::devices::{Processes, open_model};
    use lorascope::error::Error;

    let file = train::read(arguments);
    let processes = Processes::join(launch)?;
    if !processes.leads() {
        // Both wait for the goodbye of the first process, which pauses its run.
        train::until_asked()?;
        // What is wrong with the settings here is for the first process to tell.
        let file = file.map_err(|error| error.to_string());
        let file = || file.as_ref().map_err(Error::state);
        return processes
            .serve(&|kind| file()?.config.devices.of_follower(kind, launch.local), &|setup, device| {
                open_model(setup, file()?.model.as_deref(), device)
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
            processes.abort(2)
        }
    }
}
