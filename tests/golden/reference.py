"""What the golden scripts share: a Llama that computes in float64 throughout, seeded numbers, files that come out the same.

transformers takes norms and rotary angles in float32 whatever the dtype of the weights. `to_float64` puts the same
formulas in float64 in their place, so that a golden number is right to 1e-12 and a test measures our error alone.
"""
import os
import types

import torch
from safetensors.torch import save_file
from transformers import logging
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding

logging.disable_progress_bar()
torch.set_num_threads(1)  # sums in one order: the same files on every machine of a kind
HERE = os.path.dirname(os.path.abspath(__file__))


def rms_norm(x, weight, eps):
    return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def rotary_angles(positions, head_dim, theta):
    """cos and sin [..., head_dim] in float64; the second half repeats the first (Hugging Face's half-split layout)."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = positions[..., None].double() * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def to_float64(model):
    def norm(self, x):
        return rms_norm(x, self.weight, self.variance_epsilon)

    def angles(self, x, position_ids):
        theta = self.config.rope_parameters["rope_theta"]
        return rotary_angles(position_ids, self.config.head_dim, theta)

    for module in model.double().modules():
        if isinstance(module, LlamaRMSNorm):
            module.forward = types.MethodType(norm, module)
        elif isinstance(module, LlamaRotaryEmbedding):
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
