"""Cells that several tests give to the kernel."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

MODEL = 'let model = Model::open("model")?;\nlet rows = Dataset::open("rows.jsonl")?;'
# Steps so short that a test can wait for some of them, and so long that it can stop 500 of them in the middle.
RUN = 'let run = Run::new("tiny", &model, &rows, RunConfig::default().rank(2).batch(4).warmup(2).lr(1e-3))?;'
LIVE = "run.live()"
STEP = 'println!("{}", run.status().step)'
SLEEP = "std::thread::sleep(std::time::Duration::from_millis(20));"

_NUMBER = itertools.count()


class Gate:
    """A cell that waits for it runs until the test opens it. So tests count on an order, not on times."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"gate-{next(_NUMBER)}"

    @property
    def wait(self) -> str:
        return f'while !std::path::Path::new("{self.path}").exists() {{ {SLEEP} }}'

    def open(self) -> None:
        self.path.touch()


def busy_machine() -> int:
    """Processes that keep all processors busy beside the kernel."""
    return os.cpu_count() or 2
