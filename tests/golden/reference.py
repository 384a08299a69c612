"""What the golden scripts share: models that compute in float64 throughout, seeded numbers, files that come out the same.

transformers takes norms and rotary angles in float32 whatever the dtype of the weights. `to_float64` puts the same
formulas in float64 in their place, so that a golden number is right to 1e-12 and a test measures our error alone.
"""
import math
import os
import types

import torch
from safetensors.torch import save_file
from transformers import logging

logging.disable_progress_bar()
torch.set_num_threads(1)  # sums in one order: the same files on every machine of a kind
HERE = os.path.dirname(os.path.abspath(__file__))


def rms_norm(x, weight, eps):
    return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def scaled(frequencies, rope):
    """Llama 3.1's scaling in float64: waves longer than original/low turn slower, those between original/high and it partly."""
    if rope.get("rope_type", "default") == "default":
        return frequencies
    assert rope["rope_type"] == "llama3", rope
    factor, low, high, original = (rope[k] for k in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"))
    waves = 2 * math.pi / frequencies
    smooth = (original / waves - low) / (high - low)
    between = (1 - smooth) * frequencies / factor + smooth * frequencies
    return torch.where(waves > original / low, frequencies / factor, torch.where(waves < original / high, frequencies, between))


def rotary_angles(positions, head_dim, theta, rope={}):
    """cos and sin [..., head_dim] in float64; the second half repeats the first (Hugging Face's half-split layout)."""
    frequencies = scaled(theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim), rope)
    angles = positions[..., None].double() * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def to_float64(model):
    def norm(self, x):
        return rms_norm(x, self.weight, self.variance_epsilon)

    def angles(self, x, position_ids):
        rope = self.config.rope_parameters
        head_dim = getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads
        ours = rotary_angles(position_ids, head_dim, rope["rope_theta"], rope)
        once = self.inv_freq.float() - scaled(rope["rope_theta"] ** (-torch.arange(0, head_dim, 2).double() / head_dim), rope)
        assert once.abs().max() < 1e-6, "the formula in float64 is not that of transformers"
        return ours

    for module in model.double().modules():
        if type(module).__name__ in ("LlamaRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"):
            module.forward = types.MethodType(norm, module)
        elif type(module).__name__ in ("LlamaRotaryEmbedding", "Qwen2RotaryEmbedding", "Qwen3RotaryEmbedding"):
            module.forward = types.MethodType(angles, module)
    return model


def numbers(seed):
    """A source of normal float64 tensors whose values float32 holds exactly: both sides start from the same inputs."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, std=1.0, mean=0.0):
        return (mean + std * torch.randn(shape, generator=generator)).double()

    return normal


def save(tensors, *path):
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, os.path.join(HERE, *path))
