"""Kernels side by side, their processes, and what a client asks beside the execution of cells."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cells import MODEL, RUN, SLEEP
from session import Kernel, marked

# How evcxr's own crate `evcxr_input` asks for a line.
ASK = (
    'println!("EVCXR_INPUT_REQUEST:How many geese? ");\nlet mut line = String::new();\n'
    'std::io::stdin().read_line(&mut line)?;\nprintln!("{} geese", line.trim());'
)


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.close()


def none_left(mark: str) -> None:
    """Waits for the processes of a kernel to end."""
    _, alive = psutil.wait_procs(marked(mark), timeout=10)
    left = [(process.pid, process.cmdline()) for process in marked(mark)]
    assert not left, f"{len(left)} processes are left: {left}"


def test_two_kernels_do_not_disturb_each_other(kernel: Kernel, second: Kernel) -> None:
    for n, each in enumerate([kernel, second]):
        each.ok(f"let mine = {n};")
    cells = [each.send('println!("{}", mine);') for each in (kernel, second) for _ in range(3)]
    for n, cell in enumerate(cells):
        (kernel, second)[n // 3].finish(cell)
    assert [cell.stdout for cell in cells] == ["0\n"] * 3 + ["1\n"] * 3
    second.fails("std::process::abort();")
    assert kernel.prints('println!("{}", mine)') == "0"
    assert len(set(kernel.tree()) & set(second.tree())) == 0


def test_shutdown_leaves_no_process(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.ok("let list = vec![1, 2, 3];")
    assert len(kernel.tree()) >= 2, "the processes of a kernel are not found"
    kernel.close()
    none_left(kernel.mark)


def test_shutdown_in_the_middle_of_a_cell_leaves_no_process(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    cell = kernel.send(f'println!("begun");\nloop {{ {SLEEP} }}')
    kernel.until("it has begun", lambda: cell.stdout)
    kernel.close()
    none_left(kernel.mark)


@pytest.mark.parametrize("end", ["shutdown", "restart"])
def test_the_end_of_a_kernel_pauses_runs_in_the_background(fresh: Kernel, end: str) -> None:
    fresh.ok(MODEL)
    fresh.ok(RUN)
    fresh.ok("run.start(5000)?;")
    folder = fresh.folder / "runs/tiny"
    history = folder / "history.jsonl"
    fresh.until("some steps", lambda: history.exists() and len(history.read_text().splitlines()) >= 5)
    fresh.close() if end == "shutdown" else fresh.restart()
    steps = len(history.read_text().splitlines())
    assert (folder / f"step-{steps:06}").is_dir(), f"{steps} steps, {sorted(p.name for p in folder.iterdir())}"


def test_a_killed_kernel_leaves_no_process(tmp_path: Path) -> None:
    """As it is when a machine's memory is gone: the process of the cells does not go on training alone."""
    kernel = Kernel(tmp_path)
    kernel.ok("let list = vec![1, 2, 3];")
    kernel.process().send_signal(signal.SIGKILL)
    none_left(kernel.mark)
    kernel.close()


def test_restart_begins_anew_and_leaves_no_process(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)
    kernel.ok("let list = vec![1, 2, 3];")
    before = {process.pid for process in kernel.tree()}
    kernel.restart()
    assert "list" in kernel.fails('println!("{:?}", list)').error
    assert kernel.ok('Text::new("the prelude is there")').shown()
    left = before & {process.pid for process in kernel.tree()}
    assert not left, f"processes of before: {left}"
    assert kernel.ok("1 + 1").reply["content"]["execution_count"] <= 4  # type: ignore[index]
    kernel.close()
    none_left(kernel.mark)


def test_clear_pauses_runs_and_begins_anew(fresh: Kernel) -> None:
    fresh.ok(MODEL)
    fresh.ok(RUN)
    fresh.ok("run.start(5000)?;")
    history = fresh.folder / "runs/tiny/history.jsonl"
    fresh.until("some steps", lambda: history.exists() and len(history.read_text().splitlines()) >= 5)
    said = fresh.ok(":clear").text()
    assert "goes on from its last snapshot" in said and "Run::open" in said, said
    steps = len(history.read_text().splitlines())
    assert (fresh.folder / f"runs/tiny/step-{steps:06}").is_dir(), f"{steps} steps"
    assert "run" in fresh.fails("run.status()").error
    # lorascope and the order of the outputs are there as before.
    fresh.ok(MODEL)
    assert fresh.prints('println!("a");\nshow(&Text::new("b"));\nprintln!("c")') == "a\nc"
    fresh.ok(RUN.replace('"tiny"', '"again"'))
    fresh.ok("run.start(5000)?;")
    both = fresh.ok(':restart // now\nlet left = 1;\nprintln!("{left}")').stdout
    assert "Run::open" in both and both.endswith("1\n"), both
    fresh.fails("model")


def test_a_line_of_a_cell_that_prints_an_error_is_the_cells(kernel: Kernel) -> None:
    kernel.ok("let told = 1;")
    code = 'let told = 2;\nif let Err(error) = std::fs::read("nowhere") {\neprintln!("{}", error);\n}'
    assert "No such file" in kernel.ok(code).stream("stderr")
    assert kernel.prints('println!("{told}")') == "2"


@pytest.mark.parametrize("new", ["Pair(u32)", "Pair(u32, String)"])
def test_a_variable_whose_type_is_declared_anew_is_said_to_be_lost(kernel: Kernel, new: str) -> None:
    kernel.ok("struct Pair(u32, u32);\nlet pair = Pair(1, 2);\nlet beside = 3;")
    cell = kernel.run(f"struct {new};\nlet length = 1;")
    assert "pair was redefined, so was lost" in cell.text(), cell.text()
    assert kernel.prints('println!("{beside}")') == "3"


def test_a_cell_asks_for_a_line(kernel: Kernel) -> None:
    cell = kernel.send(ASK, allow_stdin=True)
    asked: list[str] = []

    def answered() -> bool:
        if kernel.client.stdin_channel.msg_ready():
            asked.append(kernel.client.get_stdin_msg(timeout=1)["content"]["prompt"])
            kernel.client.input("12")
        return bool(asked)

    kernel.until("the question", answered)
    kernel.finish(cell)
    assert cell.status == "ok" and "12 geese" in cell.stdout, cell.text()
    assert [prompt.strip() for prompt in asked] == ["How many geese?"]


def test_a_cell_that_may_not_ask_does_not_hang(kernel: Kernel) -> None:
    kernel.finish(kernel.send(ASK, allow_stdin=False), 60)
    assert kernel.prints('println!("{}", 1 + 1)') == "2"


def test_an_unknown_comm_is_closed(kernel: Kernel) -> None:
    message = kernel.client.session.msg("comm_open", {"comm_id": "c1", "target_name": "no.such", "data": {}})
    kernel.client.shell_channel.send(message)

    def closed() -> bool:
        return any(
            m["msg_type"] == "comm_close" and m["content"]["comm_id"] == "c1" for m in kernel.messages
        )

    kernel.until("an answer", closed)
    assert kernel.prints('println!("{}", 1 + 1)') == "2"


def test_a_silent_cell_says_nothing_and_counts_not(kernel: Kernel) -> None:
    count = kernel.ok("();").reply["content"]["execution_count"]  # type: ignore[index]
    silent = kernel.finish(kernel.send('println!("x");', silent=True, store_history=False))
    assert silent.status == "ok" and not silent.of("execute_input"), silent.messages
    assert kernel.ok("();").reply["content"]["execution_count"] == count + 1  # type: ignore[index]


def test_user_expressions_are_answered(kernel: Kernel) -> None:
    cell = kernel.finish(kernel.send("let seven = 7;", user_expressions={"x": "seven"}))
    assert cell.status == "ok", cell.text()
    assert cell.reply and "user_expressions" in cell.reply["content"]


def test_history_remembers_the_cells(kernel: Kernel) -> None:
    codes = [f"let remembered_{n} = {n};" for n in range(3)]
    for code in codes:
        kernel.ok(code)
    kernel.client.history(hist_access_type="tail", n=3, raw=True)
    replies = lambda: [m for m in kernel.messages if m["msg_type"] == "history_reply"]  # noqa: E731
    kernel.until("the history", replies)
    assert [line[2] for line in replies()[-1]["content"]["history"]] == codes
