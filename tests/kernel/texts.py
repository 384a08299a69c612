"""What the kernel says beside the cells' own output: variables, typos, dependencies."""

from __future__ import annotations

import html
import re

import pytest
from session import Kernel


def test_variables_are_a_table(kernel: Kernel) -> None:
    kernel.ok("let lengths = vec![3u64, 4];\nlet pairs: Vec<(String, f32)> = Vec::new();")
    cell = kernel.ok(":vars")
    shown = cell.shown("text/html")
    assert len(shown) == 1 and "<table" in shown[0], cell.text()
    cells = [html.unescape(re.sub("<[^>]*>", "", text)) for text in re.findall(r"<td[^>]*>(.*?)</td>", shown[0], re.S)]
    for name, type_ in [("lengths", "Vec<u64>"), ("pairs", "Vec<(String, f32)>")]:
        assert name in cells, cells
        after = cells[cells.index(name) + 1]
        assert after.replace("std::string::", "").replace("alloc::string::", "") == type_, (name, after)
    assert shown[0].count("<tr") == shown[0].count("</tr>"), "rows that do not end"
    assert "lengths" in cell.shown()[0], "no plain text"


def test_a_typo_in_a_let_is_answered(kernel: Kernel) -> None:
    """The stock kernel checks every dependency anew in such a cell, once for each kernel: minutes."""
    for typo in ("let total = vec![1, 2].lenn();", "let total = Datasett::open(1);", "let total = no_such_name + 1;"):
        cell = kernel.fails(typo, timeout=45)
        assert "total" in cell.error or "let" in cell.error, cell.error


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        (':dep candle-core = "0.9"', "lorascope::candle_core"),
        (':dep candle-nn = "0.9"', "lorascope::candle_nn"),
        (':dep polars = "0.50"', "lorascope::polars"),
        (':dep polars = { version = "0.50", features = ["lazy"] }', "lorascope::polars"),
        (':dep plotters = { version = "0.3", features = ["evcxr"] }', "lorascope::plotters"),
    ],
)
def test_a_second_copy_of_what_we_export_is_answered_with_ours(kernel: Kernel, line: str, instead: str) -> None:
    kernel.ok("let held_over_dep = 4;")
    cell = kernel.fails(f"{line}\n1 + 1")
    assert instead in cell.error, cell.error
    assert kernel.prints('println!("{}", held_over_dep)') == "4"


def test_a_dependency_of_the_user_works(kernel: Kernel) -> None:
    """One that is in our own graph, so that nothing is downloaded."""
    kernel.ok("let held_over_own_dep = vec![1, 2];")
    kernel.ok(':dep itoa = "1"', timeout=600)
    assert kernel.prints('println!("{}", itoa::Buffer::new().format(123))') == "123"
    assert kernel.prints('println!("{:?}", held_over_own_dep)') == "[1, 2]"


def test_the_prelude_needs_no_dep(kernel: Kernel) -> None:
    cell = kernel.ok('Dataset::open("rows.jsonl")?')
    assert "<table" in cell.shown("text/html")[0]
    assert "geese" in cell.shown()[0]


def test_a_dep_of_lorascope_itself_does_no_harm(kernel: Kernel) -> None:
    """The notebooks begin with it, because the stock kernel needs it."""
    kernel.ok("let held_over_ours = 6;")
    kernel.ok(':dep lorascope = { path = ".." }\nuse lorascope::prelude::*;', timeout=600)
    assert kernel.prints('println!("{}", held_over_ours)') == "6"


def test_an_unknown_command_is_an_error(kernel: Kernel) -> None:
    cell = kernel.fails(":no_such_command")
    assert "no_such_command" in cell.error, cell.error
