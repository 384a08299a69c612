"""The ecosystem's own suite for kernels, `jupyter_kernel_test`, with every part that evcxr can serve.

What is off, and why:
- code_page_something: a payload `page` is an answer to IPython's `name?`; `:doc` shows its text in the cell.
- code_clear_output: nothing of ours clears an output; what changes is updated (update_display_data).
- support_iopub_welcome: the XPUB socket of jupyter-zmq-client waits for each page that listens, so that one that stands
  still would keep the outputs from all others.
"""

from __future__ import annotations

from typing import Any

from jupyter_kernel_test import KernelTests

from session import FIRST_CELL, NAME, START

HELLO = 'println!("hello, world")'


class Protocol(KernelTests):
    kernel_name = NAME
    language_name = "rust"
    file_extension = ".rs"

    code_hello_world = HELLO
    code_stderr = 'eprintln!("a word to the standard error")'

    completion_samples = [
        {"text": 'let text = String::from("a"); text.to_asci', "matches": ["to_ascii_lowercase", "to_ascii_uppercase"]},
        {"text": "Dataset::op"},
        {"text": "zzzz_no_such", "matches": []},
    ]

    complete_code_samples = ["1 + 1", "let x = 3;", "fn f() -> u32 {\n    4\n}", 'println!("{}", 3)', ":vars"]
    incomplete_code_samples = ["fn f() {", "let x = (1,", 'let text = "never ended', "let v = vec![1, 2", "/* a comment"]
    invalid_code_samples = ["let x = );", "fn f() }", "(1 + 2]]"]

    code_generate_error = 'Err::<(), _>(std::io::Error::other("it was to fail"))?;'

    code_execute_result = [
        {"code": "6 * 7", "result": "42"},
        {"code": "[1, 2, 3].iter().sum::<i32>() + 1", "result": "7"},
        {"code": 'Text::new("a text of ours")', "mime": "text/html"},
        {"code": 'lorascope::polars::df!("rank" => [4, 8])?', "mime": "text/html"},
    ]
    code_display_data = [
        {"code": 'show(&Text::new("shown before the end"));', "mime": "text/html"},
        {"code": 'show(&Text::new("one")); show(&Text::new("two")); 3', "mime": "text/plain"},
    ]

    code_history_pattern = "6 * *"
    supported_history_operations = ("tail", "range", "search")

    code_inspect_sample = "Dataset::open"

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        # What is prepared once is no part of the times that the suite allows.
        cls.kc.execute_interactive(FIRST_CELL or "();", timeout=START, output_hook=lambda _: None)
        cls.kc.complete("Str")
        cls.kc.get_shell_msg(timeout=START)

    def test_inspect_of_a_variable(self) -> None:
        """Shift-Tab on a name gives its type."""
        self.flush_channels()
        self.execute_helper("let lengths = vec![3u64, 4];")
        self.flush_channels()
        self.kc.inspect("lengths", cursor_pos=3)
        reply: Any = self.get_non_kernel_info_reply(timeout=START)
        assert reply["content"]["found"], reply
        assert "Vec<u64>" in reply["content"]["data"]["text/plain"], reply

    def test_completion_of_a_variable(self) -> None:
        """A name of an earlier cell and its methods."""
        self.flush_channels()
        self.execute_helper('let sentences = vec!["one".to_string()];')
        for code, word, match in [
            ("sentenc", "sentenc", "sentences"),
            ("sentences.is_emp", "is_emp", "is_empty"),
            ("Dataset::op", "op", "open"),
        ]:
            self.kc.complete(code)
            reply: Any = self.get_non_kernel_info_reply(timeout=START)
            names = [text.split("(")[0] for text in reply["content"]["matches"]]
            assert match in names, (code, reply["content"])
            start, end = reply["content"]["cursor_start"], reply["content"]["cursor_end"]
            assert code[start:end] == word, (code, start, end)

    def test_comm_info_is_answered(self) -> None:
        self.flush_channels()
        self.kc.comm_info()
        reply: Any = self.get_non_kernel_info_reply(timeout=START)
        assert reply["header"]["msg_type"] == "comm_info_reply", reply
        assert reply["content"] == {"status": "ok", "comms": {}}, reply


# The suite's own class would run against ipykernel.
del KernelTests
