"""Tiny random models of the other families, each with a PEFT adapter, and what PyTorch and PEFT make of them, as tiny.py.

usage: families.py                  needs: torch, transformers, peft, safetensors
writes, for `qwen2`, `qwen3`, `gpt2`, `llama3` and `baichuan2`:  NAME/, NAME-adapter/, NAME.safetensors, NAME.json
Transformers has no Baichuan2: the model below is ours, after the authors' modeling_baichuan.py of the 7B.
"""
import json
import os
from types import SimpleNamespace

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import linear, normalize, scaled_dot_product_attention, silu
from transformers import (GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
                          Qwen3ForCausalLM)

from reference import HERE, rms_norm, rotary_angles
from tiny import make_golden

ROPE = {"rope_type": "default", "rope_theta": 10000.0}


class RmsNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.heads = c.num_attention_heads
        self.W_pack = nn.Linear(c.hidden_size, 3 * c.hidden_size, bias=False)
        self.o_proj = nn.Linear(c.hidden_size, c.hidden_size, bias=False)

    def forward(self, x, positions, seen):
        by_heads = lambda y: y.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, H, T, W]
        q, k, v = map(by_heads, self.W_pack(x).chunk(3, dim=-1))
        cos, sin = (a[:, None].to(x.dtype) for a in rotary_angles(positions, q.shape[-1], 10000.0))

        def rotate(y):
            first, second = y.chunk(2, dim=-1)
            return y * cos + torch.cat([-second, first], dim=-1) * sin

        y = scaled_dot_product_attention(rotate(q), rotate(k), v, attn_mask=seen)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.self_attn, self.mlp = Attention(c), Mlp(c)
        self.input_layernorm = RmsNorm(c.hidden_size, c.rms_norm_eps)
        self.post_attention_layernorm = RmsNorm(c.hidden_size, c.rms_norm_eps)

    def forward(self, x, positions, seen):
        x = x + self.self_attn(self.input_layernorm(x), positions, seen)
        return x + self.mlp(self.post_attention_layernorm(x))


class NormHead(nn.Module):
    """The head of Baichuan2: its rows have length 1."""

    def __init__(self, c):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(c.vocab_size, c.hidden_size))

    def forward(self, x):
        return linear(x, normalize(self.weight))


class Baichuan2(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.sizes = config  # not `config`: PEFT would look into it as if it were transformers'
        c = SimpleNamespace(**config)
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.model.layers = nn.ModuleList([Layer(c) for _ in range(c.num_hidden_layers)])
        self.model.norm = RmsNorm(c.hidden_size, c.rms_norm_eps)
        self.lm_head = NormHead(c)

    def forward(self, input_ids, attention_mask, position_ids=None):
        tokens = input_ids.shape[1]
        if attention_mask.dim() == 2:
            attention_mask = attention_mask.bool()[:, None, None] & torch.ones(tokens, tokens).tril().bool()
        if position_ids is None:
            position_ids = torch.arange(tokens)[None]
        x = self.model.embed_tokens(input_ids)
        for layer in self.model.layers:
            x = layer(x, position_ids, attention_mask)
        return SimpleNamespace(logits=self.lm_head(self.model.norm(x)))

    def save_pretrained(self, folder):
        os.makedirs(folder, exist_ok=True)
        save_file(self.state_dict(), os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(self.sizes, file, indent=2, sort_keys=True)
            file.write("\n")

    @classmethod
    def from_pretrained(cls, folder):
        with open(os.path.join(folder, "config.json")) as file:
            model = cls(json.load(file))
        model.load_state_dict(load_file(os.path.join(folder, "model.safetensors")))
        return model


def lora(r, alpha, modules, **more):
    return dict(r=r, lora_alpha=alpha, lora_dropout=0.0, target_modules=modules, **more)


QKVO, MLP = ["q_proj", "k_proj", "v_proj", "o_proj"], ["gate_proj", "up_proj", "down_proj"]
CAUSAL = {"task_type": "CAUSAL_LM"}

if __name__ == "__main__":
    # Biases on q, k and v without asking; tied, as the small ones are.
    make_golden(
        "qwen2",
        Qwen2ForCausalLM(Qwen2Config(
            vocab_size=67, hidden_size=30, intermediate_size=41, num_hidden_layers=2, num_attention_heads=5, num_key_value_heads=1,
            max_position_embeddings=64, rms_norm_eps=1e-6, rope_parameters=ROPE, tie_word_embeddings=True)),
        lora(3, 7, QKVO + MLP, **CAUSAL), lengths=[11, 5, 17], seed=100)

    # Norms of heads; heads wider than the model.
    make_golden(
        "qwen3",
        Qwen3ForCausalLM(Qwen3Config(
            vocab_size=59, hidden_size=15, intermediate_size=31, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=6,
            max_position_embeddings=64, rms_norm_eps=1e-6, rope_parameters=ROPE, tie_word_embeddings=False)),
        lora(2, 5, QKVO + MLP, **CAUSAL), lengths=[13, 1, 9], seed=200)

    # Odd heads, every projection of a block; PEFT says fan_in_fan_out.
    make_golden(
        "gpt2",
        GPT2LMHeadModel(GPT2Config(
            vocab_size=61, n_positions=64, n_embd=15, n_layer=2, n_head=3, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=1, eos_token_id=2)),
        lora(3, 7, ["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True, **CAUSAL), lengths=[7, 19, 3], seed=300)

    # Waves of 6, 10, 16, 25 and 40 tokens: the first is left alone, the last slowed down, those between partly.
    make_golden(
        "llama3",
        LlamaForCausalLM(LlamaConfig(
            vocab_size=71, hidden_size=21, intermediate_size=33, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3, head_dim=10,
            max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
            rope_parameters={"rope_type": "llama3", "rope_theta": 10.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 32})),
        lora(3, 4, ["q_proj", "v_proj"], **CAUSAL), lengths=[23, 6], seed=400)

    # `z_loss_weight` marks the second version, as the vocabulary of 125,696 does in the real one.
    make_golden(
        "baichuan2",
        Baichuan2(dict(
            model_type="baichuan", vocab_size=73, hidden_size=18, intermediate_size=29, num_hidden_layers=2, num_attention_heads=3,
            max_position_embeddings=64, rms_norm_eps=1e-6, hidden_act="silu", tie_word_embeddings=False, z_loss_weight=0)),
        lora(3, 7, ["W_pack", "o_proj", *MLP]), lengths=[11, 2, 15], seed=500)
