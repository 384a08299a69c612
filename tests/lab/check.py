"""Opens notebooks in a real JupyterLab, trusted and not, light and dark, and looks at what their outputs became.

usage: check.py PYTHON_WITH_JUPYTERLAB OUT PAGE...
needs: playwright, and Chromium as `chromium` or under CHROMIUM (`make test-lab` has them)

A PAGE is a notebook, or JSON of names and HTML as tests/display/awkward.rs writes it where LORASCOPE_PAGES is set.
No output may hold a formula, run a script, or be wider than its cell; in a notebook that is not trusted each figure
must be seen as an image. Pictures of the pages are written to OUT.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from appearance import theme
from playwright.sync_api import sync_playwright

WIDTH, TALL = 1200, 12_000
TOKEN = "lorascope"
# A cell that must become a formula, so that none is known to be found where there is one.
CONTROL = "<p>a formula: $x^2$ and $y$</p>"
# What a page's outputs came to: run in the page.
LOOK = """() => {
    const outputs = [...document.querySelectorAll('.jp-OutputArea-output')];
    const formulas = outputs.map(o => o.querySelectorAll('mjx-container, .MathJax, .katex').length);
    const wide = [];
    for (const output of outputs) {
        const right = output.getBoundingClientRect().right + 1;
        for (const element of output.querySelectorAll('*')) {
            if (element.getBoundingClientRect().right <= right) continue;
            let at = element, held = false;
            while (at && at !== output.parentElement) {
                if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(at).overflowX) && at !== element
                    && at.getBoundingClientRect().right <= right) held = true;
                at = at.parentElement;
            }
            if (!held) wide.push(element.outerHTML.slice(0, 120));
        }
    }
    const seen = e => { const b = e.getBoundingClientRect(); return b.width > 50 && b.height > 50; };
    const images = [...document.querySelectorAll('.jp-OutputArea-output img')];
    return {
        outputs: outputs.length, formulas, wide: wide.slice(0, 5),
        images: images.filter(e => seen(e) && e.naturalWidth > 0).length,
        drawings: [...document.querySelectorAll('.jp-OutputArea-output svg')].filter(seen).length,
        injected: [...document.querySelectorAll('.jp-OutputArea-output b')].filter(e => e.textContent === 'injected').length,
        scripts: document.querySelectorAll('.jp-OutputArea-output script, .jp-OutputArea-output img[src="x"]').length,
    };
}"""


def cell(source: str, outputs: list[dict]) -> dict:
    return {"cell_type": "code", "id": f"c{cell.count}", "metadata": {}, "execution_count": None, "source": source, "outputs": outputs}


cell.count = 0


def notebook(page: Path) -> dict:
    """The notebook of a page, without a kernel, and the control at its end."""
    content = json.loads(page.read_text())
    if isinstance(content, list):
        cells = []
        for name, html in content:
            cell.count += 1
            cells.append(cell(name, [{"output_type": "display_data", "metadata": {}, "data": {"text/html": html, "text/plain": name}}]))
        content = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
    content["metadata"].pop("kernelspec", None)
    cell.count += 1
    content["cells"].append(cell("control", [{"output_type": "display_data", "metadata": {}, "data": {"text/html": CONTROL, "text/plain": ""}}]))
    return content


def main() -> None:
    python, out, *pages = sys.argv[1:]
    if not pages:
        sys.exit(__doc__)
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or sys.exit("there is no chromium: apt-get install chromium")
    wrong = []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        for kind in ["trusted", "untrusted"]:
            (folder / kind).mkdir()
            for page in map(Path, pages):
                (folder / kind / f"{page.stem}.ipynb").write_text(json.dumps(notebook(page)))
        environment = os.environ | {
            "HOME": name, "JUPYTER_DATA_DIR": f"{name}/data", "JUPYTER_RUNTIME_DIR": f"{name}/runtime",
            "JUPYTER_CONFIG_DIR": f"{name}/config", "JUPYTERLAB_SETTINGS_DIR": f"{name}/settings",
        }
        trusted = [str(path) for path in (folder / "trusted").iterdir()]
        subprocess.run([python, "-m", "jupyter", "trust", *trusted], env=environment, check=True, stdout=subprocess.DEVNULL)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for shade in ["light", "dark"]:
            theme(folder / "settings", shade.capitalize())
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            server = subprocess.Popen(
                [python, "-m", "jupyterlab", "--no-browser", f"--port={port}", f"--ServerApp.root_dir={name}",
                 f"--IdentityProvider.token={TOKEN}", *(["--allow-root"] if os.getuid() == 0 else [])],
                env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            try:
                await_server(server, port)
                for kind in ["trusted", "untrusted"]:
                    for page in map(Path, pages):
                        found = look(browser, f"http://127.0.0.1:{port}/lab/tree/{kind}/{page.stem}.ipynb?token={TOKEN}&reset",
                                     out / f"{page.stem}-{kind}-{shade}")
                        faults = judge(found, kind)
                        wrong += [f"{page.stem}, {kind}, {shade}: {fault}" for fault in faults]
                        print(f"{page.stem}, {kind}, {shade}: {found['outputs']} outputs, {found['drawings']} drawings, "
                              f"{found['images']} images, {len(faults)} faults", flush=True)
            finally:
                server.terminate()
                server.wait()
        browser.close()
    print("\n".join(wrong) or "all as they should be")
    sys.exit(bool(wrong))


def await_server(server: subprocess.Popen, port: int) -> None:
    for _ in range(240):
        if server.poll() is not None:
            sys.exit("JupyterLab did not start")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={TOKEN}", timeout=1)
            return
        except OSError:
            time.sleep(0.25)
    sys.exit("JupyterLab does not answer")


def look(browser, url: str, picture: Path) -> dict:
    """What became of the outputs, and pictures of the page from top to bottom."""
    page = browser.new_page(viewport={"width": WIDTH, "height": 900})
    alerts = []
    page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    page.goto(url)
    page.wait_for_selector(".jp-Notebook", timeout=120_000)
    page.wait_for_selector(".jp-OutputArea-output mjx-container", timeout=120_000)
    # Which kernel, and whatever else is asked of a new user.
    for _ in range(5):
        page.wait_for_timeout(1000)
        if page.locator(".jp-Dialog").count():
            page.locator(".jp-Dialog .jp-mod-reject, .jp-Dialog .jp-mod-accept").first.click()
    page.keyboard.press("Control+b")
    height = page.evaluate("document.querySelector('.jp-WindowedPanel-outer').scrollHeight") + 150
    page.set_viewport_size({"width": WIDTH, "height": min(height, TALL)})
    page.wait_for_timeout(3000)
    found = page.evaluate(LOOK) | {"alerts": alerts}
    outer = "document.querySelector('.jp-WindowedPanel-outer')"
    for n in range(0, max(1, -(-height // TALL))):
        page.evaluate(f"{outer}.scrollTo(0, {n * (TALL - 200)})")
        page.wait_for_timeout(300)
        page.screenshot(path=f"{picture}-{n}.png")
    page.close()
    return found


def judge(found: dict, kind: str) -> list[str]:
    *formulas, control = found["formulas"]
    faults = []
    if control == 0:
        faults.append("the control is no formula: JupyterLab's mathematics does not work here")
    if any(formulas):
        faults.append(f"outputs {[n + 1 for n, count in enumerate(formulas) if count]} hold formulas")
    for key in ["wide", "injected", "scripts", "alerts"]:
        if found[key]:
            faults.append(f"{key}: {found[key]}")
    if kind == "untrusted" and found["drawings"]:
        faults.append(f"{found['drawings']} drawings are seen though the notebook is not trusted")
    return faults


if __name__ == "__main__":
    main()
