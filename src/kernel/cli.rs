//! The command line.

use crate::base;
use crate::paths::{Places, Tools};
use crate::{server, stock};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const HELP: &str = "\
The Jupyter kernel of lorascope

Usage: lorascope-kernel install   [--user | --sys-prefix | --prefix DIR] [PLACES]
       lorascope-kernel uninstall [--user | --sys-prefix | --prefix DIR]
       lorascope-kernel build     [PLACES]
       lorascope-kernel run       --connection-file FILE [PLACES]     (Jupyter does this)

  --stock         evcxr's own kernel, on the same build, under the name Rust (evcxr)
  --user          for this user: ~/.local/share/jupyter (default)
  --sys-prefix    in the Python environment that is active (VIRTUAL_ENV or CONDA_PREFIX)
  --prefix DIR    in DIR/share/jupyter

PLACES
  --source DIR    the checkout of lorascope whose library the cells use
  --cache DIR     where it is built, once [default: ~/.cache/lorascope]
  --features LIST features of lorascope for the cells, with commas, e.g. cuda
";

#[derive(Debug, Default)]
struct Options {
    source: Option<PathBuf>,
    cache: Option<PathBuf>,
    features: Vec<String>,
    connection: Option<PathBuf>,
    prefix: Option<PathBuf>,
    stock: bool,
}

pub fn main(arguments: &[String]) -> ExitCode {
    let done = match arguments.split_first() {
        Some((verb, rest)) => match verb.as_str() {
            "run" => options(rest).and_then(run),
            "build" => options(rest).and_then(|options| build(&options)),
            "install" => options(rest).and_then(|options| install(&options)),
            "uninstall" => options(rest).and_then(|options| uninstall(&options)),
            // The stock kernel, from the same build: what the tests compare with.
            "--control_file" => evcxr_jupyter::main().map_err(|error| error.to_string()),
            "--help" | "-h" | "help" => {
                print!("{HELP}");
                Ok(())
            }
            other => Err(format!("unknown command {other}\n\n{HELP}")),
        },
        None => Err(HELP.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn options(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (argument.as_str(), None),
        };
        let mut value =
            || value.clone().or_else(|| arguments.next().cloned()).ok_or(format!("{name} needs a value"));
        match name {
            "--source" => options.source = Some(value()?.into()),
            "--cache" => options.cache = Some(value()?.into()),
            "--features" => {
                options.features =
                    value()?.split(',').filter(|name| !name.is_empty()).map(String::from).collect();
            }
            "--connection-file" | "-f" => options.connection = Some(value()?.into()),
            "--prefix" => options.prefix = Some(PathBuf::from(value()?).join("share/jupyter")),
            "--stock" => options.stock = true,
            "--sys-prefix" => options.prefix = Some(active_environment()?.join("share/jupyter")),
            "--user" => options.prefix = Some(user_folder()?),
            _ => return Err(format!("unknown option {name}\n\n{HELP}")),
        }
    }
    Ok(options)
}

fn active_environment() -> Result<PathBuf, String> {
    let folder = ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().find_map(std::env::var_os);
    folder
        .map(PathBuf::from)
        .ok_or_else(|| "no Python environment is active: activate one, or use --prefix".to_string())
}

fn user_folder() -> Result<PathBuf, String> {
    if let Some(folder) = std::env::var_os("JUPYTER_DATA_DIR") {
        return Ok(folder.into());
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).ok_or("HOME is not set: use --prefix")?;
    let data = std::env::var_os("XDG_DATA_HOME").map_or_else(|| home.join(".local/share"), PathBuf::from);
    Ok(if cfg!(target_os = "macos") { home.join("Library/Jupyter") } else { data.join("jupyter") })
}

impl Options {
    fn places(&self) -> Places {
        Places::new(self.source.clone(), self.cache.clone(), self.features.clone())
    }

    /// The name of the kernel, and the one that people read.
    fn name(&self) -> (&'static str, &'static str) {
        if self.stock { ("lorascope-stock", "Rust (evcxr)") } else { ("lorascope", "lorascope (Rust)") }
    }

    fn spec(&self) -> Result<PathBuf, String> {
        let data = self.prefix.clone().map_or_else(user_folder, Ok)?;
        Ok(data.join("kernels").join(self.name().0))
    }
}

fn build(options: &Options) -> Result<(), String> {
    let (places, tools) = (options.places(), Tools::find()?);
    if base::is_ready(&places, &tools) {
        return Ok(());
    }
    let begun = std::time::Instant::now();
    let mut last = None;
    base::build(&places, &tools, &mut |progress| {
        // A line for each twentieth of it.
        let part = 20 * progress.done / progress.total.max(1);
        if last != Some(part) {
            last = Some(part);
            eprintln!("crate {} of {}, {} s", progress.done, progress.total, begun.elapsed().as_secs());
        }
    })
}

/// Writes the kernelspec.
fn install(options: &Options) -> Result<(), String> {
    let (places, folder) = (options.places(), options.spec()?);
    if !places.source.join("Cargo.toml").is_file() {
        return Err(format!(
            "{} holds no lorascope: name its checkout with --source",
            places.source.display()
        ));
    }
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let text = |path: &Path| path.display().to_string();
    let mut argv =
        vec![text(&program), "run".into(), "--source".into(), text(&places.source), "--cache".into()];
    argv.push(text(&places.cache));
    argv.extend(options.stock.then(|| "--stock".to_string()));
    if !places.features.is_empty() {
        argv.extend(["--features".to_string(), places.features.join(",")]);
    }
    argv.extend(["--connection-file".to_string(), "{connection_file}".to_string()]);
    let spec = json!({
        "argv": argv, "display_name": options.name().1, "language": "rust", "interrupt_mode": "message",
        "metadata": {"debugger": false},
    });
    let at = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(at)?;
    let json = serde_json::to_string_pretty(&spec).map_err(|error| error.to_string())?;
    std::fs::write(folder.join("kernel.json"), json + "\n").map_err(at)?;
    std::fs::write(folder.join("logo-svg.svg"), include_bytes!("logo.svg")).map_err(at)?;
    println!("installed the kernel \"{}\" in {}", options.name().1, folder.display());
    Ok(())
}

fn uninstall(options: &Options) -> Result<(), String> {
    let folder = options.spec()?;
    std::fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    println!("removed {}", folder.display());
    Ok(())
}

fn run(options: Options) -> Result<(), String> {
    let file = options.connection.as_ref().ok_or("--connection-file is missing: Jupyter gives it")?;
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let connection = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let (places, tools) = (options.places(), Tools::find()?);
    let folder = base::new_clone(&places, &tools)?;
    // The stop button is a message. A Ctrl-C in the terminal of `jupyter console` reaches all its processes.
    // SAFETY: ignoring a signal has no handler that could do harm.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
    end_with_jupyter(folder.folder.clone());
    let clone = folder.folder.clone();
    if options.stock {
        let ended = stock::run(&places, &tools, file, &folder);
        if let Err(message) = &ended {
            eprintln!("error: {message}");
        }
        leave(&clone, !ended.unwrap_or(false));
    }
    let token = uuid::Uuid::new_v4().simple().to_string();
    for (name, value) in server::environment(&places, &tools, &folder, &token) {
        // SAFETY: the only other thread asks for its parent's number.
        unsafe { std::env::set_var(name, value) };
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let served = runtime.block_on(server::serve(&connection, places, tools, folder, token));
    leave(&clone, served.is_err())
}

/// Ends at once, with all processes and files of the kernel.
fn leave(clone: &Path, failed: bool) -> ! {
    let _ = std::fs::remove_dir_all(clone);
    // SAFETY: plain calls; Jupyter gives each kernel a process group of its own.
    unsafe {
        if libc::getpgrp() == libc::getpid() {
            libc::signal(libc::SIGTERM, libc::SIG_IGN);
            libc::killpg(libc::getpgrp(), libc::SIGTERM);
        }
    }
    std::process::exit(i32::from(failed))
}

/// Watches for the end of Jupyter, after which nobody would end this kernel.
fn end_with_jupyter(clone: PathBuf) {
    let jupyter = std::os::unix::process::parent_id();
    std::thread::spawn(move || {
        while std::os::unix::process::parent_id() == jupyter {
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        leave(&clone, true)
    });
}
