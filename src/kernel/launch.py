"""Starts evcxr_jupyter in a clone of the base build folder, and removes the clone at the end.

Jupyter runs this as `launch.py CACHE CONNECTION_FILE` (see the kernelspec that base.py writes).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from base import link_target, locked

IN_USE = "in-use"


def sweep(kernels: Path) -> None:
    """Removes the clones whose kernel is gone: nobody holds the lock on their `in-use` file."""
    for clone in kernels.glob("*"):
        try:
            with open(clone / IN_USE) as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(clone, ignore_errors=True)
        except FileNotFoundError:
            shutil.rmtree(clone, ignore_errors=True)
        except BlockingIOError:
            pass  # a living kernel


def clone_base(cache: Path, clone: Path) -> None:
    """A build folder of its own for one kernel, in which only the cells are left to compile."""
    base = cache / "base"
    for name in ("Cargo.toml", "Cargo.lock"):
        shutil.copy(base / name, clone / name)
    shutil.copytree(base / "pin", clone / "pin")
    (clone / "ctx").mkdir()
    link_target(base / "ctx" / "target", clone / "ctx" / "target", ours=True)
    # evcxr would link with lld where it finds no mold, by a flag that recompiles everything.
    config = clone / "config"
    config.mkdir()
    if not shutil.which("mold"):
        (config / "init.evcxr").write_text(":linker system\n")


def wait(kernel: subprocess.Popen[bytes]) -> int:
    """Waits for the kernel, and ends it when this process is told to end or Jupyter is gone."""
    jupyter = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stop button is a message to evcxr
    signal.signal(signal.SIGTERM, lambda *_: kernel.terminate())
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return kernel.wait(timeout=1)
        if os.getppid() != jupyter:
            kernel.terminate()


def main(cache: Path, connection: str) -> int:
    evcxr = cache / "evcxr" / "bin" / "evcxr_jupyter"
    if not (evcxr.exists() and (cache / "base" / "Cargo.lock").exists()):
        print(f"no kernel in {cache}: run `make kernel`", file=sys.stderr)
        return 1
    kernels = cache / "kernels"
    kernels.mkdir(exist_ok=True)
    with locked(cache, alone=True):  # no clone is half made
        sweep(kernels)
    with locked(cache, alone=False):
        clone = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=kernels))
        in_use = open(clone / IN_USE, "w")
        fcntl.flock(in_use, fcntl.LOCK_EX)
        clone_base(cache, clone)
    environment = os.environ | {
        "EVCXR_TMPDIR": str(clone / "ctx"),
        "EVCXR_CONFIG_DIR": str(clone / "config"),
    }
    try:
        # The kernel inherits the lock: its clone is in use even if this process is killed.
        kernel = subprocess.Popen(
            [evcxr, "--control_file", connection],
            env=environment,
            pass_fds=[in_use.fileno()],
            stdout=subprocess.DEVNULL,  # remarks on its configuration; what cells print is a message
        )
        return wait(kernel)
    finally:
        shutil.rmtree(clone, ignore_errors=True)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpgrp(), signal.SIGKILL)  # a cell may still be running


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
