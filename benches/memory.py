"""The peak memory of one LoRA step beside one step that trains all weights by SGD with momentum.

usage: memory.py LORASCOPE_COMMAND MODEL.gguf MODEL_AS_HUGGING_FACE_FOLDER
needs: torch, transformers (`make bench` has them)

SmolLM2-135M, 1 x 256 tokens if not said otherwise, rank 8 on all linear layers. Peaks are the operating system's, in MiB. Fails when LoRA takes more
than 45 % of our full step with the f32 base or 25 % with the 4-bit one, or when a peak is more than 15 % from what was computed.
"""
import json
import subprocess
import sys
from pathlib import Path

command, gguf, folder = sys.argv[1:]
SHARES = {"LoRA, f32 base": 0.45, "LoRA, 4-bit base as stored": 0.25, "LoRA, Q4K base": 0.25}


def ours(*options: str, tokens: int = 256) -> dict[str, float]:
    line = [command, "bench", "step", "--model", gguf, "--batch", "1", "--tokens", str(tokens), "--rank", "8", "--steps", "2", "--json"]
    return json.loads(subprocess.run([*line, *options], check=True, capture_output=True, text=True).stdout)


figures = {
    "all weights, SGD with momentum": ours("--full", "--weights", "f32"),
    "LoRA, f32 base": ours("--weights", "f32"),
    "LoRA, 4-bit base as stored": ours(),
    "LoRA, Q4K base": ours("--weights", "q4k"),
    "LoRA, 1 x 1024": ours(tokens=1024),
    "LoRA, 1 x 1024, blocks recomputed": ours("--recompute", tokens=1024),
}
full = figures["all weights, SGD with momentum"]["peak_mb"]
wrong = []
for who, figure in figures.items():
    peak, computed = figure["peak_mb"], figure["computed_mb"]
    print(f"{who:<34} {peak:6.0f} MiB, computed {computed:6.0f} ({computed / peak - 1:+.0%}), {peak / full:4.0%} of all weights, {figure['step_seconds']:.2f} s")
    if abs(computed / peak - 1) > 0.15 or peak / full > SHARES.get(who, 1.0):
        wrong.append(who)
peer = [sys.executable, str(Path(__file__).parent / "peers" / "full_sgd.py"), folder]
print(f"{'PyTorch, all weights':<34} {int(subprocess.run(peer, check=True, capture_output=True, text=True).stdout):6} MiB")
sys.exit(f"out of bounds: {', '.join(wrong)}" if wrong else 0)
