//! A peer in a process of its own that works once for each line it is given: ours and theirs take turns.

use lorascope::error::{Error, Result};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

pub struct Peer(Child, BufReader<ChildStdout>);

impl Peer {
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_owned();
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|e| Error::io(name, e))?;
        let out = child.stdout.take().ok_or_else(|| Error::state("no output of the peer"))?;
        Ok(Self(child, BufReader::new(out)))
    }

    /// One turn: the JSON that the peer answers with.
    pub fn turn<T: serde::de::DeserializeOwned>(&mut self) -> Result<T> {
        let input = self.0.stdin.as_mut().ok_or_else(|| Error::state("no input of the peer"))?;
        writeln!(input, "go").map_err(|e| Error::io("peer", e))?;
        let mut line = String::new();
        self.1.read_line(&mut line).map_err(|e| Error::io("peer", e))?;
        serde_json::from_str(&line).map_err(|e| Error::format(format!("the peer said {line:?}: {e}")))
    }
}
