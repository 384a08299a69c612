//! Runs that are killed at any moment, whose files are damaged, or whose disk is full, of a small
//! model: what comes out is to the bit what comes out of a run that nobody disturbed.

mod common;

use crate::common::clock;
use crate::common::runs::{Bench, Straight, config};
use lorascope::display::Show;
use lorascope::error::Result;
use lorascope::run::{Operation, Run, State, before_each_operation};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Operations on the disk until the process ends itself, or until the disk is full.
static LEFT: AtomicI64 = AtomicI64::new(i64::MAX);
static FULL: AtomicI64 = AtomicI64::new(i64::MAX);

/// Not a test: the process that is killed. It opens the run `kept`, says so, and trains.
#[test]
fn child() {
    let Some(folder) = std::env::var_os("LORASCOPE_CHILD") else { return };
    std::env::set_current_dir(folder).unwrap();
    let left = std::env::var("LORASCOPE_LEFT").unwrap().parse().unwrap();
    let run = Run::get("kept").unwrap();
    LEFT.store(left, Ordering::SeqCst);
    before_each_operation(|_, _| {
        if LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
            let kill = Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
            panic!("{kill:?}");
        }
        Ok(())
    });
    println!("\nready");
    // Nobody reads what is printed from here on.
    let _ = run.start(if left < 1 << 40 { 1 } else { 1_000 });
    while run.status().state == State::Running {
        std::thread::sleep(Duration::from_millis(2));
    }
    std::process::exit(0);
}

/// Starts the child and waits until it has the run open.
fn spawn(folder: &Path, left: i64) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env("LORASCOPE_CHILD", folder)
        .env("LORASCOPE_LEFT", left.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"), "the child never had the run open");
    child
}

#[test]
fn resume_after_a_kill_at_any_moment() -> Result<()> {
    let bench = Bench::new()?;
    let mut straight = Straight::new(&bench)?;
    bench.run("kept", config())?.close()?;
    let mut reached = 0;
    // At twenty moments; a busy machine needs more of them to get as far.
    for i in 0..400u64 {
        if i >= 20 && reached >= 5 {
            break;
        }
        let mut child = spawn(bench.folder(), i64::MAX);
        // From the middle of the first step to several steps on; where a machine is slow, later.
        std::thread::sleep(Duration::from_millis((i * 2_654_435_761) % 400 * (1 + i / 20)));
        child.kill().unwrap();
        child.wait().unwrap();
        let run = Run::get("kept")?;
        assert!(run.status().step >= reached, "what was done is not lost");
        reached = run.status().step;
        straight.agrees(&run)?;
        run.close()?;
    }
    assert!(reached >= 5, "400 processes made {reached} steps");
    let run = Run::get("kept")?;
    run.steps(2)?;
    straight.agrees(&run)
}

#[test]
fn resume_after_a_kill_at_each_operation_of_a_snapshot() -> Result<()> {
    let bench = Bench::new()?;
    let mut straight = Straight::new(&bench)?;
    let run = bench.run("kept", config())?;
    run.steps(4)?; // so that an old snapshot goes when the next one comes
    run.close()?;
    let folder = run.folder().to_path_buf();
    let before = bench.folder().join("before");
    copy(&folder, &before);
    let mut killed = 0;
    for left in 1.. {
        fs::remove_dir_all(&folder).unwrap();
        copy(&before, &folder);
        let status = spawn(bench.folder(), left).wait().unwrap();
        let run = Run::get("kept")?;
        assert!([4, 5].contains(&run.status().step), "{left}: step {}", run.status().step);
        assert!(run.status().notes.is_empty(), "{left}: {:?}", run.status().notes);
        straight.agrees(&run)?;
        if run.status().step == 4 {
            run.step()?;
            straight.agrees(&run)?;
        }
        let hidden = fs::read_dir(&folder)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
        assert_eq!(hidden.count(), 0, "{left}: nothing half written stays");
        run.close()?;
        if status.success() {
            break;
        }
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
        killed += 1;
    }
    assert!(killed >= 25, "there were only {killed} operations");
    println!("killed at each of {killed} operations");
    Ok(())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn resume_from_the_snapshot_before_a_damaged_one() -> Result<()> {
    let bench = Bench::new()?;
    let mut straight = Straight::new(&bench)?;
    let run = bench.run("kept", config())?;
    run.steps(3)?;
    run.close()?;
    let folder = run.folder().to_path_buf();
    let before = bench.folder().join("before");
    copy(&folder, &before);
    let newest = folder.join("step-000003");
    let mut names: Vec<PathBuf> = fs::read_dir(&newest).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    assert_eq!(names.len(), 6, "{names:?}");
    type Damage = fn(&Path);
    let flip: Damage = |path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let truncate: Damage = |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() * 2 / 3]).unwrap();
    };
    let empty: Damage = |path| fs::write(path, []).unwrap();
    let delete: Damage = |path| fs::remove_file(path).unwrap();
    for name in &names {
        for damage in [flip, truncate, empty, delete] {
            fs::remove_dir_all(&folder).unwrap();
            copy(&before, &folder);
            damage(name);
            let run = Run::get("kept")?;
            let status = run.status();
            assert_eq!(status.step, 2, "{}: {:?}", name.display(), status.notes);
            let told = status.show().text;
            assert!(told.contains("step 3 is damaged") && told.contains("goes on from step 2"), "{told}");
            assert!(folder.join("damaged-step-000003").exists(), "it is put aside, not thrown away");
            run.steps(1)?;
            straight.agrees(&run)?;
            run.close()?;
        }
    }
    // A file that nobody vouches for is not taken: its bytes may be any.
    for name in names.iter().filter(|name| !name.ends_with("checksums.json")) {
        fs::remove_dir_all(&folder).unwrap();
        copy(&before, &folder);
        let path = newest.join("checksums.json");
        let mut sums: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let name = name.file_name().unwrap().to_str().unwrap();
        assert!(sums.as_object_mut().unwrap().remove(name).is_some(), "{name}");
        fs::write(&path, sums.to_string()).unwrap();
        let run = Run::get("kept")?;
        let status = run.status();
        assert!(
            status.step == 2 && status.notes[0].contains(&format!("no checksum of {name}")),
            "{:?}",
            status.notes
        );
        run.close()?;
    }
    // The journal and the goal may go as well.
    fs::remove_dir_all(&folder).unwrap();
    copy(&before, &folder);
    for name in ["journal.json", "goal.json"] {
        fs::write(folder.join(name), "{").unwrap();
    }
    let run = Run::get("kept")?;
    assert_eq!((run.status().step, run.status().state), (3, State::Idle));
    straight.agrees(&run)
}

#[test]
fn a_full_disk_pauses_and_goes_on() -> Result<()> {
    let bench = Bench::new()?;
    let mut straight = Straight::new(&bench)?;
    let run = bench.run("full", config())?;
    before_each_operation(|operation, path| {
        let ours = path.to_string_lossy().contains("/full");
        let writes = matches!(operation, Operation::Write | Operation::Room);
        if ours && writes && FULL.fetch_sub(1, Ordering::SeqCst) <= 0 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        Ok(())
    });
    for writes in [0, 3, 9] {
        FULL.store(writes, Ordering::SeqCst);
        let step = run.status().step;
        run.start(2)?;
        let status = run.wait()?;
        assert_eq!(status.state, State::Paused, "after {writes} writes: {:?}", status.notes);
        assert!(status.notes.last().unwrap().contains("goes on when there is room"), "{:?}", status.notes);
        straight.agrees(&run)?;
        FULL.store(i64::MAX, Ordering::SeqCst);
        clock::eventually("the run goes on", || {
            (run.status().step >= step + 2 && run.status().state != State::Running).then_some(())
        });
        assert_eq!(run.status().state, State::Idle);
        straight.agrees(&run)?;
    }
    run.close()?;
    straight.agrees(&Run::get("full")?)
}
