"""Singular values, measures and the product of B·A for small adapters: tests/golden/spectrum.json.

usage: python tests/golden/spectrum.py        needs: numpy, torch
"""
import json
from pathlib import Path

import numpy as np
import torch

random = np.random.default_rng(42)


def case(name, out, width, rank, alpha, grade=0.0, deficient=False):
    a = random.standard_normal((rank, width)).astype(np.float32)
    b = (random.standard_normal((out, rank)) * 10.0 ** (-grade * np.arange(rank))).astype(np.float32)
    if deficient:
        b[:, -1] = b[:, 0]
    scale = alpha / rank
    delta = scale * (b.astype(np.float64) @ a.astype(np.float64))
    count = min(out, width, rank)
    sigma = np.linalg.svd(delta, compute_uv=False)[:count]
    other = torch.linalg.svdvals(torch.from_numpy(delta)).numpy()[:count]
    assert np.abs(sigma - other).max() <= 1e-14 * sigma[0], "numpy and torch agree"
    p = sigma / sigma.sum()
    energy = np.cumsum(sigma**2) / np.sum(sigma**2)
    return {
        "name": name, "rank": rank, "in": width, "out": out, "scale": scale,
        "a": [float(x) for x in a.ravel()], "b": [float(x) for x in b.ravel()],
        "singular_values": sigma.tolist(),
        "effective_rank": float(np.exp(-np.sum(p[p > 0] * np.log(p[p > 0])))),
        "stable_rank": float(np.sum(sigma**2) / sigma[0] ** 2),
        "frobenius_norm": float(np.linalg.norm(delta)),
        "energy_rank_90": int(np.argmax(energy >= 0.9)) + 1,
        "energy_rank_99": int(np.argmax(energy >= 0.99)) + 1,
    }


cases = [
    case("odd", 13, 17, 5, 7.0),
    case("wide_rank", 3, 11, 7, 16.0),
    case("graded", 19, 23, 6, 5.0, grade=1.5),
    case("deficient", 11, 9, 4, 9.0, deficient=True),
    case("rank_one", 8, 5, 1, 2.0),
]
path = Path(__file__).with_suffix(".json")
path.write_text(json.dumps(cases, indent=None, separators=(",", ":")) + "\n")
print(path, path.stat().st_size, "bytes, numpy", np.__version__, "torch", torch.__version__)
