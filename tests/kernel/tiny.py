"""A tiny llama with a tokenizer of single bytes as a Hugging Face folder, and rows to train it on.

A step takes about as long as a blink, so that 500 of them can be stopped in the middle.
"""

from __future__ import annotations

import json
import math
import random
import struct
from array import array
from pathlib import Path

SPECIALS = ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<pad>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY, WIDTH, HEADS, KV_HEADS, HEAD, INTERMEDIATE, LAYERS = 262, 64, 4, 2, 16, 128, 4
CONFIG = {
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD,
    "intermediate_size": INTERMEDIATE,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512,
    "hidden_act": "silu",
}


def matrices() -> dict[str, tuple[int, int]]:
    """Names and shapes, [out, in]."""
    shapes = {"model.embed_tokens": (VOCABULARY, WIDTH), "lm_head": (VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        shapes |= {
            f"{at}.self_attn.q_proj": (HEADS * HEAD, WIDTH),
            f"{at}.self_attn.k_proj": (KV_HEADS * HEAD, WIDTH),
            f"{at}.self_attn.v_proj": (KV_HEADS * HEAD, WIDTH),
            f"{at}.self_attn.o_proj": (WIDTH, HEADS * HEAD),
            f"{at}.mlp.gate_proj": (INTERMEDIATE, WIDTH),
            f"{at}.mlp.up_proj": (INTERMEDIATE, WIDTH),
            f"{at}.mlp.down_proj": (WIDTH, INTERMEDIATE),
        }
    return shapes


def tensors() -> dict[str, tuple[list[int], array[float]]]:
    """Shapes and values, the same each time."""
    drawn = random.Random(42)
    made = {}
    for name, (out, inner) in matrices().items():
        std = 0.5 if "embed" in name else 1.5 / math.sqrt(inner)
        values = array("f", (drawn.gauss(0, std) for _ in range(out * inner)))
        made[f"{name}.weight"] = ([out, inner], values)
    norms = ["model.norm"]
    for layer in range(LAYERS):
        norms += [f"model.layers.{layer}.{name}" for name in ("input_layernorm", "post_attention_layernorm")]
    for name in norms:
        made[f"{name}.weight"] = ([WIDTH], array("f", (drawn.gauss(1, 0.3) for _ in range(WIDTH))))
    return made


def safetensors(path: Path) -> None:
    header, body = {}, bytearray()
    for name, (shape, values) in tensors().items():
        data = values.tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def stand_ins() -> list[str]:
    """GPT-2's stand-ins of the 256 bytes."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    more = iter(range(256, 512))
    return [chr(byte if byte in plain else next(more)) for byte in range(256)]


def tokenizer() -> dict[str, object]:
    stage = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": 256 + number, "content": name} | flags for number, name in enumerate(SPECIALS)]
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "vocab": {text: identity for identity, text in enumerate(stand_ins())},
        "merges": [],
    }
    rest = dict.fromkeys(["truncation", "padding", "normalizer", "post_processor"])
    stages = {"pre_tokenizer": stage, "decoder": stage}
    return {"version": "1.0", "added_tokens": added, "model": model} | rest | stages


def write_model(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    roles = {"bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>", "pad_token": "<pad>"}
    files = {
        "config.json": CONFIG,
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": roles | {"chat_template": TEMPLATE},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    safetensors(folder / "model.safetensors")


def write_rows(path: Path, rows: int = 200) -> None:
    """Sums with their answers."""
    lines = []
    for number in range(rows):
        a, b = number % 17, number * 7 % 23
        story = f"A farmer has {a} geese and buys {b} more. How many geese are there now?"
        answer = f"There were {a} geese, and {b} came: {a} + {b} = {a + b}. There are {a + b} geese."
        lines.append(json.dumps({"prompt": story, "completion": answer}))
    path.write_text("\n".join(lines) + "\n")


def write(folder: Path) -> None:
    """`model` and `rows.jsonl`."""
    write_model(folder / "model")
    write_rows(folder / "rows.jsonl")
