"""Frequencies of Llama 3.1 and 3.2 and GGUF's divisors for them: tests/golden/llama3_frequencies.json.

The formula is transformers' `_compute_llama3_parameters` (modeling_rope_utils.py), in float64; the divisors are
plain/scaled in float32, as llama.cpp's convert_hf_to_gguf.py writes `rope_freqs.weight`.

usage: python tests/golden/llama3_frequencies.py        needs: nothing
"""
import json
import math
import struct
from pathlib import Path


def case(name, theta, width, factor, low, high, original):
    plain = [theta ** (-2 * j / width) for j in range(width // 2)]
    scaled = []
    for f in plain:
        wave = 2 * math.pi / f
        if wave < original / high:
            scaled.append(f)
        elif wave > original / low:
            scaled.append(f / factor)
        else:
            smooth = (original / wave - low) / (high - low)
            scaled.append((1 - smooth) * f / factor + smooth * f)
    float32 = lambda x: struct.unpack("f", struct.pack("f", x))[0]
    return {
        "name": name, "theta": theta, "width": width, "frequencies": scaled,
        "divisors": [float32(p / s) for p, s in zip(plain, scaled)],
        "rope_scaling": {
            "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
            "original_max_position_embeddings": original,
        },
    }


cases = [
    case("Llama 3.1 8B", 500000.0, 128, 8.0, 1.0, 4.0, 8192),
    case("Llama 3.2 1B", 500000.0, 64, 32.0, 1.0, 4.0, 8192),
    case("another context", 10000.0, 64, 4.0, 1.0, 4.0, 3000),
    case("another high factor", 500000.0, 128, 16.0, 1.0, 8.0, 8192),
]
path = Path(__file__).with_suffix(".json")
path.write_text(json.dumps(cases, separators=(",", ":")) + "\n")
