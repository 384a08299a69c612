"""A kernel in a folder with a tiny model, one for each file of tests or one for a test alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from session import Kernel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("notebooks")
    tiny.write(made)
    return made


@pytest.fixture(scope="module")
def kernel(folder: Path) -> Iterator[Kernel]:
    """For tests that leave the kernel as it was, but for new variables."""
    kernel = Kernel(folder)
    yield kernel
    kernel.close()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Kernel]:
    """For tests that end it, or train."""
    tiny.write(tmp_path)
    kernel = Kernel(tmp_path)
    yield kernel
    kernel.close()
