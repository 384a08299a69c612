"""Proof that the comparison can fail: damaged rows are found, and a line covers only what it speaks of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import readers
from meaning import Way, read
from rows import ROWS
from said import Said


def change(row: dict, path: tuple, value: Any) -> dict:
    """The row with something else at a place; `...` takes the key away."""
    made = copy.deepcopy(row)
    place = made
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return made


DAMAGES: list[tuple[str, str, tuple, Any]] = [
    ("openai", "o-plain", ("messages", 1, "content"), "小明有3个苹果,又买了5个?"),
    ("openai", "o-plain", ("messages", 4), ...),
    ("openai", "o-plain", ("messages", 0), ...),
    ("openai", "o-parallel", ("messages", 1, "content"), ""),
    ("openai", "o-parallel", ("messages", 2, "tool_call_id"), "aaaaaaaa1"),
    ("openai", "o-parallel", ("messages", 2, "tool_call_id"), ...),
    ("openai", "o-parallel", ("messages", 1, "tool_calls", 1), ...),
    ("openai", "o-parallel", ("messages", 1, "tool_calls", 0, "id"), ...),
    ("openai", "o-parallel", ("messages", 1, "tool_calls", 0, "function", "arguments"), "{\"town\": \"Zurich\"}"),
    ("openai", "o-parallel", ("tools", 1), ...),
    ("openai", "o-beside", ("messages", 1, "content"), None),
    ("openai", "o-reasoning", ("messages", 1, "reasoning_content"), ...),
    ("openai", "o-weights", ("messages", 1, "weight"), ...),
    ("openai", "o-marks", ("messages", 5, "train"), ...),
    ("openai", "o-marks", ("messages", 7, "loss_mask"), 1),
    ("openai", "o-unknown", ("meta", "source", "page"), 4),
    ("openai", "o-unknown", ("meta",), ...),
    ("openai", "o-unknown", ("nothing",), ...),
    ("openai", "o-unknown", ("n",), "3"),
    ("openai", "o-unknown", ("messages", 0, "lang"), ...),
    ("openai", "o-names", ("messages", 1, "name"), ...),
    ("alpaca", "a-input", ("input",), ""),
    ("alpaca", "a-history", ("history", 0), ...),
    ("alpaca", "a-plain", ("output",), "\"8\""),
    ("alpaca", "a-system", ("system",), ""),
    ("preference", "d-strings", ("rejected",), "None"),
    ("kto", "k-word", ("label",), True),
    ("kto", "k-zero", ("label",), ...),
    ("text", "t-plain", ("text",), "Plain text,\nof two lines ✓ 文字\n"),
]
# A line that announces something else, and the one that covers a damage.
LINES = [
    ("openai", "o-weights", ("messages", 1, "weight"), ..., "left out: names of turns, in 9 rows", "left out: weights of turns, in 1 rows"),
    ("openai", "o-unknown", ("meta",), ..., "`score` has no place in openai: 1 rows", "`score`, `meta` have no place in openai: 1 rows"),
    ("openai", "o-unknown", ("nothing",), ..., "left out: `lang` has no place in openai, in 1 row", "left out: `lang`, `nothing` have no place in openai, in 1 row"),
    ("openai", "o-unknown", ("n",), "3", "`nothing` is null: 1 rows", "numbers are read as texts, in 1 rows"),
]
# How many rows were left out, as it may be said.
GONE = [
    ("left out: 2 rows that the schema cannot hold\n  line 3: alpaca holds pairs, and row x has 4 rows", 2),
    ("left out: 1 row whose answer is labelled as a bad one (line 2)\nrejected: 3 records", 4),
    ("9 rows, 1 kB, written to /tmp/left out.jsonl\nleft out: weights, in 5 rows", 0),
]
# What LLaMA-Factory and TRL do not read.
UNREAD = [
    ("sharegpt", "s-call", ("conversations", 1, "value"), "area(3)"),
    ("sharegpt", "s-call", ("conversations", 2), ...),
    ("sharegpt", "s-calls", ("tools",), [{"name": "area"}]),
    ("sharegpt", "s-plain", ("conversations", 0, "from"), "person"),
    ("openai", "o-parallel", ("messages", 1, "tool_calls", 0, "type"), ...),
    ("openai", "o-plain", ("messages", 1, "content"), None),
    ("openai", "o-parallel", ("tools",), "[]"),
    ("kto", "k-good", ("label",), "true"),
    ("alpaca", "a-plain", ("output",), ["8"]),
    ("preference", "d-strings", ("rejected",), None),
]


def self_test(compare: Callable) -> None:
    """Raises where a damage is not found."""

    def wrong(schema: str, id: str, path: tuple, value: Any, line: str = "") -> list[str]:
        row = next(row for row in ROWS[schema] if row["id"] == id)
        return compare({id: read(row)}, {id: read(change(row, path, value))}, Said(line), schema, Way.SAME)

    for schema, rows in ROWS.items():
        same = {row["id"]: read(row) for row in rows}
        assert not compare(same, same, Said(""), schema, Way.SAME), f"{schema}: rows differ from themselves"
        first = next(iter(same))
        less = {id: row for id, row in same.items() if id != first}
        assert compare(same, less, Said(""), schema, Way.SAME), f"{schema}: a row that is gone is not missed"
        assert compare(same, less, Said(f"left out: weights, in {len(rows)} rows"), schema, Way.SAME), "a line on other things covers a row that is gone"
    for damage in DAMAGES:
        assert wrong(*damage), f"not found: {damage}"
    for schema, id, path, value, other, right in LINES:
        assert wrong(schema, id, path, value, other), f"{other!r} covers {path}"
        assert not wrong(schema, id, path, value, right), f"{right!r} does not cover {path}: {wrong(schema, id, path, value, right)}"
    for text, count in GONE:
        assert Said(text).rows_gone() == count, f"{text!r}: {Said(text).rows_gone()} rows instead of {count}"
    learned = read({"id": "k", "prompt": "1 + 1?", "completion": "3"})
    bad = read({"id": "k", "prompt": "1 + 1?", "completion": "3", "label": 0})
    assert compare({"k": bad}, {"k": learned}, Said("left out: labels, in 9 rows"), "prompt-completion", Way.OTHER), "a bad answer is learned"
    for schema, id, path, value in UNREAD:
        row = next(row for row in ROWS[schema] if row["id"] == id)
        assert not readers.faults(schema, [row]), f"{schema} {id}: {readers.faults(schema, [row])}"
        assert readers.faults(schema, [change(row, path, value)]), f"{schema} {id}: {path} is read"
