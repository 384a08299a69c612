"""Singular values of B·A for every adapter of an 8B Llama with PyTorch, in seconds, as one line of JSON.

usage: torch_spectra.py [--rank 16] [--threads 2] [--repeats 3] [--turns]          needs: torch
With --turns it does `qr_f64` once for each line that it reads, and prints the seconds: benches/spectra.rs takes turns with it.
`qr_*`: the r×r core from two QR factorisations, all 224 adapters; `gram_f64`: from AᵀA and BᵀB, fast but good to half
the digits only; `dense_f32`: a full SVD of one 4096×4096 product, which is what people usually do.
"""
import argparse
import json
import statistics
import sys
import time

import torch

args = argparse.ArgumentParser()
for name, default in [("rank", 16), ("threads", 2), ("repeats", 3)]:
    args.add_argument(f"--{name}", type=int, default=default)
args.add_argument("--turns", action="store_true")
args = args.parse_args()
torch.set_num_threads(args.threads)
torch.manual_seed(0)
# q, o; k, v; gate, up; down: (out, in) of each, in each of 32 layers.
shapes = [(4096, 4096)] * 2 + [(1024, 4096)] * 2 + [(14336, 4096)] * 2 + [(4096, 14336)]
adapters = [(torch.randn(out, args.rank), torch.randn(args.rank, into)) for _ in range(32) for out, into in shapes]


def qr(dtype):
    for b, a in adapters:
        _, rb = torch.linalg.qr(b.to(dtype))
        _, ra = torch.linalg.qr(a.T.to(dtype))
        torch.linalg.svdvals(rb @ ra.T)


def gram():
    for b, a in adapters:
        b, a = b.double(), a.double()
        lower = torch.linalg.cholesky(a @ a.T)
        torch.linalg.eigvalsh(lower.T @ (b.T @ b) @ lower).clamp(min=0).sqrt()


def timed(work, repeats):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return round(statistics.median(seconds), 4)


if args.turns:
    for _ in sys.stdin:
        print(timed(lambda: qr(torch.float64), 1), flush=True)
    sys.exit()

b, a = adapters[0]
print(json.dumps({
    "peer": "torch", "adapters": len(adapters), "rank": args.rank,
    "qr_f64_seconds": timed(lambda: qr(torch.float64), args.repeats),
    "qr_f32_seconds": timed(lambda: qr(torch.float32), args.repeats),
    "gram_f64_seconds": timed(gram, args.repeats),
    "dense_f32_seconds_for_one": timed(lambda: torch.linalg.svdvals(b @ a), 1),
}))
