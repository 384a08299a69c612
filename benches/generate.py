"""Greedy generation, ours beside transformers and llama.cpp, turn by turn on the same machine.

usage: generate.py LORASCOPE_COMMAND MODEL.gguf MODEL_AS_HUGGING_FACE_FOLDER [--turns 5] [--tokens 128] [--threads 2]
needs: torch, transformers, xllamacpp (`make bench-generate` has them)

Each turn is a process of ours and one of each peer, one after the other; within it the first answer is not timed and the
median of three is taken, without the first token. The peers are transformers in bfloat16 and float32 on the weights in
float32, and llama.cpp on the same GGUF. A table, then a line of JSON for each peer: ratios above 1 are better for us.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

PEER = Path(__file__).parent / "peers" / "generate.py"


def measured(command: list[str], threads: int) -> dict[str, float]:
    """The last line that a command prints, as JSON."""
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lorascope")
    parser.add_argument("gguf")
    parser.add_argument("folder")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    tokens = ["--tokens", str(options.tokens)]
    peer = [sys.executable, str(PEER), *tokens, "--threads", str(options.threads)]
    commands = {
        "ours": [options.lorascope, "bench", "generate", "--model", options.gguf, *tokens, "--turns", "3", "--json"],
        "transformers bfloat16": [*peer, "transformers", options.folder, "--dtype", "bfloat16"],
        "transformers float32": [*peer, "transformers", options.folder, "--dtype", "float32"],
        "llama.cpp": [*peer, "llama.cpp", options.gguf],
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for turn in range(options.turns):
        for name, command in commands.items():
            found[name].append(measured(command, options.threads))
        speeds = ", ".join(f"{name} {each[-1]['tokens_per_second']:.1f}" for name, each in found.items())
        print(f"turn {turn + 1} of {options.turns}, tokens/s: {speeds}", file=sys.stderr)

    def median(name: str, key: str) -> float:
        return statistics.median(each[key] for each in found[name])

    print(f"{options.tokens} tokens, {options.threads} threads, medians of {options.turns} turns")
    print(f"{'':<24}{'tokens/s':>10}{'peak MB':>10}{'ours beside it':>16}")
    for name in commands:
        ratio = median("ours", "tokens_per_second") / median(name, "tokens_per_second")
        beside = "" if name == "ours" else f"{ratio:.2f}"
        print(f"{name:<24}{median(name, 'tokens_per_second'):>10.1f}{median(name, 'peak_mb'):>10.0f}{beside:>16}")
    for name in [name for name in commands if name != "ours"]:
        speed, theirs = median("ours", "tokens_per_second"), median(name, "tokens_per_second")
        print(
            json.dumps(
                {
                    "work": f"greedy generation, {options.tokens} tokens, beside {name}",
                    "ours": round(speed, 1),
                    "peer": round(theirs, 1),
                    "ratio": round(speed / theirs, 2),
                    "peak_mb": round(median("ours", "peak_mb")),
                    "peer_peak_mb": round(median(name, "peak_mb")),
                }
            )
        )


if __name__ == "__main__":
    main()
