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
import threading
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


def wait(kernel: subprocess.Popen[bytes], stop: threading.Event, jupyter: int) -> int:
    """Waits for the kernel to end, for a signal to end it, or for Jupyter to be gone."""
    while os.getppid() == jupyter and not stop.is_set():
        with contextlib.suppress(subprocess.TimeoutExpired):
            return kernel.wait(timeout=0.2)
    return 1


def end(kernel: subprocess.Popen[bytes], clone: Path) -> None:
    """Ends the kernel and a cell that still runs, and removes the clone."""
    kernel.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        kernel.wait(timeout=2)
    kernel.kill()
    shutil.rmtree(clone, ignore_errors=True)
    if os.getpgrp() == os.getpid():  # Jupyter gives each kernel a process group
        os.killpg(os.getpgrp(), signal.SIGKILL)


def main(cache: Path, connection: str) -> int:
    jupyter = os.getppid()
    evcxr = cache / "evcxr" / "bin" / "evcxr_jupyter"
    if not (evcxr.exists() and (cache / "base" / "Cargo.lock").exists()):
        print(f"no kernel in {cache}: run `make kernel`", file=sys.stderr)
        return 1
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stop button is a message to evcxr
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
    # The kernel inherits the lock: its clone is in use even if this process is killed.
    kernel = subprocess.Popen(
        [evcxr, "--control_file", connection],
        env=environment,
        pass_fds=[in_use.fileno()],
        stdout=subprocess.DEVNULL,  # remarks on its configuration; what cells print is a message
    )
    status = wait(kernel, stop, jupyter)
    end(kernel, clone)
    return status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
