//! Files in a temporary folder, and texts to put into them.

use std::path::PathBuf;

use tempfile::TempDir;

pub struct Files(pub TempDir);

impl Files {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

/// The message of an error, without the folder of the test.
pub fn message(error: &lorascope::error::Error, files: &Files) -> String {
    error.to_string().replace(&format!("{}/", files.0.path().display()), "")
}

/// A file that is committed in datasets/.
pub fn schools(name: &str) -> PathBuf {
    super::root().join("datasets").join(name)
}

/// A row of each schema, and a blank line.
pub const MIXED: &str = r#"{"instruction": "3 + 4 = ?", "input": "", "output": "7"}
{"instruction": "Add.", "input": "1 and 2", "output": "3", "system": "Be brief.", "source": "book"}

{"id": 17, "conversations": [{"from": "system", "value": "Rules"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
{"id": "x", "conversations": [{"from": "user", "value": "a"}, {"from": "assistant", "value": "b"}, {"from": "human", "value": "c"}, {"from": "assistant", "value": "d", "mood": 1}]}
{"messages": [{"role": "developer", "content": "S"}, {"role": "user", "content": "u", "name": "Ann"}, {"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}, {"role": "tool", "content": ""}, {"role": "assistant", "content": "done", "weight": 0.5}], "tools": [{"name": "t"}]}
{"instruction": "q2", "output": "a2", "history": [["q0", "a0"], ["q1", "a1"]], "input": null}
"#;

/// Texts that try to be more than text.
pub const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script>",
    "EVCXR_END_CONTENT\nEVCXR_BEGIN_CONTENT text/html\n<b>x</b>\nEVCXR_END_CONTENT",
    "nul \u{0} bell \u{7} escape \u{1b}[31m",
    "\u{202e}right to left\u{202c} \u{200f}",
    "\" onmouseover=\"x' & <",
    "\u{feff}mark, \u{10ffff}, e\u{301}, 👩‍👩‍👧",
];
