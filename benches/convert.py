"""Rewriting instructions to conversations: ours beside polars in Python and the usual Python script.

usage: convert.py LORASCOPE_COMMAND [--turns 5] [--big]
needs: polars (`make bench-convert` has it)

250,000 rows as long as those of school-math (135 MB), turn by turn on the same machine; medians and
ratios, onto a file that is not there and over one that is (there the file system frees the old one's
blocks, and some wait for the disk to discard them). Seconds are those of the whole process, peak memory
is the operating system's figure. With --big also our memory for 2 GB of such rows.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
ROWS, BYTES = 250_000, 135_000_000


def run(command: list[str]) -> tuple[float, float]:
    """The seconds of a command and its peak memory in MB."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - begun, usage.ru_maxrss * 1024 / 1e6


def write_rows(lorascope: str, path: Path, rows: int) -> None:
    """Generated problems, several to a row, until a row is as long as one of school-math."""
    short = path.with_suffix(".short.jsonl")
    run([lorascope, "data", "generate", "--rows", "100000", str(short)])
    problems = [json.loads(line) for line in short.read_text().splitlines()]
    short.unlink()
    with path.open("w") as target:
        at = 0
        for _ in range(rows):
            row, size = {"instruction": "", "input": "", "output": ""}, 0
            while size < BYTES // ROWS - 110:
                more = problems[at % len(problems)]
                at += 1
                for key in ("instruction", "output"):
                    row[key] = "\n".join(filter(None, [row[key], more[key]]))
                size = sum(len(text.encode()) for text in row.values())
            target.write(json.dumps(row, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lorascope")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--big", action="store_true", help="also our memory for 2 GB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = folder / "rows.jsonl"
        # In a process of its own: a child's peak memory counts that of the parent it was forked from.
        maker = multiprocessing.Process(target=write_rows, args=(options.lorascope, rows, ROWS))
        maker.start()
        maker.join()
        if maker.exitcode:
            sys.exit("the rows could not be written")
        print(f"{ROWS:,} rows, {rows.stat().st_size / 1e6:.0f} MB, {options.turns} turns, {os.cpu_count()} processors")

        def convert(source: Path) -> list[str]:
            target = str(folder / "ours.jsonl")
            return [options.lorascope, "data", "convert", str(source), target, "--to", "belle-chat", "--overwrite"]

        contestants = {
            "lorascope": convert(rows),
            "polars in Python": [sys.executable, str(PEERS / "convert_polars.py"), str(rows), str(folder / "polars.jsonl")],
            "Python script": [sys.executable, str(PEERS / "convert_python.py"), str(rows), str(folder / "python.jsonl")],
        }
        for old in (False, True):
            results: dict[str, list[tuple[float, float]]] = {who: [] for who in contestants}
            for _ in range(options.turns):
                for who, command in contestants.items():
                    for output in folder.glob("*.jsonl"):
                        if output != rows and not old:
                            output.unlink()
                    results[who].append(run(command))
            print("over an old file" if old else "onto a new file")
            ours = statistics.median(seconds for seconds, _ in results["lorascope"])
            for who, figures in results.items():
                seconds, memory = (statistics.median(column) for column in zip(*figures))
                print(f"{who:<18} {seconds:6.3f} s  {memory:6.0f} MB  {seconds / ours:5.2f} times ours")
        if options.big:
            big = folder / "big.jsonl"
            with big.open("wb") as target:
                for _ in range(15):
                    with rows.open("rb") as source:
                        shutil.copyfileobj(source, target)
            seconds, memory = run(convert(big))
            print(f"lorascope, {big.stat().st_size / 1e9:.1f} GB: {seconds:.1f} s, {memory:.0f} MB")


if __name__ == "__main__":
    main()
