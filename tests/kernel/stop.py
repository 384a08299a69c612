"""The stop button pauses what listens to it, and says what it does where nothing listens."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest
from cells import MODEL, RUN, SLEEP, STEP, Gate
from session import Cell, Kernel, Silence

# Someone has pressed the button and waits.
PATIENCE = 30.0


def paused_at(cell: Cell) -> int:
    """The step that a stopped cell says."""
    found = re.search(r"paused at step (\d+)", cell.error)
    assert found, f"it does not say where it paused:\n{cell.text()}"
    return int(found.group(1))


def train(kernel: Kernel, code: str) -> Cell:
    """Starts to train in a cell, and comes back when the first steps are done."""
    kernel.ok(MODEL)
    kernel.ok(RUN)
    cell = kernel.send(code)
    history = kernel.folder / "runs/tiny/history.jsonl"
    kernel.until("three steps", lambda: history.exists() and len(history.read_text().splitlines()) >= 3)
    return cell


def stop(kernel: Kernel, cell: Cell) -> Cell:
    assert cell.reply is None, f"the run was too fast:\n{cell.text()}"
    kernel.interrupt()
    kernel.finish(cell, PATIENCE)
    assert cell.status == "error" and cell.of("error"), cell.text()
    return cell


@pytest.mark.parametrize("code", ["run.steps(500)?;", "run.start(500)?;\nrun.wait()?;"], ids=["steps", "wait"])
def test_stop_pauses_a_run_that_can_go_on(fresh: Kernel, code: str) -> None:
    cell = train(fresh, code)
    before = {process.pid for process in fresh.tree()}
    step = paused_at(stop(fresh, cell))
    assert 3 <= step < 500
    assert fresh.prints(STEP) == str(step), "it goes on training, or steps are lost"
    assert before == {process.pid for process in fresh.tree()}, "a process was replaced"
    assert (fresh.folder / f"runs/tiny/step-{step:06}").is_dir(), "no snapshot"
    assert "resume" in cell.error, f"it does not say how to go on:\n{cell.error}"
    fresh.ok("run.resume()?;")
    fresh.until("steps after it", lambda: int(fresh.prints(STEP)) > step)
    fresh.ok("run.pause()?;")


def test_stop_clears_itself(fresh: Kernel) -> None:
    """The request belongs to one cell: the next one trains."""
    stop(fresh, train(fresh, "run.steps(500)?;"))
    fresh.ok("run.stop()?;")
    before = int(fresh.prints(STEP))
    fresh.ok("run.steps(2)?;")
    assert int(fresh.prints(STEP)) == before + 2


def test_stop_aborts_the_cells_behind(fresh: Kernel) -> None:
    cell = train(fresh, "run.steps(500)?;")
    queued = fresh.send('println!("behind it")')
    stop(fresh, cell)
    fresh.finish(queued, PATIENCE)
    assert queued.status in ("aborted", "error") and queued.stdout == "", queued.text()


def test_stop_ends_generation(kernel: Kernel, folder: Path) -> None:
    kernel.ok(MODEL)
    kernel.ok("let kept = vec![1, 2, 3];")
    cell = kernel.send('println!("begun");\nfor _ in 0..100_000 { model.ask("How many geese?")?; }')
    kernel.until("it has begun", lambda: "begun" in cell.stdout)
    kernel.interrupt()
    kernel.finish(cell, PATIENCE)
    assert cell.status == "error", cell.text()
    assert kernel.prints('println!("{kept:?}")') == "[1, 2, 3]"


def test_stop_while_nothing_runs_does_nothing(kernel: Kernel) -> None:
    kernel.ok("let before = 5;")
    kernel.interrupt()
    assert kernel.prints('println!("{}", before)') == "5"


def test_stop_while_a_cell_is_compiled_keeps_the_variables(kernel: Kernel) -> None:
    kernel.ok("let held = 6;")
    cell = kernel.send('println!("{}", held + 1);')
    kernel.until("it is busy", lambda: cell.of("execute_input"))
    kernel.interrupt()
    kernel.finish(cell, PATIENCE)
    assert kernel.prints('println!("{}", held)') == "6"


def test_code_that_does_not_listen(fresh: Kernel) -> None:
    """The first press says that a second one ends the process; the second says which runs go on how."""
    fresh.ok(MODEL)
    fresh.ok(RUN)
    fresh.ok("run.steps(3)?;")
    fresh.ok("let list = vec![1, 2, 3];")
    cell = fresh.send(f'println!("begun");\nloop {{ {SLEEP} }}')
    fresh.until("it has begun", lambda: "begun" in cell.stdout)
    fresh.interrupt()
    fresh.until("a word on a second press", lambda: "again" in cell.text(), PATIENCE)
    assert cell.reply is None, f"one press has ended it:\n{cell.text()}"
    assert "ends the process" in cell.text(), f"it does not say what a second press does:\n{cell.text()}"
    fresh.interrupt()
    fresh.finish(cell, PATIENCE)
    assert cell.status == "error", cell.text()
    assert "list" in cell.error, f"it does not say what was lost:\n{cell.error}"
    resume(fresh, cell, 3)


def resume(kernel: Kernel, cell: Cell, step: int) -> None:
    """Executes the line that an error says resumes the run `tiny`."""
    line = re.search(r'Run::(?:open|get)\("[^"]*tiny"\)\?', cell.error)
    assert line, f"it does not say how to resume the run:\n{cell.error}"
    assert kernel.prints(f"let run = {line.group(0)};\n{STEP}") == str(step)


def test_one_press_does_not_end_code_that_does_not_listen(fresh: Kernel, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    fresh.ok("let list = vec![1, 2, 3];")
    cell = fresh.send(f'println!("begun");\n{gate.wait}\nprintln!("{{list:?}}");')
    fresh.until("it has begun", lambda: "begun" in cell.stdout)
    fresh.interrupt()
    with pytest.raises(Silence):
        fresh.finish(cell, 8)
    gate.open()
    fresh.finish(cell)
    assert cell.stdout == "begun\n[1, 2, 3]\n", cell.text()
    assert psutil.pid_exists(fresh.process().pid)
    assert fresh.prints('println!("{}", list.len())') == "3"
