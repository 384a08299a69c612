"""A kernel under test: starts it, gives it cells, and keeps every message that it sends.

The environment says which kernel: LORASCOPE_KERNEL is the name of its kernelspec (`lorascope`), LORASCOPE_FIRST_CELL
a cell that comes before all others (the stock kernel needs its `:dep` there, ours needs none).
"""

from __future__ import annotations

import os
import queue
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

Message = dict[str, Any]

NAME = os.environ.get("LORASCOPE_KERNEL", "lorascope")
FIRST_CELL = os.environ.get("LORASCOPE_FIRST_CELL", "")
# Says in the environment of a process which kernel it belongs to, also when its parent is gone.
MARK = "LORASCOPE_TEST_KERNEL"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
# What ends a test that hangs. No test is about these times.
START, CELL = 600.0, 120.0


class Silence(AssertionError):
    """What was waited for did not come."""


@dataclass
class Cell:
    """One execute request, and what came of it."""

    identity: str
    code: str
    reply: Message | None = None
    messages: list[Message] = field(default_factory=list)
    late: list[Message] = field(default_factory=list)  # output that came after idle
    idle: bool = False

    def of(self, *kinds: str) -> list[Message]:
        return [message for message in self.messages if message["msg_type"] in kinds]

    def stream(self, name: str) -> str:
        return "".join(m["content"]["text"] for m in self.of("stream") if m["content"]["name"] == name)

    @property
    def stdout(self) -> str:
        return self.stream("stdout")

    @property
    def status(self) -> str:
        assert self.reply, f"no reply yet: {self.code}"
        return str(self.reply["content"]["status"])

    @property
    def error(self) -> str:
        """The text of its error, as a person reads it."""
        parts = [part for m in self.of("error") for part in [m["content"]["evalue"], *m["content"]["traceback"]]]
        return ANSI.sub("", "\n".join(parts))

    def shown(self, mime: str = "text/plain") -> list[str]:
        """What its displays and its value show, in order."""
        return [
            str(m["content"]["data"][mime])
            for m in self.of("display_data", "execute_result")
            if mime in m["content"]["data"]
        ]

    def text(self) -> str:
        """Everything that it said, for the message of a failed test."""
        parts = [self.code, "->", self.stdout, self.stream("stderr"), *self.shown(), self.error]
        return "\n".join(part for part in parts if part)


class Kernel:
    """A kernel process and a client of it."""

    def __init__(self, folder: Path, name: str = NAME, first: str = FIRST_CELL) -> None:
        self.mark = uuid.uuid4().hex
        self.first = first
        self.folder = folder
        self.manager = KernelManager(kernel_name=name)
        self.manager.start_kernel(cwd=str(folder), env=dict(os.environ) | {MARK: self.mark})
        self.cells: dict[str, Cell] = {}
        self.messages: list[Message] = []
        self.client = self.connect()

    def connect(self) -> BlockingKernelClient:
        """A client that the kernel has answered, after the first cell."""
        client: BlockingKernelClient = self.manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=START)
        self.client = client
        if self.first:
            self.ok(self.first, timeout=START)
        return client

    def close(self) -> None:
        self.client.stop_channels()
        if self.manager.has_kernel:
            self.manager.shutdown_kernel(now=False)

    def restart(self) -> None:
        self.client.stop_channels()
        self.manager.restart_kernel(now=False)
        self.connect()

    def interrupt(self) -> None:
        """Presses the stop button."""
        self.manager.interrupt_kernel()

    def send(self, code: str, **options: Any) -> Cell:
        """Queues a cell and does not wait for it."""
        options.setdefault("allow_stdin", False)
        cell = Cell(self.client.execute(code, **options), code)
        self.cells[cell.identity] = cell
        return cell

    def listen(self, wait: float) -> None:
        """Takes what the kernel has sent; waits at most so long for it."""
        for receive in (self.client.get_shell_msg, self.client.get_iopub_msg):
            try:
                while True:
                    blocking = wait if receive == self.client.get_iopub_msg else 0
                    self.take(receive(timeout=blocking))
                    wait = 0
            except queue.Empty:
                pass

    def take(self, message: Message) -> None:
        message["taken"] = time.monotonic()
        self.messages.append(message)
        cell = self.cells.get(message["parent_header"].get("msg_id", ""))
        if cell is None:
            return
        if message["msg_type"] == "execute_reply":
            cell.reply = message
        elif message["msg_type"] == "status":
            cell.idle |= message["content"]["execution_state"] == "idle"
        else:
            cell.messages.append(message)
            if cell.idle and message["msg_type"] != "update_display_data":
                cell.late.append(message)

    def until(self, what: str, holds: Callable[[], object], timeout: float = CELL) -> None:
        """Listens until something holds."""
        end = time.monotonic() + timeout
        while not holds():
            if time.monotonic() > end:
                raise Silence(f"after {timeout:.0f} s still not: {what}")
            if not self.manager.is_alive():
                self.listen(0.5)
                if holds():
                    return
                raise Silence(f"the kernel ended before: {what}")
            self.listen(0.1)

    def finish(self, cell: Cell, timeout: float = CELL) -> Cell:
        """Waits until a cell has replied and the kernel is idle."""
        try:
            self.until("the cell's end", lambda: cell.reply and cell.idle, timeout)
        except Silence as why:
            raise Silence(f"{why}\n{cell.text()}") from None
        return cell

    def run(self, code: str, timeout: float = CELL) -> Cell:
        return self.finish(self.send(code), timeout)

    def ok(self, code: str, timeout: float = CELL) -> Cell:
        cell = self.run(code, timeout)
        assert cell.status == "ok" and not cell.of("error"), cell.text()
        return cell

    def fails(self, code: str, timeout: float = CELL) -> Cell:
        cell = self.run(code, timeout)
        assert cell.status == "error", f"the reply is {cell.status}, not error:\n{cell.text()}"
        assert len(cell.of("error")) == 1, f"{len(cell.of('error'))} error messages:\n{cell.text()}"
        return cell

    def prints(self, code: str) -> str:
        """What a cell prints, without the last line break."""
        return self.ok(code).stdout.rstrip("\n")

    def updates(self, identity: str) -> list[Message]:
        """What has replaced a display so far."""
        return [
            m
            for m in self.messages
            if m["msg_type"] == "update_display_data" and display_id(m) == identity
        ]

    def tree(self) -> list[psutil.Process]:
        """All processes of this kernel that live, the oldest first."""
        return sorted(marked(self.mark), key=lambda process: process.create_time())

    def process(self) -> psutil.Process:
        """The kernel itself: not what started it, and not the process that holds the variables."""
        tree = self.tree()
        named = [process for process in tree if re.match("lorascope-k|evcxr", process.name())]
        return (named or tree)[0]


def display_id(message: Message) -> str | None:
    identity = message["content"].get("transient", {}).get("display_id")
    return None if identity is None else str(identity)


def marked(mark: str) -> list[psutil.Process]:
    """The processes that have this mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            pass  # it has just ended, or is none of ours
    return found
