"""Executes a notebook in our kernel, writes it as .ipynb and .html, and rejects what went wrong.

The stock kernel of evcxr answers "ok" to a cell that ended at a `?` or in a panic, and says so on
stderr alone. So a cell passes only when its stderr holds nothing but the progress of a build; one
with Jupyter's tag `raises-exception` passes only when it fails, and the notebook goes on. A cell
whose last value shows as Rust's Debug text is rejected as well: what lorascope shows has HTML.
Messages are read here and not through nbclient, which drops the output that arrives after the end
of a cell of the stock kernel.

With --fresh the kernel works in an empty folder beside that of the notebook, which is removed at the end: runs of
earlier executions are not seen, and none is left behind.

The notebook that is written is signed: JupyterLab shows its outputs as it shows those that a person made.

    run_notebook.py NOTEBOOK OUT.ipynb [--short] [--fresh] [--timeout SECONDS] [--kernel NAME]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import nbformat.sign
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from nbconvert import HTMLExporter
from nbformat import NotebookNode

KERNEL = "lorascope"
PROGRESS = re.compile(
    r"\s*((Compiling|Downloading|Downloaded|Finished|Updating|Locking|Adding|Fresh)\s.*"
    r"|Blocking waiting for file lock.*)?"
)
ANSI = re.compile(r"\x1b\[[0-9;]*m")
STRING = re.compile(r'"(\\.|[^"\\])*"')
STRUCT = re.compile(r"\b[A-Z]\w*\s*[({]")
LATE = 0.3  # seconds that the last lines of stderr may take after a cell's end
START = 120  # seconds for the kernel to answer

DARK = Path(sys.prefix) / "share/jupyter/nbconvert/templates/lab/static/theme-dark.css"
STYLE = """<style>
:root {{ color-scheme: light dark; }}
@media (prefers-color-scheme: dark) {{ {dark} }}
body.jp-Notebook {{ max-width: 76em; margin: 0 auto; background: var(--jp-layout-color0); }}
</style>
</head>"""


class Rejected(Exception):
    """Why a notebook does not pass."""


class Session:
    """One kernel, and the cells that it was given."""

    def __init__(self, kernel: str, folder: Path, environment: dict[str, str]) -> None:
        self.manager = KernelManager(kernel_name=kernel)
        self.manager.start_kernel(cwd=str(folder), env=environment)
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.cells: dict[str, NotebookNode] = {}
        # Outputs that the kernel may change later, wherever they are shown.
        self.displays: dict[str, list[NotebookNode]] = {}

    def ready(self) -> None:
        try:
            self.client.wait_for_ready(timeout=START)
        except RuntimeError as error:
            raise Rejected(f"the kernel did not start: {error}") from None

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=False)

    def execute(self, cell: NotebookNode, timeout: float) -> None:
        """Runs one cell until the kernel is idle again and has replied."""
        identity = self.client.execute(cell.source, allow_stdin=False)
        self.cells[identity] = cell
        end = time.monotonic() + timeout
        idle = replied = False
        while not (idle and replied):
            idle |= self.listen(identity, wait=0.2)
            replied = replied or self.replied(identity)
            if not self.manager.is_alive():
                raise Rejected("the kernel died")
            if time.monotonic() > end:
                raise Rejected(f"no answer after {timeout:.0f} s")
        late = time.monotonic() + (LATE if self.manager.kernel_name != KERNEL else 0)
        while (left := late - time.monotonic()) > 0:
            self.listen(identity, wait=left)

    def listen(self, identity: str, wait: float) -> bool:
        """Gives one message's output to the cell that it belongs to; is cell `identity` done?"""
        try:
            message = self.client.get_iopub_msg(timeout=wait)
        except queue.Empty:
            return False
        parent = message["parent_header"].get("msg_id")
        kind, content = message["msg_type"], message["content"]
        cell = self.cells.get(parent, self.cells[identity])
        if kind == "status":
            return bool(parent == identity and content["execution_state"] == "idle")
        if kind in ("stream", "display_data", "execute_result", "error"):
            collect(cell, message)
            if name := (content.get("transient") or {}).get("display_id"):
                self.displays.setdefault(name, []).append(cell.outputs[-1])
        elif kind == "update_display_data":
            for output in self.displays.get(content["transient"]["display_id"], []):
                output.data, output.metadata = content["data"], content["metadata"]
        elif kind == "clear_output":
            cell.outputs.clear()
        elif kind == "execute_input":
            cell.execution_count = content["execution_count"]
        return False

    def replied(self, identity: str) -> bool:
        try:
            reply = self.client.get_shell_msg(timeout=0)
        except queue.Empty:
            return False
        return bool(reply["parent_header"].get("msg_id") == identity)


def collect(cell: NotebookNode, message: dict[str, Any]) -> None:
    """Appends an output; neighbouring lines of one stream become one output."""
    output = nbformat.v4.output_from_msg(message)
    last = cell.outputs[-1] if cell.outputs else None
    if last and output.output_type == "stream" == last.output_type and output.name == last.name:
        last.text += output.text
    else:
        cell.outputs.append(output)


def fault(cell: NotebookNode) -> str | None:
    """What is wrong with the outputs of a cell."""
    for output in cell.outputs:
        if output.output_type == "error":
            return ANSI.sub("", "\n".join([output.evalue, *output.traceback])).strip()
        if output.output_type == "stream" and output.name == "stderr":
            lines = ANSI.sub("", output.text).splitlines()
            if wrong := [line for line in lines if not PROGRESS.fullmatch(line)]:
                return "\n".join(wrong)
    return None


def debug_text(cell: NotebookNode) -> str | None:
    """The Debug text that stands where the last value should be shown."""
    for output in cell.outputs:
        if output.output_type == "execute_result" and "text/html" not in output.data:
            text = output.data.get("text/plain", "")
            if STRUCT.search(STRING.sub('""', text)):
                return f"its value shows as Debug text: {text[:200]}"
    return None


def check(number: int, cell: NotebookNode) -> None:
    wrong = fault(cell)
    if "raises-exception" in cell.metadata.get("tags", []):
        if not wrong:
            raise Rejected(f"cell {number}: it was to fail and did not")
    elif wrong := wrong or debug_text(cell):
        raise Rejected(f"cell {number}: {wrong}")


def run(notebook: NotebookNode, session: Session, timeout: float) -> None:
    """Executes all cells in order and stops at the first that is rejected."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    for cell in code:
        cell.outputs, cell.execution_count = [], None
    begun = time.monotonic()
    try:
        session.ready()
        print(f"kernel ready after {time.monotonic() - begun:.1f} s", flush=True)
        for number, cell in enumerate(code, 1):
            start = time.monotonic()
            title = f"[{number}/{len(code)}] {cell.source.strip().splitlines()[-1][:60]}"
            try:
                session.execute(cell, timeout)
            except Rejected as why:
                raise Rejected(f"cell {number}: {why}\n{fault(cell) or ''}") from None
            print(f"{title:<70} {time.monotonic() - start:6.1f} s", flush=True)
            check(number, cell)
        for number, cell in enumerate(code, 1):  # what came after the cell's end
            check(number, cell)
    finally:
        session.close()
    print(f"{len(code)} cells, {time.monotonic() - begun:.1f} s with the kernel's start", flush=True)


@contextlib.contextmanager
def working_folder(notebook: Path, *, fresh: bool) -> Iterator[Path]:
    """The folder of the notebook, or an empty one beside it, so that relative paths hold there too."""
    folder = notebook.resolve().parent
    if not fresh:
        yield folder
        return
    empty = folder.parent / f".run-{notebook.stem}"
    shutil.rmtree(empty, ignore_errors=True)  # of an execution that was killed
    empty.mkdir()
    try:
        yield empty
    finally:
        shutil.rmtree(empty, ignore_errors=True)


def html(notebook: NotebookNode, title: str) -> str:
    """The notebook as a page that stands alone and follows the reader's dark or light setting."""
    exporter = HTMLExporter(template_name="lab", mathjax_url="", require_js_url="")
    body, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    return body.replace("</head>", STYLE.format(dark=DARK.read_text()), 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("out", type=Path, help="the executed .ipynb; the .html lies beside it")
    parser.add_argument("--short", action="store_true", help="set LORASCOPE_SHORT=1")
    parser.add_argument("--fresh", action="store_true", help="work in an empty folder")
    parser.add_argument("--kernel", default=KERNEL, help="the kernel's name")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one cell")
    options = parser.parse_args()
    environment = dict(os.environ) | ({"LORASCOPE_SHORT": "1"} if options.short else {})
    notebook = nbformat.read(options.notebook, as_version=4)
    status = 0
    try:
        with working_folder(options.notebook, fresh=options.fresh) as folder:
            run(notebook, Session(options.kernel, folder, environment), options.timeout)
    except Rejected as why:
        print(f"{options.notebook}, {why}", file=sys.stderr)
        status = 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    nbformat.sign.NotebookNotary().sign(notebook)
    nbformat.write(notebook, options.out)
    options.out.with_suffix(".html").write_text(html(notebook, options.notebook.stem))
    return status


if __name__ == "__main__":
    sys.exit(main())
