"""Subspaces, amplification, intruders, cuts and measures with NumPy's dense SVD: tests/golden/subspace.json.

Everything is computed from the dense ΔW = scale·B·A in float64. Matrices are lists of rows.

usage: python tests/golden/subspace.py        needs: numpy
"""
import json
from pathlib import Path

import numpy as np

random = np.random.default_rng(7)


def rows(matrix):
    return [[float(x) for x in row] for row in matrix]


def adapter(out, width, rank, scale):
    """Numbers that float32 holds exactly."""
    a = random.standard_normal((rank, width)).astype(np.float32)
    b = (random.standard_normal((out, rank)) * 1.5 ** -np.arange(rank)).astype(np.float32)
    delta = scale * (b.astype(np.float64) @ a.astype(np.float64))
    return {"rank": rank, "scale": scale, "a": rows(a), "b": rows(b)}, delta


def directions(matrix, count):
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return u[:, :count], s[:count], vt[:count].T


def phi(u1, u2):
    """Hu et al. 2021, section 7.2, equation 4."""
    return [
        [float(np.linalg.norm(u1[:, :i].T @ u2[:, :j]) ** 2 / min(i, j)) for j in range(1, u2.shape[1] + 1)]
        for i in range(1, u1.shape[1] + 1)
    ]


def intruders(weight, delta, count):
    """Shuttleworth et al. 2024, algorithm 1: the largest cosine with any singular vector of the weight."""
    known, _, _ = np.linalg.svd(weight, full_matrices=False)
    tuned, sigma, _ = np.linalg.svd(weight + delta, full_matrices=False)
    cosines = np.abs(known.T @ tuned[:, :count])
    return {
        "singular_values": sigma[:count].tolist(),
        "cosine": cosines.max(axis=0).tolist(),
        "nearest": (cosines.argmax(axis=0) + 1).tolist(),
    }


def case(name, out, width, ranks, scales, kept):
    one, delta = adapter(out, width, ranks[0], scales[0])
    two, other = adapter(out, width, ranks[1], scales[1])
    weight = (2.0 * random.standard_normal((out, width))).astype(np.float32).astype(np.float64)
    u, s, v = directions(delta, ranks[0])
    u2, _, v2 = directions(other, ranks[1])
    angles = np.arccos(np.clip(np.linalg.svd(v.T @ v2, compute_uv=False), 0, 1))
    r = min(2, *ranks)
    # Figure 3 of the paper compares the singular vectors of A itself; those of B are its counterpart.
    own = lambda adapter, key: directions(np.array(adapter[key], dtype=np.float64), adapter["rank"])

    # Inputs whose directions differ much in size, their X = E[x xᵀ], and C = A X Aᵀ.
    inputs = (random.standard_normal((3 * width, width)) * 0.6 ** np.arange(width)).astype(np.float32).astype(np.float64)
    a = np.array(one["a"], dtype=np.float64)
    c = (inputs @ a.T).T @ (inputs @ a.T) / len(inputs)
    second = inputs.T @ inputs / len(inputs)
    lam, e = np.linalg.eigh(second)
    half = e @ np.diag(np.sqrt(np.maximum(lam, 0))) @ e.T
    wu, ws, _ = np.linalg.svd(delta @ half, full_matrices=False)
    ws = ws[: ranks[0]]
    plain_cut = u[:, :kept] @ np.diag(s[:kept]) @ v[:, :kept].T
    best_cut = wu[:, :kept] @ wu[:, :kept].T @ delta
    error = lambda cut: float(np.mean(np.sum((inputs @ (delta - cut).T) ** 2, axis=1)))
    assert abs(error(best_cut) - np.sum(ws[kept:] ** 2)) < 1e-12 * np.sum(ws**2)
    assert error(best_cut) <= error(plain_cut)

    p2, p4 = np.sum(s**2), np.sum(s**4)
    return {
        "name": name, "out": out, "in": width, "one": one, "two": two, "weight": rows(weight),
        "phi_right": phi(v, v2), "phi_left": phi(u, u2), "angles": np.sort(angles)[: min(ranks)].tolist(),
        "phi_a": phi(own(one, "a")[2], own(two, "a")[2]), "phi_b": phi(own(one, "b")[0], own(two, "b")[0]),
        "amplification": {
            "rank": r, "delta_norm": float(np.linalg.norm(delta)), "weight_norm": float(np.linalg.norm(weight)),
            "along_delta": float(np.linalg.norm(u[:, :r].T @ weight @ v[:, :r])),
            "along_weight": float(np.linalg.norm(np.linalg.svd(weight, compute_uv=False)[:r])),
        },
        "intruders": intruders(weight, delta, 4),
        "c": rows(c), "inputs": rows(inputs), "kept": kept,
        "weighted": ws.tolist(),
        "plain_cut": rows(plain_cut), "best_cut": rows(best_cut),
        "plain_error": error(plain_cut), "best_error": error(best_cut),
        "measures": {
            "participation_ratio": float(p2**2 / p4), "nuclear_norm": float(s.sum()),
            "condition": float(s[0] / s[-1]), "first_share": float(s[0] ** 2 / p2),
            "numerical_rank": int(np.linalg.matrix_rank(delta)),
            "relative_norm": float(np.linalg.norm(delta) / np.linalg.norm(weight)),
        },
    }


cases = [
    case("odd", 13, 17, (5, 3), (7 / 5, 2.0), 2),
    case("tall", 29, 8, (4, 6), (0.75, 11 / 6), 3),
    case("wide", 7, 31, (3, 3), (5 / 3, 5 / 3), 1),
]
path = Path(__file__).with_suffix(".json")
path.write_text(json.dumps(cases, indent=None, separators=(",", ":")) + "\n")
print(path, path.stat().st_size, "bytes, numpy", np.__version__)
