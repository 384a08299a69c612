"""Starts evcxr_jupyter in a clone of the base build folder, and removes the clone at the end.

Jupyter runs this as `launch.py CACHE CONNECTION_FILE` (see the kernelspec that base.py writes).
"""

from __future__ import annotations

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
    (clone / "ctx").mkdir()
    link_target(base / "ctx" / "target", clone / "ctx" / "target", ours=True)
    # evcxr would link with lld where it finds no mold, by a flag that recompiles everything.
    config = clone / "config"
    config.mkdir()
    if not shutil.which("mold"):
        (config / "init.evcxr").write_text(":linker system\n")
    # evcxr learns from the first `?` that cells may have one. Where that stands in a cell's last expression, the
    # value would be shown as Debug text: so the first one is here.
    (config / "prelude.rs").write_text("Ok::<(), std::fmt::Error>(())?;\n")


def library_path(clone: Path) -> str:
    """Where a cell finds liblorascope.so and Rust's own; their run paths hold for the base only."""
    rust = subprocess.check_output(["rustc", "--print", "target-libdir"], text=True).strip()
    ours = [str(path) for path in (clone / "ctx" / "target").glob("*/debug/deps")]
    return ":".join([*ours, rust, os.environ.get("LD_LIBRARY_PATH", "")]).rstrip(":")


def keep_lock(base: Path, clone: Path) -> None:
    """Puts back what cargo drops from Cargo.lock when a cell has no `:dep`.

    evcxr evaluates `42` when it starts. Without this, the `:dep` of the first cell would resolve
    all versions anew: slower, and the newest ones are not those that are built.
    """
    lock = clone / "Cargo.lock"
    if 'name = "lorascope"' not in lock.read_text():
        shutil.copy(base / "Cargo.lock", clone / "Cargo.lock.full")
        os.replace(clone / "Cargo.lock.full", lock)


def end(kernel: subprocess.Popen[bytes], clone: Path) -> None:
    """Ends the kernel and a cell that still runs, and removes the clone."""
    kernel.kill()  # it has nothing to save, and Jupyter waits for two seconds only
    kernel.wait()
    shutil.rmtree(clone, ignore_errors=True)
    if os.getpgrp() == os.getpid():  # Jupyter gives each kernel a process group
        os.killpg(os.getpgrp(), signal.SIGKILL)


def main(cache: Path, connection: str) -> int:
    jupyter = os.getppid()
    if jupyter == 1 and os.environ.get("JPY_PARENT_PID", "1") != "1":
        return 1  # Jupyter was gone before this line
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
        "LD_LIBRARY_PATH": library_path(clone),
    }
    # The kernel inherits the lock: its clone is in use even if this process is killed.
    kernel = subprocess.Popen(
        [evcxr, "--control_file", connection],
        env=environment,
        pass_fds=[in_use.fileno()],
        stdout=subprocess.DEVNULL,  # remarks on its configuration; what cells print is a message
    )
    # Until the kernel ends, a signal says so, or Jupyter is gone.
    while kernel.poll() is None and not stop.is_set() and os.getppid() == jupyter:
        keep_lock(cache / "base", clone)
        stop.wait(0.2)
    status = kernel.poll()
    end(kernel, clone)
    return 1 if status is None else status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
