"""Ours beside the peers, turn by turn on the same machine: medians and ratios.

usage: compare.py LORASCOPE_COMMAND MODEL.gguf MODEL_AS_HUGGING_FACE_FOLDER [--turns 3]
needs: torch, transformers, peft (`make bench` has them)

A turn runs ours and then the peer, so that a machine whose speed drifts is fair to both. Seconds of
a conversion are those of the whole process, peak memory is the operating system's figure.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEERS = Path(__file__).parent / "peers"


def run(command: list[str]) -> tuple[str, float, float]:
    """What a command printed, its seconds, and its peak memory in MB."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return printed, time.perf_counter() - begun, usage.ru_maxrss * 1024 / 1e6


def table(title: str, unit: str, ours: list[float], peer: list[float], more_is_better: bool) -> None:
    mine, other = statistics.median(ours), statistics.median(peer)
    ratio = mine / other if more_is_better else other / mine
    print(f"{title:<34} {mine:>9.2f} {other:>9.2f} {unit:<9} {ratio:>5.2f} times better")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lorascope")
    parser.add_argument("gguf")
    parser.add_argument("folder")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    print(f"{'':<34} {'ours':>9} {'peer':>9}")

    step = ["--batch", "4", "--tokens", "256", "--rank", "8", "--steps", "4"]
    ours, peer = [], []
    for _ in range(options.turns):
        ours.append(json.loads(run([options.lorascope, "bench", "step", "--model", options.gguf, *step, "--json"])[0]))
        printed = run([sys.executable, str(PEERS / "peft_step.py"), options.folder, *step])[0]
        peer.append(json.loads(printed.splitlines()[-1]))
    for name, unit, better in [("tokens_per_second", "tokens/s", True), ("peak_mb", "MB", False)]:
        values = [[float(result[name]) for result in results] for results in (ours, peer)]
        table(f"LoRA step against PEFT: {name.split('_')[0]}", unit, values[0], values[1], better)

    with tempfile.TemporaryDirectory() as folder:
        rows = f"{folder}/rows.jsonl"
        run([options.lorascope, "data", "generate", "--rows", "250000", rows])
        ours, peer = [], []
        for turn in range(options.turns):
            out = f"{folder}/{turn}.jsonl"
            ours.append(run([options.lorascope, "data", "convert", rows, out, "--to", "belle-chat"])[1:])
            peer.append(run([sys.executable, str(PEERS / "convert_python.py"), rows, f"{folder}/python.jsonl"])[1:])
            os.remove(out)
        for column, name, unit in [(0, "seconds", "s"), (1, "memory", "MB")]:
            values = [[result[column] for result in results] for results in (ours, peer)]
            table(f"250,000 rows against Python: {name}", unit, values[0], values[1], False)


if __name__ == "__main__":
    main()
