//! `lorascope train` in several processes that mpirun starts: the numbers of one, and what happens when one is lost.
#![cfg(all(feature = "mpi", feature = "cli"))]

mod common;

use crate::common::clock::eventually;
use crate::common::runs::{Bench, SMALL, model};
use lorascope::error::Result;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Steps of the runs that are compared.
const STEPS: usize = 4;
const COMMAND: &str = env!("CARGO_BIN_EXE_lorascope");

/// What mpirun of Open MPI needs on one machine with few cores.
const MPIRUN: [&str; 4] = ["--allow-run-as-root", "--oversubscribe", "--bind-to", "none"];

struct Place(Bench);

impl Place {
    /// A folder with a model, rows and settings: dropout is drawn, and every step has a snapshot.
    fn new() -> Result<Self> {
        let bench = Bench::new()?;
        let text = format!(
            "model = \"small.gguf\"\ndata = \"rows.jsonl\"\neval = \"rows.jsonl\"\neval_every = 3\nsteps = {STEPS}\n\
             batch = 5\nmicro_batch = 40\nseed = 7\n\n[schedule]\nwarmup = 3\n\n[snapshots]\nevery_seconds = 0.0\n\n\
             [lora]\nrank = 2\nalpha = 6.0\ndropout = 0.1\ntarget_modules.named = [\"q_proj\", \"down_proj\"]\n"
        );
        std::fs::write(bench.folder().join("run.toml"), text).unwrap();
        Ok(Self(bench))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.folder().join(name)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.0.folder()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A run of this name in so many processes.
    fn mpirun(&self, options: &[&str], processes: usize, name: &str, arguments: &[&str]) -> Command {
        let processes = processes.to_string();
        let before =
            [&MPIRUN[..], options, &["-n", &processes, COMMAND, "train", "run.toml", "--name", name]];
        self.command("mpirun", &[&before.concat(), arguments].concat())
    }

    fn together(&self, processes: usize, name: &str, arguments: &[&str]) -> (String, String) {
        done(self.mpirun(&[], processes, name, arguments).output().unwrap())
    }

    fn alone(&self, name: &str, arguments: &[&str]) -> (String, String) {
        let arguments = [&["train", "run.toml", "--name", name], arguments].concat();
        done(self.command(COMMAND, &arguments).output().unwrap())
    }

    /// Losses of the steps, and of the evaluations, as their text.
    fn losses(&self, name: &str) -> Vec<[String; 3]> {
        let text =
            std::fs::read_to_string(self.path(&format!("runs/{name}/history.jsonl"))).unwrap_or_default();
        text.lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                ["loss", "gradient_norm", "eval_loss"].map(|key| line[key].to_string())
            })
            .collect()
    }

    fn adapter(&self, name: &str, step: usize) -> Vec<u8> {
        let folder = format!("runs/{name}/step-{step:06}");
        std::fs::read(self.path(&folder).join("adapter_model.safetensors")).unwrap()
    }

    fn same(&self, name: &str, other: &str) {
        let losses = self.losses(name);
        assert_eq!(losses.len(), STEPS, "{name}");
        assert_eq!(losses, self.losses(other), "{name}");
        assert!(self.adapter(name, STEPS) == self.adapter(other, STEPS), "{name}");
    }

    /// Starts one, and waits for some of its steps.
    fn start(&self, mut command: Command, name: &str, steps: usize) -> Child {
        let mut child = command.spawn().unwrap();
        eventually("some steps", || {
            let done = self.losses(name).len() >= steps;
            assert!(done || child.try_wait().unwrap().is_none(), "it has ended: {:?}", child.wait());
            done.then_some(())
        });
        child
    }

    /// The processes that train in this folder: their numbers among those that were started together, and their pids.
    fn processes(&self) -> Vec<(usize, u32)> {
        let here = |pid: u32| -> Option<usize> {
            let folder = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
            let variables = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
            let program = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
            let ours = folder == self.0.folder().canonicalize().ok()?
                && program == Path::new(COMMAND).canonicalize().ok()?;
            let rank =
                variables.split(|byte| *byte == 0).find_map(|v| v.strip_prefix(b"OMPI_COMM_WORLD_RANK="))?;
            ours.then(|| std::str::from_utf8(rank).ok()?.parse().ok())?
        };
        let all = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        all.filter_map(|pid| Some((here(pid)?, pid))).collect()
    }

    fn signal(&self, rank: usize, signal: i32) {
        let (_, pid) = self.processes().into_iter().find(|(known, _)| *known == rank).unwrap();
        send(pid, signal);
    }

    /// Waits until none is left.
    fn all_gone(&self) {
        eventually("the end of all processes", || self.processes().is_empty().then_some(()));
    }
}

fn send(pid: u32, signal: i32) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status().unwrap();
    assert!(sent.success());
}

const SIGKILL: i32 = 9;
const SIGUSR1: i32 = 10;
const SIGTERM: i32 = 15;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;
/// A lost process is noticed, though mpirun ends nothing.
const ENDURE: [&str; 3] = ["--enable-recovery", "--mca", "orte_abort_on_non_zero_status"];

fn text(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn done(output: Output) -> (String, String) {
    let (code, out, err) = text(output);
    assert_eq!(code, Some(0), "{out}{err}");
    (out, err)
}

#[test]
fn device_processes_give_the_bits_of_one() -> Result<()> {
    let place = Place::new()?;
    place.alone("alone", &[]);
    place.alone("two-ranks", &["--devices", "cpu:2"]);
    place.same("two-ranks", "alone");
    for processes in [2, 4] {
        let name = format!("together-{processes}");
        let (out, err) = place.together(processes, &name, &[]);
        place.same(&name, "alone");
        // One process speaks.
        assert_eq!(out.matches("target modules").count(), 1, "{out}");
        assert!(err.contains(&format!("{processes} processes: this one, process 1 on ")), "{err}");
    }
    // Ranks of the first process beside the others, and a model that is split there.
    place.together(2, "mixed", &["--devices", "cpu:2"]);
    place.same("mixed", "alone");
    place.together(2, "split", &["--devices", "cpu:2", "--split", "2"]);
    place.same("split", "alone");
    // What a process makes of `auto` is not the run's.
    place.together(2, "auto", &["--devices", "auto"]);
    place.same("auto", "alone");
    let written = std::fs::read_to_string(place.path("runs/auto/run.json")).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written["config"]["devices"], "auto");
    Ok(())
}

#[test]
fn device_processes_may_be_more_or_fewer_when_a_run_goes_on() -> Result<()> {
    let place = Place::new()?;
    place.alone("alone", &[]);
    place.together(2, "moving", &["--steps", "1"]);
    place.together(3, "moving", &["--resume", "--steps", "1"]);
    place.alone("moving", &["--resume", "--steps", "1"]);
    place.together(2, "moving", &["--resume"]);
    place.same("moving", "alone");
    Ok(())
}

#[test]
fn device_process_with_another_model_is_refused() -> Result<()> {
    let place = Place::new()?;
    model(&place.path("other.gguf"), lorascope_sizes());
    let with =
        |name: &'static str| ["-n", "1", COMMAND, "train", "run.toml", "--name", "odd", "--model", name];
    let arguments = [&MPIRUN[..], &with("small.gguf"), &[":"], &with("other.gguf")].concat();
    let (code, out, err) = text(place.command("mpirun", &arguments).output().unwrap());
    assert_ne!(code, Some(0), "{out}{err}");
    assert!(err.contains("process 1 on ") && err.contains("another model than that of process 0"), "{err}");
    place.all_gone();
    // One that is not there.
    let arguments = [&MPIRUN[..], &with("small.gguf"), &[":"], &with("missing.gguf")].concat();
    let arguments: Vec<&str> = arguments.iter().map(|a| if *a == "odd" { "gone" } else { a }).collect();
    let (code, out, err) = text(place.command("mpirun", &arguments).output().unwrap());
    assert_ne!(code, Some(0), "{out}{err}");
    assert!(err.contains("process 1 on ") && err.contains("missing.gguf"), "{err}");
    place.all_gone();
    Ok(())
}

/// What is wrong for all of them is said once, and all end.
#[test]
fn device_processes_end_with_one_message_where_the_first_one_fails() -> Result<()> {
    let place = Place::new()?;
    for option in [["--data", "missing.jsonl"], ["--model", "missing.gguf"], ["--eval", "missing.csv"]] {
        let (code, out, err) = text(place.mpirun(&[], 3, "odd", &option).output().unwrap());
        assert_ne!(code, Some(0), "{out}{err}");
        let messages: Vec<&str> = err.lines().filter(|line| line.starts_with("lorascope: ")).collect();
        assert_eq!((messages.len(), messages[0].contains(option[1])), (1, true), "{out}{err}");
        assert!(!place.path("runs/odd").exists());
        place.all_gone();
    }
    Ok(())
}

/// A process that was started with another kind of device is named before any model is opened: there is none.
#[test]
fn device_processes_of_different_kinds_are_refused() -> Result<()> {
    let place = Place::new()?;
    let with = |devices: &'static str| {
        let run = ["train", "run.toml", "--name", "mixed", "--model", "missing.gguf", "--devices", devices];
        [&["-n", "1", COMMAND][..], &run].concat()
    };
    let arguments = [&MPIRUN[..], &with("auto"), &[":"], &with("cuda:0")].concat();
    let (code, out, err) = text(place.command("mpirun", &arguments).output().unwrap());
    assert_ne!(code, Some(0), "{out}{err}");
    let said = "it was started with devices cuda:0, and process 0 computes on the processor";
    assert!(err.contains("lorascope: process 1 on ") && err.contains(said), "{err}");
    assert!(err.contains("give all of them devices cpu:1, or auto"), "{err}");
    assert!(!err.contains("missing.gguf"), "{err}");
    assert!(!place.path("runs/mixed").exists());
    place.all_gone();
    Ok(())
}

/// The same sizes, but one block fewer.
fn lorascope_sizes() -> common::llama::Sizes {
    common::llama::Sizes { layers: 7, ..SMALL }
}

#[test]
fn device_processes_that_nothing_connects_are_refused() -> Result<()> {
    let place = Place::new()?;
    for variables in [
        [("RANK", "0"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")],
        [("SLURM_PROCID", "1"), ("SLURM_NTASKS", "2"), ("SLURM_LOCALID", "1")],
    ] {
        let mut command = place.command(COMMAND, &["train", "run.toml", "--name", "none"]);
        let (code, out, err) = text(command.envs(variables).output().unwrap());
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains("of 2 (") && err.contains("mpirun -n 2"), "{err}");
        assert!(!place.path("runs/none").exists());
    }
    Ok(())
}

/// The settings of a run that is longer than its test.
const LONG: [&str; 2] = ["--steps", "100000"];

/// What is on disk of a run that was cut short goes on to the numbers of one that was not.
fn goes_on(place: &Place, name: &str) {
    place.all_gone();
    let steps = place.losses(name).len();
    place.alone(name, &["--resume", "--steps", "2"]);
    let losses = place.losses(name);
    assert!(losses.len() >= steps, "{} of {steps} steps are left", losses.len());
    place.alone(&format!("{name}-alone"), &["--steps", &losses.len().to_string()]);
    assert_eq!(losses, place.losses(&format!("{name}-alone")), "{name}");
    let step = losses.len();
    assert!(place.adapter(name, step) == place.adapter(&format!("{name}-alone"), step), "{name}");
}

#[test]
fn device_process_that_is_killed_ends_all() -> Result<()> {
    let place = Place::new()?;
    for (rank, name) in [(1, "follower"), (0, "leader")] {
        let child = place.start(place.mpirun(&[], 3, name, &LONG), name, 1);
        let begun = Instant::now();
        place.signal(rank, SIGKILL);
        let (code, out, err) = text(child.wait_with_output().unwrap());
        println!("rank {rank} was killed: all had ended after {:?}", begun.elapsed());
        assert_ne!(code, Some(0), "{out}{err}");
        goes_on(&place, name);
    }
    Ok(())
}

/// Where mpirun is told to go on without a process, the others notice.
#[test]
fn device_process_that_is_killed_is_noticed() -> Result<()> {
    let place = Place::new()?;
    let options = [&ENDURE[..], &["0"]].concat();
    for (rank, name) in [(1, "follower"), (0, "leader")] {
        let child = place.start(place.mpirun(&options, 3, name, &LONG), name, 1);
        let begun = Instant::now();
        place.signal(rank, SIGKILL);
        let (code, out, err) = text(child.wait_with_output().unwrap());
        println!("rank {rank} was killed: all had ended after {:?}: {code:?}\n{out}{err}", begun.elapsed());
        if rank == 1 {
            assert!(
                err.contains("process 1 on ") && err.contains("nothing was heard of it for"),
                "{out}{err}"
            );
        }
        goes_on(&place, name);
    }
    Ok(())
}

/// Neither the first process nor another one takes one for lost that is stopped for some seconds.
#[test]
fn device_process_that_is_stopped_for_a_moment_is_waited_for() -> Result<()> {
    let place = Place::new()?;
    let options = [&ENDURE[..], &["0"]].concat();
    let child = place.start(place.mpirun(&options, 3, "stopped", &LONG), "stopped", 1);
    for rank in [1, 0] {
        place.signal(rank, SIGSTOP);
        std::thread::sleep(Duration::from_secs(4));
        let steps = place.losses("stopped").len();
        place.signal(rank, SIGCONT);
        eventually("two more steps", || (place.losses("stopped").len() >= steps + 2).then_some(()));
    }
    assert_eq!(place.processes().len(), 3);
    send(child.id(), SIGUSR1);
    let (_, out, err) = text(child.wait_with_output().unwrap());
    assert!(out.contains("paused after step ") && !err.contains("nothing was heard"), "{out}{err}");
    goes_on(&place, "stopped");
    Ok(())
}

#[test]
fn device_processes_pause_when_asked() -> Result<()> {
    let place = Place::new()?;
    // mpirun passes this one on.
    let child = place.start(place.mpirun(&[], 3, "paused", &LONG), "paused", 1);
    let begun = Instant::now();
    send(child.id(), SIGUSR1);
    let (_, out, err) = text(child.wait_with_output().unwrap());
    println!("asked to end: all had after {:?}\n{err}", begun.elapsed());
    assert!(out.contains("paused after step "), "{out}{err}");
    goes_on(&place, "paused");
    // Of this one it makes SIGTERM after that time, and SIGKILL after as much again.
    let options = ["--mca", "odls_base_sigkill_timeout", "15"];
    let child = place.start(place.mpirun(&options, 2, "ended", &LONG), "ended", 1);
    send(child.id(), SIGTERM);
    let (_, out, err) = text(child.wait_with_output().unwrap());
    assert!(out.contains("paused after step "), "{out}{err}");
    goes_on(&place, "ended");
    // The first process alone, as a batch system may ask it.
    let child = place.start(place.mpirun(&[], 2, "asked", &LONG), "asked", 1);
    place.signal(0, SIGTERM);
    let (code, out, err) = text(child.wait_with_output().unwrap());
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("paused after step "), "{out}{err}");
    goes_on(&place, "asked");
    Ok(())
}
