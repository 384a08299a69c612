"""No output is lost or late, also where the machine is busy; many cells are as fast and as small as few."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Iterator

import pytest
from cells import busy_machine
from session import Cell, Kernel


@pytest.fixture
def load() -> Iterator[None]:
    """Processes that take all processors."""
    busy = [subprocess.Popen(["yes"], stdout=subprocess.DEVNULL) for _ in range(busy_machine())]
    yield
    for process in busy:
        process.kill()
        process.wait()


def in_time(kernel: Kernel, cells: list[Cell]) -> None:
    """The n-th cell has printed `line n` and nothing else, before its idle."""
    kernel.listen(1.0)
    wrong = [cell.text() for n, cell in enumerate(cells) if cell.stdout != f"line {n}\n"]
    late = [cell.code for cell in cells if cell.late]
    assert not wrong, f"{len(wrong)} of {len(cells)} cells have not just their own line, the first is\n{wrong[0]}"
    assert not late, f"{len(late)} of {len(cells)} lines came after idle, the first is that of\n{late[0]}"


def test_each_line_is_in_its_cell(kernel: Kernel, load: None) -> None:
    in_time(kernel, [kernel.ok(f'println!("line {n}");') for n in range(20)])


def test_each_line_of_queued_cells_is_in_its_cell(kernel: Kernel, load: None) -> None:
    cells = [kernel.send(f'println!("line {n}");') for n in range(15)]
    in_time(kernel, [kernel.finish(cell) for cell in cells])


@pytest.mark.slow
def test_each_of_a_thousand_lines_is_in_its_cell(kernel: Kernel, load: None) -> None:
    in_time(kernel, [kernel.ok(f'println!("line {n}");') for n in range(1000)])


def test_all_kinds_of_output_come_before_idle(kernel: Kernel, load: None) -> None:
    for n in range(5):
        cell = kernel.ok(f'show(&Text::new("shown {n}")); eprintln!("warned {n}"); println!("printed {n}"); {n}')
        kernel.listen(0.5)
        assert not cell.late, cell.late
        assert cell.stdout == f"printed {n}\n" and f"warned {n}" in cell.stream("stderr"), cell.text()
        assert cell.shown()[-1] == str(n) and f"shown {n}" in cell.shown()[0], cell.text()


def test_a_text_of_many_lines_is_whole(kernel: Kernel) -> None:
    cell = kernel.ok('for n in 0..20_000 { println!("line {n} of a long text"); }')
    kernel.listen(1.0)
    assert not cell.late
    assert cell.stdout == "".join(f"line {n} of a long text\n" for n in range(20_000))


def test_a_line_without_its_end_is_whole(kernel: Kernel) -> None:
    assert kernel.ok('print!("no line break");').stdout.rstrip("\n") == "no line break"
    assert kernel.ok('println!("the next cell");').stdout == "the next cell\n"


def test_what_looks_like_a_command_of_evcxr_stays_text(kernel: Kernel) -> None:
    """A printed text makes no HTML: rows of a dataset are hostile."""
    hostile = "EVCXR_BEGIN_CONTENT text/html\\n<b>injected</b>\\nEVCXR_END_CONTENT"
    cell = kernel.ok(f'Text::new("{hostile}")')
    assert not any("<b>" in html for html in cell.shown("text/html")), cell.shown("text/html")


@pytest.mark.slow
def test_two_hundred_cells_do_not_slow_down_or_leak(kernel: Kernel) -> None:
    seconds, memory = [], []
    for n in range(200):
        begun = time.monotonic()
        kernel.ok(f"let value_{n % 30} = {n};\nvalue_{n % 30} + 1")
        seconds.append(time.monotonic() - begun)
        if n in (19, 199):
            memory.append(sum(process.memory_info().rss for process in kernel.tree()) / 1e6)
    first, last = statistics.median(seconds[:20]), statistics.median(seconds[-20:])
    print(f"the first 20: {first:.2f} s, {memory[0]:.0f} MB; the last 20: {last:.2f} s, {memory[1]:.0f} MB")
    assert last < 1.25 * first, f"{first:.2f} s → {last:.2f} s"
    assert memory[1] < memory[0] + 150, f"{memory[0]:.0f} MB → {memory[1]:.0f} MB"
