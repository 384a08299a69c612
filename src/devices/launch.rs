//! How many processes were started together, and which of them this one is.

use crate::error::{Error, Result};

/// What the program that started this process says about it.
///
/// # Examples
/// ```
/// use lorascope::devices::Launch;
///
/// let torchrun = |name: &str| match name {
///     "RANK" | "LOCAL_RANK" => Some("1".to_string()),
///     "WORLD_SIZE" => Some("4".to_string()),
///     "MASTER_ADDR" => Some("node1".to_string()),
///     "MASTER_PORT" => Some("29500".to_string()),
///     _ => None,
/// };
/// let launch = Launch::of(torchrun)?.unwrap();
/// assert_eq!((launch.process, launch.processes, launch.local, launch.connected), (1, 4, 1, false));
/// assert_eq!(launch.to_string(), "process 1 of 4 (WORLD_SIZE, with node1:29500 as their first)");
/// assert_eq!(Launch::of(|_| None)?, None);
/// # Ok::<(), lorascope::error::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The number of this process, from 0.
    pub process: usize,
    /// How many there are.
    pub processes: usize,
    /// Its number on its machine, from 0.
    pub local: usize,
    /// Whether they can reach each other through MPI.
    pub connected: bool,
    /// The variable that says how many there are.
    said_by: &'static str,
    /// The address of the first one, where it is told.
    first: Option<String>,
}

/// Variables of one way to start processes: the number of this one, how many there are, its number on its machine.
const WAYS: [[&str; 3]; 4] = [
    ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"],
    ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"],
    ["RANK", "WORLD_SIZE", "LOCAL_RANK"],
    ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"],
];
/// What is set where a library of MPI finds the other processes.
const CONNECTED: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"];

impl Launch {
    /// What the environment of this process says; `None` where it was started alone.
    ///
    /// # Errors
    /// When a variable holds no number.
    pub fn from_environment() -> Result<Option<Self>> {
        Self::of(|name| std::env::var(name).ok())
    }

    /// The same with variables from elsewhere. What starts processes for MPI counts first: mpirun inside an allocation
    /// of SLURM says how many there are, not the allocation.
    ///
    /// # Errors
    /// When a variable holds no number.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>> {
        let number = |name: &str| match variable(name) {
            None => Ok(None),
            Some(text) => text.trim().parse::<usize>().map(Some).map_err(|_| {
                Error::input(format!("{name} is {text:?}, which is no number"))
                    .help("it is set by the program that starts the processes")
            }),
        };
        for [process, processes, local] in WAYS {
            let (Some(of), Some(count)) = (number(process)?, number(processes)?) else { continue };
            // A script that sbatch starts is one process, though it says how many tasks there may be.
            let script = process == "SLURM_PROCID" && of == 0 && variable("SLURM_STEP_ID").is_none();
            if count < 2 || script {
                continue;
            }
            if of >= count {
                return Err(Error::input(format!("{process} is {of} and {processes} is {count}"))
                    .help("processes are counted from 0"));
            }
            let first = variable("MASTER_ADDR").filter(|_| process == "RANK");
            let port = variable("MASTER_PORT").map_or(String::new(), |port| format!(":{port}"));
            return Ok(Some(Self {
                process: of,
                processes: count,
                local: number(local)?.unwrap_or(0),
                connected: CONNECTED.iter().any(|name| variable(name).is_some()),
                said_by: processes,
                first: first.map(|address| address + &port),
            }));
        }
        Ok(None)
    }

    /// Fails where these processes cannot compute together: each would make a run of its own, in one folder.
    ///
    /// # Errors
    /// When this program was built without the feature `mpi`, or MPI does not connect the processes.
    pub fn check(&self) -> Result<()> {
        if !cfg!(feature = "mpi") {
            return Err(Error::state(format!("this is {self}, and this program was built without MPI"))
                .help(
                    "build it with the feature mpi (cargo install --features cli,mpi), or start one process",
                ));
        }
        if !self.connected {
            let count = self.processes;
            return Err(Error::state(format!("this is {self}, and nothing connects them")).help(format!(
                "start them with mpirun -n {count} or srun --mpi=pmix, or start one process"
            )));
        }
        Ok(())
    }
}

impl std::fmt::Display for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { process, processes, said_by, .. } = self;
        let first = self.first.iter().map(|first| format!(", with {first} as their first"));
        write!(f, "process {process} of {processes} ({said_by}{})", first.collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Option<Launch>> {
        Launch::of(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        })
    }

    fn numbers(variables: &[(&str, &str)]) -> (usize, usize, usize, bool) {
        let launch = of(variables).unwrap().unwrap();
        (launch.process, launch.processes, launch.local, launch.connected)
    }

    #[test]
    fn the_ways_to_start_processes_are_known() {
        let mpirun = [
            ("OMPI_COMM_WORLD_RANK", "2"),
            ("OMPI_COMM_WORLD_SIZE", "3"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
            ("SLURM_PROCID", "0"),
            ("SLURM_NTASKS", "8"),
        ];
        assert_eq!(numbers(&mpirun), (2, 3, 1, true));
        assert_eq!(numbers(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")]), (0, 2, 0, true));
        let srun =
            [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8"), ("SLURM_LOCALID", "0"), ("SLURM_STEP_ID", "0")];
        assert_eq!(numbers(&srun), (0, 8, 0, false));
        assert_eq!(numbers(&[&srun[..], &[("PMIX_RANK", "0")]].concat()), (0, 8, 0, true));
        // A later process of it is never alone.
        let later = [("SLURM_PROCID", "3"), ("SLURM_NTASKS", "8"), ("SLURM_LOCALID", "3")];
        assert_eq!(numbers(&later), (3, 8, 3, false));
        let torchrun = [("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1")];
        assert_eq!(numbers(&torchrun), (1, 2, 1, false));
        assert_eq!(of(&torchrun).unwrap().unwrap().to_string(), "process 1 of 2 (WORLD_SIZE)");
    }

    #[test]
    fn one_process_is_alone() {
        for alone in [
            &[][..],
            &[("RANK", "0"), ("WORLD_SIZE", "1")],
            &[("WORLD_SIZE", "4")],
            &[("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1")],
            // The script of sbatch.
            &[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "8"), ("SLURM_LOCALID", "0")],
        ] {
            assert_eq!(of(alone).unwrap(), None, "{alone:?}");
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_errors() {
        let error = |variables: &[(&str, &str)]| of(variables).unwrap_err().to_string();
        let text = error(&[("RANK", "1"), ("WORLD_SIZE", "two")]);
        assert_eq!(
            text,
            "WORLD_SIZE is \"two\", which is no number; it is set by the program that starts the processes"
        );
        let many = error(&[("RANK", "2"), ("WORLD_SIZE", "2")]);
        assert_eq!(many, "RANK is 2 and WORLD_SIZE is 2; processes are counted from 0");
    }

    #[test]
    fn processes_that_nothing_connects_are_refused() {
        let launch = of(&[("RANK", "1"), ("WORLD_SIZE", "2")]).unwrap().unwrap();
        let error = launch.check().unwrap_err().to_string();
        assert!(error.starts_with("this is process 1 of 2 (WORLD_SIZE), and "), "{error}");
        let connected = of(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")]).unwrap().unwrap().check();
        assert_eq!(connected.is_ok(), cfg!(feature = "mpi"));
    }
}
