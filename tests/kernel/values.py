"""Variables outlive the cell that fails, also those that it declared anew or moved."""

from __future__ import annotations

import pytest
from session import Kernel

# How a cell ends too early: an expression of any type.
BY_QUESTION_MARK = 'Err(std::io::Error::other("too early"))?'
BY_PANIC = 'panic!("too early")'
ENDS = pytest.mark.parametrize("end", [BY_QUESTION_MARK, BY_PANIC], ids=["question-mark", "panic"])

COUNT = iter(range(1000))


def name() -> str:
    """A variable that no other test has."""
    return f"value_{next(COUNT)}"


def breaks(kernel: Kernel, code: str, said: str = "too early") -> None:
    """Executes a cell that fails; errors.py says what its reply must be."""
    cell = kernel.run(code)
    assert said in cell.text(), f"it was to fail:\n{cell.text()}"


@ENDS
def test_a_value_that_is_declared_anew_keeps_its_old_value(kernel: Kernel, end: str) -> None:
    v = name()
    kernel.ok(f"let {v} = vec![1, 2, 3];")
    breaks(kernel, f"let {v}: Vec<i32> = {end};")
    assert kernel.prints(f'println!("{{:?}}", {v})') == "[1, 2, 3]"


@ENDS
def test_a_value_that_is_declared_anew_with_another_type_keeps_its_old_type(kernel: Kernel, end: str) -> None:
    v = name()
    kernel.ok(f"let {v} = vec![1, 2, 3];")
    breaks(kernel, f"let {v}: String = {end};")
    assert kernel.prints(f'println!("{{:?}}", {v})') == "[1, 2, 3]"


@ENDS
def test_a_value_without_clone_that_is_declared_anew_keeps_its_old_value(kernel: Kernel, end: str) -> None:
    v = name()
    kernel.ok(f"struct Token_{v}(u32);\nlet {v} = Token_{v}(7);")
    breaks(kernel, f"let {v}: Token_{v} = {end};")
    assert kernel.prints(f'println!("{{}}", {v}.0)') == "7"


@ENDS
def test_a_moved_value_comes_back(kernel: Kernel, end: str) -> None:
    v = name()
    kernel.ok(f'let {v} = vec!["a".to_string(), "b".to_string()];')
    breaks(kernel, f"let moved_{v} = {v};\nlet never_{v}: u32 = {end};")
    assert kernel.prints(f'println!("{{:?}}", {v})') == '["a", "b"]'


@ENDS
def test_a_value_that_is_dropped_comes_back(kernel: Kernel, end: str) -> None:
    v = name()
    kernel.ok(f'let {v} = "long enough to lie on the heap".to_string();')
    breaks(kernel, f"drop({v});\nlet never_{v}: u32 = {end};")
    assert kernel.prints(f'println!("{{}}", {v})') == "long enough to lie on the heap"


@ENDS
def test_values_that_the_cell_does_not_name_stay(kernel: Kernel, end: str) -> None:
    v = name()
    kernel.ok(f"let {v} = vec![0.5, 1.5];")
    breaks(kernel, f"let other_{v}: u32 = {end};")
    assert kernel.prints(f'println!("{{:?}}", {v})') == "[0.5, 1.5]"


def test_a_value_that_the_compiler_refuses_to_replace_stays(kernel: Kernel) -> None:
    v = name()
    kernel.ok(f"let {v} = vec![1, 2, 3];")
    breaks(kernel, f"let moved_{v} = {v};\nlet {v}: u32 = true;", "mismatched types")
    assert kernel.prints(f'println!("{{:?}}", {v})') == "[1, 2, 3]"


def test_a_change_in_place_before_the_end_is_kept(kernel: Kernel) -> None:
    """A cell is no transaction: a value that is neither moved nor declared anew is the one that the cell had."""
    v = name()
    kernel.ok(f"let mut {v} = vec![1];")
    breaks(kernel, f"{v}.push(2);\nlet never_{v}: u32 = {BY_QUESTION_MARK};")
    assert kernel.prints(f'println!("{{:?}}", {v})') == "[1, 2]"


def test_a_model_outlives_a_failed_opening(kernel: Kernel) -> None:
    kernel.ok('let model = Model::open("model")?;')
    breaks(kernel, 'let model = Model::open("nowhere")?;', "nowhere")
    assert kernel.prints('println!("{}", model.config().layers)') == "4"


def test_two_frames_outlive_a_failed_join(kernel: Kernel) -> None:
    kernel.ok(
        "use lorascope::polars::prelude::*;\n"
        'let left = df!("key" => [1, 2], "x" => [3, 4])?;\nlet right = df!("key" => [1, 2], "y" => [5, 6])?;'
    )
    join = '.join(right.lazy(), [col("key")], [col("no_such_key")], JoinArgs::new(JoinType::Inner))'
    breaks(kernel, f"let joined = left.lazy(){join}.collect()?;", "no_such_key")
    assert kernel.prints('println!("{:?} {:?}", left.shape(), right.shape())') == "(2, 2) (2, 2)"


def test_many_failures_in_a_row_lose_nothing(kernel: Kernel) -> None:
    v = name()
    kernel.ok(f"let {v} = vec![9; 4];")
    for end in [BY_QUESTION_MARK, BY_PANIC] * 3:
        breaks(kernel, f"let {v}: Vec<i32> = {v}.into_iter().map(|x| x + 1).collect();\nlet never: u32 = {end};")
    assert kernel.prints(f'println!("{{:?}}", {v})') == "[9, 9, 9, 9]"


def test_a_value_of_the_failed_cell_is_not_half_there(kernel: Kernel) -> None:
    """The name is unknown, or it has the value that the cell gave it: nothing in between."""
    v = name()
    breaks(kernel, f"let {v} = vec![1, 2];\nlet never_{v}: u32 = {BY_QUESTION_MARK};")
    cell = kernel.run(f'println!("{{:?}}", {v})')
    assert cell.status == "error" or cell.stdout == "[1, 2]\n", cell.text()
    assert cell.status == "ok" or "cannot find value" in cell.error, cell.error
