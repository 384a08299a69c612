"""The build folder that kernels start from, and the kernelspec that starts them.

evcxr compiles each cell as a crate called `ctx` in a folder of its own. A first build of polars
and candle takes twelve minutes there, so it happens once, here, and each kernel works in a clone
made of hard links (launch.py). Three properties of cargo shape the layout:

- A path dependency that is a dylib has no hash in its file name: the `liblorascope.so` of the
  tests and that of the cells would overwrite each other, and cargo takes both for fresh. So tests
  and cells have a target folder each, in which the crates from the registry are hard links.
- The profile of a workspace is the one in its root. So `ctx` is the member of a workspace, and the
  cells get our profile and not evcxr's; Cargo.lock lies in the root as well.
- cargo drops from Cargo.lock what is not needed at the moment; the launcher puts it back.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

WORKSPACE = """\
[workspace]
members = ["ctx"]
resolver = "3"

"""
MEMBER = """\
[package]
name = "ctx"
version = "1.0.0"
edition = "2024"

[dependencies]
lorascope = {{ path = {path}, features = {features} }}
"""


@contextlib.contextmanager
def locked(cache: Path, *, alone: bool) -> Iterator[None]:
    """Many kernels may clone the base at once, but none while it is being built."""
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "base.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def link_target(source: Path, target: Path, *, ours: bool) -> None:
    """Brings what cargo has built in `source` to `target`; `ours`: lorascope itself as well.

    Libraries are hard links. Fingerprints are copies, because cargo writes them in place.
    """
    skipped = {"ctx", "libctx"} | (set() if ours else {"lorascope", "liblorascope"})
    for debug in [*source.glob("*/debug"), source / "debug"]:
        for folder in ("deps", "build", ".fingerprint"):
            for entry in (debug / folder).glob("*"):
                crate = entry.name.split(".")[0].rsplit("-", 1)[0]
                # Without `lib` it is a test; libcode_N is the N-th cell of a kernel.
                library = crate.startswith("lib") and not crate.startswith("libcode_")
                if crate not in skipped and (library or folder != "deps"):
                    _bring(entry, target / entry.relative_to(source), copy=folder == ".fingerprint")


def _bring(source: Path, target: Path, *, copy: bool) -> None:
    if source.is_dir():
        for entry in source.iterdir():
            _bring(entry, target / entry.name, copy=copy)
        return
    with contextlib.suppress(FileNotFoundError):
        if target.stat().st_mtime_ns == source.stat().st_mtime_ns:
            return
        target.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copy:
        with contextlib.suppress(OSError):  # another file system, or one without hard links
            os.link(source, target)
            return
    shutil.copy2(source, target)


def profile(manifest: Path) -> str:
    """The section [profile.dev] of a Cargo.toml."""
    lines = manifest.read_text().splitlines()
    begin = lines.index("[profile.dev]")
    end = next((i for i in range(begin + 1, len(lines)) if lines[i].startswith("[")), len(lines))
    return "\n".join(lines[begin:end]) + "\n"


def write(path: Path, text: str) -> None:
    """Leaves a file alone that holds the text already: cargo looks at its age."""
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def build(repo: Path, cache: Path, features: list[str]) -> None:
    """Builds lorascope as the cells will use it: `:dep lorascope = { path = ".." }`."""
    base = cache / "base"
    manifest = MEMBER.format(path=json.dumps(str(repo)), features=json.dumps(features))
    write(base / "ctx" / "Cargo.toml", manifest)
    write(base / "ctx" / "src" / "lib.rs", "pub use lorascope;\n")
    write(base / "Cargo.toml", WORKSPACE + profile(repo / "Cargo.toml"))
    shutil.copy(repo / "Cargo.lock", base / "Cargo.lock")
    link_target(cache / "target", base / "ctx" / "target", ours=False)

    # The command and the environment that evcxr uses: another flag would be another build.
    mold = ["mold", "-run"] if shutil.which("mold") else []
    triple = next(
        line.removeprefix("host: ")
        for line in subprocess.check_output(["rustc", "-vV"], text=True).splitlines()
        if line.startswith("host: ")
    )
    environment = os.environ | {
        "CARGO_TARGET_DIR": "target",
        "CARGO_BUILD_BUILD_DIR": "target",
        "RUSTFLAGS": "-Cprefer-dynamic",
    }
    cargo = functools.partial(subprocess.run, cwd=base / "ctx", env=environment, check=True)
    cargo([*mold, "cargo", "build", "--target", triple])
    # `:dep` asks for the metadata of all packages, those of other systems too: download them now.
    cargo(["cargo", "metadata", "--quiet", "--format-version=1"], stdout=subprocess.DEVNULL)


def register(cache: Path, venv: Path) -> None:
    """Writes the kernelspec into the virtual environment, where no other Jupyter sees it."""
    spec = {
        "argv": [
            str(venv / "bin" / "python"),
            str(Path(__file__).resolve().with_name("launch.py")),
            str(cache),
            "{connection_file}",
        ],
        "display_name": "Rust (lorascope)",
        "language": "rust",
        "interrupt_mode": "message",
    }
    folder = venv / "share" / "jupyter" / "kernels" / "lorascope"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernel.json").write_text(json.dumps(spec, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="build what kernels start from")
    parser.add_argument("repo", type=Path, help="the checkout of lorascope")
    parser.add_argument("cache", type=Path, help="the folder with target/ that holds the base")
    parser.add_argument("venv", type=Path, help="the virtual environment that gets the kernelspec")
    parser.add_argument("--features", default="", help="features of lorascope, with commas")
    options = parser.parse_args()
    cache = options.cache.resolve()
    try:
        with locked(cache, alone=True):
            build(options.repo.resolve(), cache, [f for f in options.features.split(",") if f])
        register(cache, options.venv.resolve())
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
