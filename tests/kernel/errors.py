"""What fails is an error reply, so that Run All stops; the text says what a person needs and no more."""

from __future__ import annotations

import pytest
from session import Cell, Kernel

QUESTION_MARK = 'Err::<(), _>(std::io::Error::other("no such luck"))?;'
PANIC = "let none: Vec<u32> = Vec::new(); none[3]"
COMPILE = 'let number: u32 = "three";'
# Words of what evcxr writes around a cell.
WRAPPER = ["evcxr_variable_store", "__evcxr", "run_user_code", "evcxr_internal", "catch_unwind", "code_1", "ctx/src"]


def no_machinery(cell: Cell) -> None:
    """Nothing of evcxr's wrapper and no backtrace."""
    said = cell.text()
    for word in [*WRAPPER, "stack backtrace", "RUST_BACKTRACE"]:
        assert word not in said, f"{word!r} in:\n{said}"


@pytest.mark.parametrize(
    ("code", "text"),
    [(QUESTION_MARK, "no such luck"), (PANIC, "index out of bounds"), (COMPILE, "mismatched types")],
    ids=["question-mark", "panic", "compile"],
)
def test_a_failing_cell_is_an_error_reply(kernel: Kernel, code: str, text: str) -> None:
    cell = kernel.fails(code)
    assert cell.reply
    content = cell.reply["content"]
    assert content["ename"] and content["evalue"] and content["traceback"], content
    assert text in cell.error, cell.error
    assert not cell.stream("stderr"), f"said twice:\n{cell.text()}"
    no_machinery(cell)
    assert kernel.prints('println!("{}", 1 + 1)') == "2"


@pytest.mark.parametrize("code", [QUESTION_MARK, PANIC, COMPILE], ids=["question-mark", "panic", "compile"])
def test_queued_cells_are_aborted(kernel: Kernel, code: str) -> None:
    cells = [kernel.send(code), *(kernel.send(f'println!("queued {n}")') for n in range(3))]
    for cell in cells:
        kernel.finish(cell)
    assert cells[0].status == "error"
    for cell in cells[1:]:
        assert cell.status in ("aborted", "error"), f"{cell.status}: {cell.text()}"
        assert cell.stdout == "", f"it was executed after a failure: {cell.text()}"
    assert kernel.prints('println!("the next one runs")') == "the next one runs"


def test_queued_cells_run_where_a_client_asks_for_it(kernel: Kernel) -> None:
    cells = [kernel.send(QUESTION_MARK, stop_on_error=False), kernel.send('println!("queued")')]
    for cell in cells:
        kernel.finish(cell)
    assert [cell.status for cell in cells] == ["error", "ok"]
    assert cells[1].stdout == "queued\n"


def test_what_was_printed_before_the_error_stands_before_it(kernel: Kernel) -> None:
    cell = kernel.fails('println!("line 1"); eprintln!("line 2"); ' + QUESTION_MARK)
    kinds = [m["msg_type"] for m in cell.of("stream", "error")]
    assert kinds[-1] == "error" and kinds.count("error") == 1, kinds
    assert cell.stdout == "line 1\n" and "line 2" in cell.stream("stderr"), cell.text()


def test_a_last_result_without_question_mark_shows_its_value(kernel: Kernel) -> None:
    cell = kernel.ok('"12".parse::<u32>()')
    assert [text.strip() for text in cell.shown()] == ["12"], cell.text()


def test_a_last_result_without_question_mark_shows_its_error(kernel: Kernel) -> None:
    cell = kernel.run('"a dozen".parse::<u32>()')
    said = cell.text()
    assert "invalid digit found in string" in said, said
    assert "ParseIntError {" not in said, said


def test_an_error_of_ours_says_the_way_out(kernel: Kernel) -> None:
    cell = kernel.fails('let model = Model::open("nowhere")?;')
    assert "nowhere" in cell.error, cell.error
    assert "Error {" not in cell.error, f"Debug text:\n{cell.error}"
    no_machinery(cell)


def test_a_compile_error_shows_its_place_and_the_suggestion(kernel: Kernel) -> None:
    cell = kernel.fails("let list = vec![1, 2, 3];\nlet long = list.lenn();")
    shown = cell.error
    assert "list.lenn()" in shown, shown
    assert any(mark in shown for mark in ("^^^^", "────", "┬", "~~~~")), f"no mark under the place:\n{shown}"
    assert "similar name" in shown and "`len`" in shown, f"no suggestion:\n{shown}"
    assert "vec![1, 2, 3]" not in shown.split("lenn", maxsplit=1)[0] or "2" in shown, shown
    no_machinery(cell)


def test_each_of_two_compile_errors_is_shown(kernel: Kernel) -> None:
    cell = kernel.fails('let one: u32 = "one";\nlet two: bool = 2;')
    assert '"one"' in cell.error and "bool" in cell.error, cell.error
    no_machinery(cell)


def test_a_panic_says_its_line_in_the_cell(kernel: Kernel) -> None:
    cell = kernel.fails('let one = 1;\nlet two = 2;\npanic!("one is {one}, two is {two}");')
    assert "one is 1, two is 2" in cell.error, cell.error
    assert "src/lib.rs" not in cell.error, f"a file of evcxr's:\n{cell.error}"
    no_machinery(cell)


def test_a_panic_in_a_thread_of_the_user_does_not_end_the_kernel(kernel: Kernel) -> None:
    kernel.ok('let thread = std::thread::spawn(|| { if true { panic!("in a thread") } 3 });\nthread.join().is_err()')
    assert kernel.prints('println!("still here")') == "still here"
