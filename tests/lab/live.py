"""A run in a real JupyterLab: its panel changes while another cell answers, stop pauses it, and the page keeps it.

usage: live.py PYTHON_WITH_JUPYTERLAB OUT [--quickstart | --python] [--kernel NAME] [--first CELL]
needs: playwright, and Chromium as `chromium` or under CHROMIUM (`make test-lab` has them)

Without an option the run is a tiny one, which takes seconds; with --quickstart it is that of the tour, whose cells
come first (minutes). --python shows the same with IPython's kernel: what a faultless kernel would show.
Pictures of the page, light and dark, are written to OUT.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from check import TOKEN, await_server
from appearance import theme
from playwright.sync_api import Locator, Page, sync_playwright

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / ".run-lab"  # beside `notebooks`, so that relative paths hold there too
NOTEBOOK = FOLDER / "live.ipynb"
WIDTH, HEIGHT = 1200, 1600
HANG = 900.0  # seconds; what ends a story that stands still

SETUP = """let model = Model::open("model")?;
let rows = Dataset::open("rows.jsonl")?;
let run = Run::new("live", &model, &rows, RunConfig::default().rank(2).batch(4).warmup(2).lr(1e-3))?;"""
SLEEP = "std::thread::sleep(std::time::Duration::from_millis(500));"
STORY = {
    "panel": "run.start(100_000)?;\nrun.live()",
    # However slow the machine is: beside five steps.
    "answer": f"""let (from, mut n) = (run.status().step, 0);
while n < 20 || run.status().step < from + 5 {{
    println!("answer {{n}}");
    n += 1;
    {SLEEP}
}}""",
    "pause": "run.pause()?;",
    "long": "run.steps(500)?",
    "next": 'println!("the next cell: step {}", run.status().step);',
    "resume": f"""let from = run.status().step;
run.resume()?;
while run.status().step < from + 3 {{ {SLEEP} }}
run.pause()?;
println!("went on by {{}} steps", run.status().step - from);""",
}
# The same with IPython's kernel and threads.
PYTHON_SETUP = """import threading, time
from IPython.display import display
step, trains, panel = 0, threading.Event(), None
def steps():
    global step
    while True:
        trains.wait()
        time.sleep(0.2)
        step += 1
        panel and panel.update(f"step {step}, loss {1 / step:.4f}")
threading.Thread(target=steps, daemon=True).start()"""
PYTHON_STORY = {
    "panel": "panel = display('step 0', display_id=True)\ntrains.set()",
    "answer": "for n in range(20):\n    print('answer', n, flush=True)\n    time.sleep(0.5)",
    "pause": "trains.clear()",
    "long": """trains.set()
bar = display("0", display_id=True)
try:
    while True:
        time.sleep(0.2); bar.update(f"{step} of 500")
except KeyboardInterrupt:
    trains.clear()
    time.sleep(0.5)
    raise RuntimeError(f"paused at step {step}") from None""",
    "next": "print(f'the next cell: step {step}')",
    "resume": "begun = step\ntrains.set()\nwhile step < begun + 3: time.sleep(0.1)\ntrains.clear(); time.sleep(0.5)\nprint(f'went on by {step - begun} steps')",
}


class Wrong(Exception):
    """What the page did not show."""


def await_that(what: str, holds: Callable[[], object], page: Page, seconds: float = 0) -> None:
    seconds = seconds or HANG
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise Wrong(f"after {seconds:.0f} s still not: {what}")
        page.wait_for_timeout(100)


class Notebook:
    """The notebook on the page, whose last cells are those of the story."""

    def __init__(self, page: Page, names: list[str], before: int) -> None:
        self.page = page
        self.at = {name: before + number for number, name in enumerate(names)}

    def cell(self, name: str) -> Locator:
        return self.page.locator(".jp-CodeCell").nth(self.at[name])

    def prompt(self, name: str) -> str:
        return self.cell(name).locator(".jp-InputPrompt").inner_text().strip()

    def output(self, name: str) -> str:
        """The text of a cell's outputs, as a person sees it."""
        return "\n".join(self.cell(name).locator(".jp-OutputArea-output").all_inner_texts())

    def runs(self, name: str) -> bool:
        return "*" in self.prompt(name)

    def is_done(self, name: str) -> bool:
        return bool(re.search(r"\d", self.prompt(name)))

    def press(self, command: str) -> None:
        """Presses a button of the notebook's toolbar."""
        self.page.locator(f'.jp-NotebookPanel-toolbar [data-command="{command}"]').first.click()

    def execute(self, name: str) -> None:
        self.cell(name).locator(".cm-content").first.click()
        self.page.keyboard.press("Shift+Enter")
        await_that(f"the cell `{name}` is done", lambda: self.is_done(name), self.page)

    def errors(self) -> list[str]:
        return self.page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.error"], '
                                 '.jp-RenderedText[data-mime-type="application/vnd.jupyter.stderr"]').all_inner_texts()


def told(page: Page, notebook: Notebook, pictures: Path) -> dict[str, str]:
    """Goes through the story; returns what the page shows in the end."""
    page.locator('.lm-MenuBar-itemLabel:text-is("Run")').click()
    page.locator('.lm-Menu-itemLabel:text-is("Run All Cells")').click()
    await_that("the other cell answers", lambda: "answer 1" in notebook.output("answer") or errors(notebook), page)
    seen = []
    while notebook.runs("answer"):
        seen.append((notebook.output("panel"), notebook.output("answer").count("answer")))
        page.wait_for_timeout(400)
    page.screenshot(path=pictures / "live-panel.png")
    panels, answers = {panel for panel, _ in seen}, {answer for _, answer in seen}
    print(f"while the other cell wrote {max(answers, default=0)} lines, the panel showed {len(panels)} states", flush=True)
    if len(panels) < 4 or len(answers) < 4:
        raise Wrong(f"the panel showed {len(panels)} states beside {len(answers)} of the other cell: {panels}")
    numbers = [re.findall(r"\d+(?:\.\d+)?", panel) for panel in panels]
    if len({tuple(found) for found in numbers}) < 4:
        raise Wrong(f"the panel's numbers do not change: {numbers}")

    await_that("run.steps(500) runs", lambda: notebook.runs("long"), page)
    first = notebook.output("long")
    await_that("its progress moves", lambda: notebook.output("long") != first or not notebook.runs("long"), page)
    page.wait_for_timeout(1500)
    if not notebook.runs("long"):
        raise Wrong(f"run.steps(500) was over before stop: {notebook.output('long')}")
    notebook.press("notebook:interrupt-kernel")
    await_that("paused at step …", lambda: "paused at step" in notebook.output("long"), page, 30)
    step = re.search(r"paused at step (\d+)", notebook.output("long"))
    print(step and step.group(0), flush=True)
    page.wait_for_timeout(1000)
    if notebook.is_done("next"):
        raise Wrong("Run All went on behind the cell that was stopped")

    notebook.execute("next")
    if not step or f"step {step.group(1)}" not in notebook.output("next"):
        raise Wrong(f"the next cell does not see the step: {notebook.output('next')}")
    notebook.execute("resume")
    if "went on by" not in notebook.output("resume"):
        raise Wrong(f"it did not go on: {notebook.output('resume')}")
    page.wait_for_timeout(2000)  # the panel's last state, at most twice a second
    page.screenshot(path=pictures / "live-resumed.png")
    return {name: notebook.output(name) for name in notebook.at}


def is_idle(page: Page, address: str) -> bool:
    """Whether the page has a kernel that waits for cells."""
    server, token = address.split("/lab/")[0], f"token={TOKEN}"
    try:
        with urllib.request.urlopen(f"{server}/api/kernels?{token}", timeout=10) as answer:
            kernels = json.load(answer)
    except OSError:
        return False  # it has not begun
    shown = page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').count()
    return bool(shown and kernels and kernels[0]["connections"] and kernels[0]["execution_state"] == "idle")


def errors(notebook: Notebook) -> bool:
    if found := notebook.errors():
        raise Wrong("\n".join(found))
    return False


def kept(page: Page, notebook: Notebook, shown: dict[str, str]) -> None:
    """Saves, loads the page again, and compares."""
    page.keyboard.press("Control+s")
    await_that("the notebook is saved", lambda: "went on by" in NOTEBOOK.read_text(), page, 30)
    page.reload()
    page.locator(".jp-CodeCell .jp-OutputArea-output").last.wait_for(timeout=120_000)
    await_that("all outputs are there again", lambda: notebook.output("resume") == shown["resume"], page, 60)
    for name, before in shown.items():
        if notebook.output(name) != before:
            raise Wrong(f"after loading the page again, `{name}` shows\n{notebook.output(name)}\nand not\n{before}")
    if not re.search(r"\d", shown["panel"]):
        raise Wrong(f"no figures in the panel: {shown['panel']!r}")


def cells(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The cells before the story, and those of it."""
    if options.python:
        return [PYTHON_SETUP], list(PYTHON_STORY.values())
    if options.quickstart:
        tour = json.loads((REPOSITORY / "notebooks/quickstart.ipynb").read_text())
        code = ["".join(cell["source"]) for cell in tour["cells"] if cell["cell_type"] == "code"]
        return code, list(STORY.values())
    first = [options.first] if options.first else []
    return [*first, SETUP], list(STORY.values())


def write(options: argparse.Namespace) -> int:
    """Writes the notebook; returns how many cells come before the story."""
    before, story = cells(options)
    if not options.python and not options.quickstart:
        sys.path.insert(0, str(REPOSITORY / "tests/kernel"))
        import tiny

        tiny.write(FOLDER)
    made = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "execution_count": None, "outputs": [], "source": source}
        for n, source in enumerate([*before, *story])
    ]
    kernel = "python3" if options.python else options.kernel
    metadata = {"kernelspec": {"name": kernel, "display_name": kernel, "language": "python" if options.python else "rust"}}
    NOTEBOOK.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": made}))
    return len(before)


@contextlib.contextmanager
def lab(python: str) -> Iterator[str]:
    """A JupyterLab whose folder is the repository; its address."""
    state = FOLDER / "jupyter"
    environment = os.environ | {
        "JUPYTER_DATA_DIR": str(state / "data"), "JUPYTER_RUNTIME_DIR": str(state / "runtime"),
        "JUPYTER_CONFIG_DIR": str(state / "config"), "JUPYTERLAB_SETTINGS_DIR": str(state / "settings"),
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [python, "-m", "jupyterlab", "--no-browser", f"--port={port}", f"--ServerApp.root_dir={REPOSITORY}",
         f"--IdentityProvider.token={TOKEN}", "--ContentsManager.allow_hidden=True",
         *(["--allow-root"] if os.getuid() == 0 else [])],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        await_server(server, port)
        yield f"http://127.0.0.1:{port}/lab/tree/{FOLDER.name}/{NOTEBOOK.name}?token={TOKEN}"
    finally:
        server.terminate()
        server.wait()


def story(options: argparse.Namespace, chromium: str) -> None:
    before = write(options)
    settings = FOLDER / "jupyter/settings"
    theme(settings, "Light")
    with lab(options.python_with_jupyterlab) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(address)
        page.wait_for_selector(".jp-CodeCell", timeout=120_000)
        await_that("the kernel is idle", lambda: is_idle(page, address), page)
        page.keyboard.press("Control+b")
        notebook = Notebook(page, list(STORY), before)
        try:
            kept(page, notebook, told(page, notebook, options.out))
            page.screenshot(path=options.out / "live-kept-light.png")
            theme(settings, "Dark")
            page.reload()
            page.locator(".jp-CodeCell .jp-OutputArea-output").last.wait_for(timeout=120_000)
            page.wait_for_timeout(3000)
            page.screenshot(path=options.out / "live-kept-dark.png")
        except Exception:
            page.screenshot(path=options.out / "live-wrong.png")
            raise
        finally:
            browser.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("python_with_jupyterlab")
    parser.add_argument("out", type=Path, help="the folder for pictures")
    parser.add_argument("--quickstart", action="store_true", help="the run of the tour (minutes)")
    parser.add_argument("--python", action="store_true", help="the same with IPython's kernel")
    parser.add_argument("--kernel", default="lorascope", help="name of the kernelspec")
    parser.add_argument("--first", default="", help="a cell that comes first")
    options = parser.parse_args()
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or sys.exit("there is no chromium: apt-get install chromium")
    options.out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    try:
        story(options, chromium)
    except Wrong as why:
        print(why, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(FOLDER, ignore_errors=True)
    print("the run is seen, stopped, resumed and kept")
    return 0


if __name__ == "__main__":
    sys.exit(main())
