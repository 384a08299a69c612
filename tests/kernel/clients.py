"""The programs that people execute notebooks with: jupyter console, nbclient, papermill."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pexpect
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from session import ANSI, FIRST_CELL, NAME, START

SOURCES = [
    "let list = vec![1, 2, 3];",
    'println!("{} numbers", list.len());',
    "list.iter().sum::<i32>() * 7",
    'lorascope::polars::df!("rank" => [4, 8])?',
]
FAILING = 'Err::<(), _>(std::io::Error::other("no such luck"))?;'


def notebook(sources: list[str]) -> NotebookNode:
    made = nbformat.v4.new_notebook()
    made.metadata["kernelspec"] = {"name": NAME, "display_name": NAME, "language": "rust"}
    first = [FIRST_CELL] if FIRST_CELL else []
    made.cells = [nbformat.v4.new_code_cell(source) for source in [*first, *sources]]
    return made


def cells(executed: NotebookNode) -> list[NotebookNode]:
    return list(executed.cells[1:] if FIRST_CELL else executed.cells)


def right(executed: NotebookNode) -> None:
    """The four cells have printed and shown what they should."""
    last = cells(executed)[-4:]
    assert [len(cell.outputs) for cell in last] == [0, 1, 1, 1], [cell.outputs for cell in last]
    assert last[1].outputs[0].text == "3 numbers\n"
    assert last[2].outputs[0].data["text/plain"] == "42"
    assert "<table" in last[3].outputs[0].data["text/html"]


def test_nbclient_executes_a_notebook(folder: Path) -> None:
    made = notebook(SOURCES)
    NotebookClient(made, timeout=600, startup_timeout=int(START), resources={"metadata": {"path": folder}}).execute()
    right(made)
    counts = [cell.execution_count for cell in made.cells]
    assert counts == list(range(1, len(counts) + 1)), f"prompt numbers: {counts}"


@pytest.mark.parametrize(
    "failing", [FAILING, "let none: Vec<u32> = Vec::new(); none[3]", "let x: u32 = true;"],
    ids=["question-mark", "panic", "compile"],
)
def test_nbclient_fails_where_a_cell_fails(folder: Path, failing: str) -> None:
    made = notebook([failing, 'println!("behind it");'])
    client = NotebookClient(made, timeout=600, startup_timeout=int(START), resources={"metadata": {"path": folder}})
    with pytest.raises(CellExecutionError):
        client.execute()
    failed, behind = cells(made)
    assert failed.outputs[-1].output_type == "error" and not behind.outputs


def papermill(folder: Path, sources: list[str]) -> tuple[subprocess.CompletedProcess[str], NotebookNode]:
    given, written = folder / "given.ipynb", folder / "written.ipynb"
    nbformat.write(notebook(sources), given)
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--cwd", str(folder), str(given), str(written)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    return done, nbformat.read(written, as_version=4)


def test_papermill_executes_a_notebook(folder: Path) -> None:
    done, executed = papermill(folder, SOURCES)
    assert done.returncode == 0, done.stderr
    right(executed)


def test_papermill_fails_where_a_cell_fails(folder: Path) -> None:
    done, executed = papermill(folder, [FAILING, 'println!("behind it");'])
    assert done.returncode != 0 and "no such luck" in done.stderr, done.stderr
    assert not executed.cells[-1].outputs


def test_the_console_executes_lines(folder: Path) -> None:
    console = pexpect.spawn(
        sys.executable,
        ["-m", "jupyter_console", "--kernel", NAME, f"--ZMQTerminalInteractiveShell.kernel_timeout={START:.0f}",
         "--simple-prompt", "--no-confirm-exit"],
        cwd=str(folder), encoding="utf-8", timeout=START, dimensions=(50, 200), env=None,
    )
    try:
        console.expect(r"In \[1\]:")
        for number, (line, answer) in enumerate(
            [*([(FIRST_CELL.replace("\n", " "), "")] if FIRST_CELL else []),
             ('println!("{} numbers", 3);', "3 numbers"), ("6 * 7", r"Out\[\d+\]: 42"), (FAILING, "no such luck")],
            start=2,
        ):
            console.sendline(line)
            console.expect(rf"In \[{number}\]:")
            said = ANSI.sub("", str(console.before))
            assert re.search(answer, said.split(line)[-1]), f"{answer!r} is not in:\n{said}"
        console.sendeof()
        console.expect(pexpect.EOF, timeout=60)
    finally:
        console.close(force=True)
