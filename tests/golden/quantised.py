"""A tiny random Llama in GGUF's blocks, quantised and dequantised by the `gguf` package, and what PyTorch and PEFT make of the dequantised weights.

usage: quantised.py                 needs: torch, transformers, peft, safetensors, gguf
writes: quantised.gguf, quantised-adapter/ (PEFT folder), quantised.safetensors, quantised.json
Each matrix has a type of its own; both sides start from the same blocks, and PyTorch computes in float64.
"""
import json
import os
import tempfile

import gguf
import torch
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM

from reference import HERE, numbers, save, to_float64
from tiny import ALL_LINEAR, adapter, check_packed, loss_of, make_adapter, make_rows, padded

NAME = "quantised"
SIZES = dict(vocab_size=61, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             head_dim=16, max_position_embeddings=64, rms_norm_eps=1e-5)
THETA = 10000.0
# By the part of a block; the second block turns the list, so that a type meets more than one place.
TYPES = [Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.Q4_0]
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
OUTSIDE = {"model.embed_tokens": ("token_embd", Type.Q8_0), "lm_head": ("output", Type.Q4_1), "model.norm": ("output_norm", Type.F32)}


def place(name):
    """GGUF's name and type for a tensor that Hugging Face calls `name`."""
    name = name.removesuffix(".weight")
    if name in OUTSIDE:
        other, kind = OUTSIDE[name]
        return f"{other}.weight", kind
    _, _, layer, part = name.split(".", 3)
    kind = Type.F32 if "norm" in part else TYPES[(list(NAMES).index(part) + 3 * int(layer)) % len(TYPES)]
    return f"blk.{layer}.{NAMES[part]}.weight", kind


def interleaved(weight, heads):
    """Rows of rotated heads in GGUF's order, as llama.cpp's converter puts them."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def halves_apart(weight, heads):
    return weight.reshape(heads, weight.shape[0] // heads // 2, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def make_model(folder):
    """Writes the GGUF file, and the dequantised weights as a Hugging Face folder in float32, which holds them exactly."""
    normal = numbers(40)
    config = LlamaConfig(hidden_act="silu", bos_token_id=1, eos_token_id=2, rope_parameters={"rope_type": "default", "rope_theta": THETA}, **SIZES)
    model = LlamaForCausalLM(config)
    writer = gguf.GGUFWriter(os.path.join(HERE, f"{NAME}.gguf"), "llama")
    writer.add_vocab_size(SIZES["vocab_size"])
    writer.add_embedding_length(SIZES["hidden_size"])
    writer.add_block_count(SIZES["num_hidden_layers"])
    writer.add_head_count(SIZES["num_attention_heads"])
    writer.add_head_count_kv(SIZES["num_key_value_heads"])
    writer.add_rope_dimension_count(SIZES["head_dim"])
    writer.add_rope_freq_base(THETA)
    writer.add_feed_forward_length(SIZES["intermediate_size"])
    writer.add_context_length(SIZES["max_position_embeddings"])
    writer.add_layer_norm_rms_eps(SIZES["rms_norm_eps"])
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                value = normal(*weight.shape, mean=1.0, std=0.3)
            elif "embed" in name:
                value = normal(*weight.shape, std=0.5)
            else:
                value = normal(*weight.shape, std=1.5 * weight.shape[1] ** -0.5)
            heads = {"q_proj": SIZES["num_attention_heads"], "k_proj": SIZES["num_key_value_heads"]}.get(name.split(".")[-2])
            value = value.float().numpy()
            stored = interleaved(value, heads) if heads else value
            theirs, kind = place(name)
            if kind == Type.F32:
                writer.add_tensor(theirs, stored)
            else:
                blocks = quantize(stored, kind)
                writer.add_tensor(theirs, blocks, raw_dtype=kind)
                stored = dequantize(blocks, kind)
                assert abs(stored - (interleaved(value, heads) if heads else value)).max() > 0, f"{name} is not changed by {kind.name}"
            weight.copy_(torch.from_numpy((halves_apart(stored, heads) if heads else stored).copy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model.save_pretrained(folder)


with tempfile.TemporaryDirectory() as temporary:
    folder, adapter_folder = os.path.join(temporary, NAME), os.path.join(HERE, f"{NAME}-adapter")
    make_model(folder)
    make_adapter(folder, dict(r=3, lora_alpha=7, lora_dropout=0.0, target_modules=ALL_LINEAR), 41, adapter_folder)
    rows = make_rows(SIZES["vocab_size"], [9, 14, 6], 42)
    ids, labels, mask = padded(rows)
    model = to_float64(PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(folder), adapter_folder, is_trainable=True))
    logits = model(input_ids=ids, attention_mask=mask).logits
    loss = loss_of(logits, labels)
    loss.backward()
    gradients = adapter(model, lambda p: p.grad)
    assert all(g.abs().max() > 0 for g in gradients.values()), "a gradient is zero: the test would be blind there"
    check_packed(model, rows, loss.item())
    tensors = {f"logits.{i}": logits[i, :len(row["ids"])] for i, row in enumerate(rows)}
    save(tensors | {f"grad.{n}": g for n, g in gradients.items()}, f"{NAME}.safetensors")
    golden = {"rows": rows, "trained_tokens": int((labels[:, 1:] != -100).sum()), "loss": loss.item(),
              "grad_norm": torch.stack([g.norm() for g in gradients.values()]).norm().item()}
    with open(os.path.join(HERE, f"{NAME}.json"), "w") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")
    print(NAME, "loss", golden["loss"], "norm", golden["grad_norm"])
