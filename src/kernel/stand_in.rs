//! The programs that stand in cargo's and rustup's place for evcxr.
//!
//! evcxr compiles each cell by `cargo build`. As long as its dependencies are those of an earlier build, all that
//! cargo does is to look at 430 packages for changes, half a second a cell. So this calls rustc as cargo did then.
//! Everything else is passed on to the real cargo.

use crate::base::{self, BuildProgress};
use crate::code::{self, Variant};
use crate::files::{link_target, locked, replace};
use crate::paths::{CELL_NUMBER, Tools, variable, variables};
use crate::workspace;
use serde_json::{Value, json};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Answers `rustup which cargo` with the stand-in; evcxr asks so for the cargo that it calls.
pub fn rustup(arguments: &[String]) -> ExitCode {
    if arguments == ["which", "cargo"]
        && let Ok(clone) = variable(variables::CLONE)
    {
        println!("{clone}/bin/cargo");
        return ExitCode::SUCCESS;
    }
    match std::env::var_os(variables::RUSTUP) {
        Some(real) => replaced_by(with_home(&mut Command::new(real)).args(arguments)),
        None => ExitCode::FAILURE,
    }
}

/// Stands in rustc's place while cargo builds, and notes how it was called for the crate of a cell.
pub fn record_rustc(arguments: &[String]) -> ExitCode {
    let Some((rustc, arguments)) = arguments.split_first() else { return ExitCode::FAILURE };
    let is_cell = arguments.windows(2).any(|pair| pair == ["--crate-name", "ctx"]);
    if let (true, Some(file)) = (is_cell, std::env::var_os(variables::RECORD)) {
        // A missing record is made again by the next build.
        let _ = replace(Path::new(&file), &json!(arguments).to_string());
    }
    replaced_by(Command::new(rustc).args(arguments))
}

/// The folder of the real cargo: rust-analyzer was given another one.
fn with_home(command: &mut Command) -> &mut Command {
    match std::env::var_os(variables::CARGO_HOME) {
        Some(home) => command.env("CARGO_HOME", home),
        None => command,
    }
}

/// Becomes another program.
fn replaced_by(command: &mut Command) -> ExitCode {
    let error = command.exec();
    failed(format!("{}: {error}", command.get_program().display()))
}

fn failed(message: impl std::fmt::Display) -> ExitCode {
    let message = message.to_string();
    // What cargo said begins so already.
    eprintln!("error: {}", message.trim_start_matches("error: "));
    ExitCode::FAILURE
}

/// Stands in cargo's place.
pub fn cargo(arguments: &[String]) -> ExitCode {
    match Cargo::new().and_then(|cargo| cargo.answer(arguments)) {
        Ok(code) => code,
        Err(message) => failed(message),
    }
}

struct Cargo {
    clone: PathBuf,
    base: PathBuf,
    real: String,
    host: String,
}

impl Cargo {
    fn new() -> Result<Self, String> {
        Ok(Self {
            clone: variable(variables::CLONE)?.into(),
            base: variable(variables::BASE)?.into(),
            real: variable(variables::CARGO)?,
            host: variable(variables::HOST)?,
        })
    }

    fn answer(&self, arguments: &[String]) -> Result<ExitCode, String> {
        let verb = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
        let manifest = std::fs::read_to_string(self.krate().join("Cargo.toml")).unwrap_or_default();
        let of_cell = std::env::current_dir().is_ok_and(|folder| folder == self.krate());
        match verb {
            "build" | "check" if of_cell => self.compile(verb == "check", &manifest),
            "metadata" if of_cell && manifest.contains("evcxr_dummy_validate_dep") => {
                self.validate(&manifest, arguments)
            }
            "metadata" if of_cell || arguments.iter().any(|a| Path::new(a).starts_with(self.krate())) => {
                self.metadata(&manifest, arguments)
            }
            "metadata" if arguments.iter().any(|a| a.ends_with("/library/Cargo.toml")) => {
                self.of_rust(arguments)
            }
            "locate-project" => {
                println!("{}", json!({"root": self.krate().join("Cargo.toml")}));
                Ok(ExitCode::SUCCESS)
            }
            _ => Ok(replaced_by(self.real().args(arguments))),
        }
    }

    /// The real cargo.
    fn real(&self) -> Command {
        let mut command = Command::new(&self.real);
        with_home(&mut command);
        command
    }

    /// The packages of Rust's own library: those that programs name. Asked once for each toolchain.
    fn of_rust(&self, arguments: &[String]) -> Result<ExitCode, String> {
        // rust-analyzer was given a folder with a part of the library, which no cargo could read.
        let ours = self.clone.join("rust/library").display().to_string();
        let real = std::env::var(variables::RUST_SOURCE).unwrap_or_else(|_| ours.clone());
        let arguments: Vec<String> =
            arguments.iter().map(|argument| argument.replace(&ours, &real)).collect();
        let file = workspace::rust_metadata(&self.base, hash(&arguments.join(" ")));
        let mut metadata = match std::fs::read_to_string(&file).map(|known| serde_json::from_str(&known)) {
            Ok(Ok(known)) => known,
            _ => {
                let output =
                    self.real().args(&arguments).output().map_err(|error| format!("cargo: {error}"))?;
                let Ok(mut metadata) = serde_json::from_slice::<Value>(&output.stdout) else {
                    let _ = std::io::stderr().write_all(&output.stderr);
                    return Ok(ExitCode::FAILURE);
                };
                workspace::keep(&mut metadata, &workspace::RUST_PACKAGES.map(String::from).into());
                let _ = replace(&file, &metadata.to_string());
                metadata
            }
        };
        workspace::rename(&mut metadata, &real, &ours);
        println!("{metadata}");
        Ok(ExitCode::SUCCESS)
    }

    fn krate(&self) -> PathBuf {
        self.clone.join("ctx")
    }

    /// How rustc is called for a cell with these dependencies; none where they have not been built yet.
    fn call(&self, manifest: &str) -> Option<Vec<String>> {
        let dependencies = dependencies(manifest);
        let file = match dependencies.as_slice() {
            [] => return Some(Vec::new()),
            [one] if is_lorascope(one) => self.base.join("rustc.json"),
            _ => self.record(&dependencies),
        };
        serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()
    }

    /// The file with the call of rustc for these dependencies.
    fn record(&self, dependencies: &[String]) -> PathBuf {
        self.clone.join(format!("rustc-{:016x}.json", hash(&dependencies.join("\n"))))
    }

    fn compile(&self, check: bool, manifest: &str) -> Result<ExitCode, String> {
        let call = match self.call(manifest) {
            Some(call) => call,
            None => {
                self.build_dependencies(manifest)?;
                self.call(manifest).ok_or("the call of rustc was not recorded")?
            }
        };
        let source = self.krate().join("src/lib.rs");
        let text =
            std::fs::read_to_string(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        if check {
            return self.rustc(&call, &source, true).map(|compiled| compiled.reported());
        }
        let token = variable(variables::TOKEN)?;
        // `file!()` in a cell's code has its number (src/display/printing.rs).
        let number = std::fs::read_to_string(self.clone.join(CELL_NUMBER)).unwrap_or_default();
        let number: u64 = number.trim().parse().unwrap_or(0);
        let with_lorascope = dependencies(manifest).iter().any(|dependency| is_lorascope(dependency));
        let cells = self.clone.join("cell");
        let _ = std::fs::remove_dir_all(&cells);
        let cell = cells.join(number.to_string()).join("lib.rs");
        // Old values that a cell declares anew come back by a move, which a cell may have made itself; then by a copy.
        let mut last = None;
        for variant in [Variant::Moves, Variant::Copies] {
            let edited = code::edited(&text, &token, variant, with_lorascope);
            std::fs::create_dir_all(cell.with_file_name(""))
                .and_then(|()| std::fs::write(&cell, &edited.text))
                .map_err(|error| format!("{}: {error}", cell.display()))?;
            let compiled = self.rustc(&call, &cell, false)?;
            let again = !compiled.succeeded && edited.moves && compiled.names_line(edited.last_line);
            last = Some(compiled);
            if !again {
                break;
            }
        }
        Ok(last.map_or(ExitCode::FAILURE, |compiled| compiled.reported()))
    }

    /// Calls rustc for a cell.
    fn rustc(&self, call: &[String], source: &Path, check: bool) -> Result<Compiled, String> {
        let out = self.krate().join("out");
        std::fs::create_dir_all(&out).map_err(|error| format!("{}: {error}", out.display()))?;
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_string());
        let emit = if check { "--emit=metadata" } else { "--emit=link" };
        let mut command = Command::new(rustc);
        command
            .args(["--crate-name", "ctx", "--edition=2024", "--crate-type", "cdylib", emit])
            .args(["--error-format=json", "--json=diagnostic-rendered-ansi", "--target", &self.host])
            .args([
                "-Cprefer-dynamic",
                "-Copt-level=2",
                "-Ccodegen-units=1",
                "-Cstrip=debuginfo",
                "-Cdebuginfo=0",
            ])
            .args(self.linked(call))
            .arg("--out-dir")
            .arg(&out)
            .arg(source);
        let output = command.output().map_err(|error| format!("rustc: {error}"))?;
        Ok(Compiled {
            succeeded: output.status.success(),
            library: out.join("libctx.so"),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
            check,
        })
    }

    /// The arguments that say what a cell is linked with: lorascope is the link of this kernel.
    fn linked(&self, call: &[String]) -> Vec<String> {
        let mut linked = Vec::new();
        let mut arguments = call.iter();
        while let Some(argument) = arguments.next() {
            if !["-L", "--extern", "-l"].contains(&argument.as_str()) {
                continue;
            }
            let Some(value) = arguments.next() else { continue };
            let value = match value.split_once('=') {
                Some(("lorascope", path)) => {
                    let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
                    format!("lorascope={}", self.clone.join("lib").join(&*name).display())
                }
                _ => value.clone(),
            };
            linked.extend([argument.clone(), value]);
        }
        linked
    }

    /// Builds what `:dep` lines ask for, by the real cargo.
    fn build_dependencies(&self, manifest: &str) -> Result<(), String> {
        let at = |error: std::io::Error| format!("{}: {error}", self.clone.display());
        {
            let _lock = locked(&self.base.with_extension("lock"), false).map_err(at)?;
            link_target(&self.base.join("ctx/target"), &self.krate().join("target"), true).map_err(at)?;
            std::fs::copy(self.base.join("Cargo.lock"), self.clone.join("Cargo.lock")).map_err(at)?;
        }
        let tools = self.tools();
        let record = self.record(&dependencies(manifest));
        self.refuse_other_features()?;
        let mut bar = BuildBar::new();
        let mut command = base::cargo(&self.krate(), &tools);
        with_home(&mut command)
            .args(["build", "--target", &self.host])
            .env("RUSTC_WRAPPER", self.clone.join("bin/record-rustc"))
            .env(variables::RECORD, &record);
        let done = base::run(&mut command, &mut |progress| bar.show(progress));
        bar.end();
        // The cell itself may have errors; what it stands on is built where rustc was called for it.
        if record.is_file() {
            Ok(())
        } else {
            Err(done.err().unwrap_or_else(|| "cargo did not call rustc".to_string()))
        }
    }

    /// Fails where a dependency would build lorascope anew.
    fn refuse_other_features(&self) -> Result<(), String> {
        let arguments = ["metadata", "--format-version=1", "--filter-platform", &self.host];
        let output =
            self.real().args(arguments).output().map_err(|error| format!("cargo metadata: {error}"))?;
        let metadata: Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let file = self.base.join("features.json");
        let before =
            std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        match workspace::changed(&metadata, &before) {
            Some(package) => Err(format!(
                "this would build {package}, and lorascope anew, which a running notebook cannot load: leave the \
                 features out, or use what lorascope re-exports (lorascope::polars, candle_core, plotters, tokenizers)"
            )),
            None => Ok(()),
        }
    }

    fn tools(&self) -> Tools {
        Tools {
            cargo: self.real.clone().into(),
            rustup: None,
            cargo_home: PathBuf::new(),
            host: self.host.clone(),
            libraries: PathBuf::new(),
            version: String::new(),
        }
    }

    /// Answers whether a dependency exists. Of lorascope that is known.
    fn validate(&self, manifest: &str, arguments: &[String]) -> Result<ExitCode, String> {
        let dependencies = dependencies(manifest);
        if dependencies.iter().all(|dependency| is_lorascope(dependency)) {
            println!("{{}}");
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(message) = dependencies.iter().find_map(|dependency| workspace::re_exported(dependency)) {
            return Ok(failed(message));
        }
        Ok(replaced_by(self.real().args(arguments)))
    }

    /// The packages that rust-analyzer reads: those whose types a cell can name.
    fn metadata(&self, manifest: &str, arguments: &[String]) -> Result<ExitCode, String> {
        let dependencies = dependencies(manifest);
        let known = match dependencies.as_slice() {
            // evcxr asks before the kernel names lorascope. With one answer to both, rust-analyzer reads it all once.
            all if all.iter().all(|dependency| is_lorascope(dependency)) => {
                workspace::of_base(&self.base, &self.clone)
            }
            _ => None,
        };
        if let Some(known) = known {
            println!("{known}");
            return Ok(ExitCode::SUCCESS);
        }
        let output = self.real().args(arguments).output().map_err(|error| format!("cargo: {error}"))?;
        let _ = std::io::stderr().write_all(&output.stderr);
        match serde_json::from_slice::<Value>(&output.stdout) {
            Ok(mut metadata) if output.status.success() => {
                let names: Vec<&str> =
                    dependencies.iter().filter_map(|line| line.split(" = ").next()).collect();
                workspace::reduce(&mut metadata, &names);
                println!("{metadata}");
                Ok(ExitCode::SUCCESS)
            }
            _ => {
                let _ = std::io::stdout().write_all(&output.stdout);
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// The progress of a build as a display of the cell that asked for it.
struct BuildBar {
    kernel: Option<UnixStream>,
    id: String,
    shown: Option<Instant>,
}

impl BuildBar {
    fn new() -> Self {
        let kernel = std::env::var_os(variables::SOCKET).and_then(|socket| UnixStream::connect(socket).ok());
        Self { kernel, id: format!("build-{}", std::process::id()), shown: None }
    }

    fn show(&mut self, progress: BuildProgress) {
        let due = self.shown.is_none_or(|last| last.elapsed() > Duration::from_millis(500));
        if due && progress.done < progress.total {
            let text = format!("building dependencies: crate {} of {}", progress.done, progress.total);
            self.say(json!({"text/plain": text}));
        }
    }

    fn end(&mut self) {
        if self.shown.is_some() {
            self.say(json!({"text/plain": "dependencies are built"}));
        }
    }

    fn say(&mut self, data: Value) {
        let what = if self.shown.is_some() { "update" } else { "display" };
        self.shown = Some(Instant::now());
        if let Some(kernel) = &mut self.kernel {
            // A kernel that went away needs no bar.
            let _ = writeln!(kernel, "{}", json!({what: {"id": self.id, "data": data}}));
        }
    }
}

/// The lines of [dependencies], in an order of their own: evcxr writes them in any.
fn dependencies(manifest: &str) -> Vec<String> {
    let lines = manifest.lines().map(str::trim).skip_while(|line| *line != "[dependencies]").skip(1);
    let mut lines: Vec<String> = lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty())
        .map(String::from)
        .collect();
    lines.sort();
    lines
}

fn is_lorascope(dependency: &str) -> bool {
    dependency.split(" = ").next() == Some("lorascope")
}

/// FNV-1a, for a file name.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// What rustc made of a cell.
struct Compiled {
    succeeded: bool,
    library: PathBuf,
    said: String,
    check: bool,
}

impl Compiled {
    /// Whether an error lies in a line of the generated code.
    fn names_line(&self, line: usize) -> bool {
        let messages = self.said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let errors = messages.filter(|message| message["level"] == "error");
        let spans = errors.flat_map(|error| error["spans"].as_array().cloned().unwrap_or_default());
        spans.into_iter().any(|span| span["line_start"].as_u64() == Some(line as u64))
    }

    /// Tells evcxr as cargo would.
    fn reported(&self) -> ExitCode {
        let mut out = String::new();
        for line in self.said.lines() {
            match serde_json::from_str::<Value>(line) {
                Ok(message) => {
                    out += &json!({"reason": "compiler-message", "message": message}).to_string();
                    out.push('\n');
                }
                Err(_) => eprintln!("{line}"),
            }
        }
        if self.succeeded && !self.check {
            let artifact = json!({
                "reason": "compiler-artifact",
                "target": {"name": "ctx"},
                "filenames": [self.library.display().to_string()],
            });
            out += &artifact.to_string();
            out.push('\n');
        }
        let _ = std::io::stdout().write_all(out.as_bytes());
        if self.succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_in_one_order() {
        let manifest = "[lib]\n[dependencies]\nrand = \"0.9\"\nlorascope = { path = \"/x\" }\n\n[features]\n";
        assert_eq!(dependencies(manifest), ["lorascope = { path = \"/x\" }", "rand = \"0.9\""]);
        assert!(is_lorascope("lorascope = { path = \"/x\" }") && !is_lorascope("lorascope-x = \"1\""));
    }

    #[test]
    fn an_error_in_a_generated_line_is_found() {
        let said = r#"{"level":"error","spans":[{"line_start":7}]}"#.to_string()
            + "\n"
            + r#"{"level":"warning","spans":[{"line_start":9}]}"#;
        let compiled = Compiled { succeeded: false, library: PathBuf::new(), said, check: false };
        assert!(compiled.names_line(7) && !compiled.names_line(9) && !compiled.names_line(8));
    }
}
