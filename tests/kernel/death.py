"""When the process of the cells dies, the reply says how, where, what was lost, and how to go on."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from cells import MODEL, RUN, Gate
from session import Cell, Kernel
from stop import resume

SEGFAULT = "let wrong = std::hint::black_box(8usize) as *mut u8;\nunsafe { wrong.write_volatile(1) };"
STACK = "fn deep(n: u64) -> u64 { let held = std::hint::black_box([n; 512]); deep(n + 1) + held[3] }\ndeep(0)"


def number(cell: Cell) -> int:
    assert cell.reply
    return int(cell.reply["content"]["execution_count"])


def child(kernel: Kernel) -> psutil.Process:
    """The process that holds the variables: the one that has loaded the cells."""
    own = kernel.process().pid
    holders = [p for p in kernel.tree() if p.pid != own and any("libcode" in m.path for m in p.memory_maps())]
    assert len(holders) == 1, holders
    return holders[0]


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("std::process::abort()", "SIGABRT"),
        (SEGFAULT, "SIGSEGV"),
        (STACK, "SIGSEGV"),
        ("std::process::exit(3)", "3"),
    ],
    ids=["abort", "segfault", "stack", "exit"],
)
def test_a_death_is_told(fresh: Kernel, code: str, word: str) -> None:
    fresh.ok("let my_list = vec![1, 2, 3];")
    cell = fresh.fails(code)
    told(fresh, cell, word)
    assert cell.stream("stderr").count("\n") < 5, f"a backtrace of the kernel's own:\n{cell.text()}"


def told(kernel: Kernel, cell: Cell, word: str) -> None:
    """The reply says all, and the next cell runs in a new process, with the prelude."""
    assert word in cell.error, cell.error
    assert f"cell {number(cell)}" in cell.error or f"[{number(cell)}]" in cell.error, f"which cell?\n{cell.error}"
    assert "my_list" in cell.error, f"it does not say what was lost:\n{cell.error}"
    gone = kernel.fails('println!("{:?}", my_list)')
    assert "my_list" in gone.error, gone.error
    assert kernel.ok('Text::new("the prelude is there")').shown()


def test_a_kill_from_outside_is_told(fresh: Kernel, tmp_path: os.PathLike[str]) -> None:
    """As the system does it that has no memory left."""
    fresh.ok("let my_list = vec![1, 2, 3];")
    gate = Gate(fresh.folder)
    cell = fresh.send(f'println!("begun");\n{gate.wait}')
    fresh.until("it has begun", lambda: cell.stdout)
    child(fresh).send_signal(signal.SIGKILL)
    fresh.finish(cell)
    assert cell.status == "error", cell.text()
    assert "memory" in cell.error.lower(), f"it does not say what usually kills so:\n{cell.error}"
    told(fresh, cell, "SIGKILL")


@pytest.mark.parametrize(
    ("code", "word"), [("std::process::abort()", "SIGABRT"), (SEGFAULT, "SIGSEGV")], ids=["abort", "segfault"]
)
def test_a_death_between_two_cells_is_told(fresh: Kernel, code: str, word: str) -> None:
    fresh.ok("let my_list = vec![1, 2, 3];")
    gate = Gate(fresh.folder)
    fresh.ok(f"std::thread::spawn(|| {{ {gate.wait}\n{code} }});")
    process = child(fresh)
    gate.open()
    ended = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    fresh.until("its end", lambda: not process.is_running() or process.status() in ended)
    cell = fresh.run('println!("{:?}", my_list)')
    assert cell.status == "error", cell.text()
    assert word in cell.error, cell.error
    assert fresh.ok("1 + 1").shown() == ["2"]


def test_a_run_is_resumed_from_its_last_snapshot(fresh: Kernel) -> None:
    fresh.ok(MODEL)
    fresh.ok(RUN)
    fresh.ok("run.steps(4)?;")
    resume(fresh, fresh.fails("std::process::abort()"), 4)


def test_queued_cells_are_aborted_by_a_death(fresh: Kernel) -> None:
    cells = [fresh.send("std::process::abort()"), fresh.send('println!("queued")')]
    for cell in cells:
        fresh.finish(cell)
    assert cells[0].status == "error"
    assert cells[1].status in ("aborted", "error") and cells[1].stdout == "", cells[1].text()
