"""The adapter of `tiny` as others write it: `adapter_model.bin`, kohya's file, mlx-lm's folders. What a model computes with each is in tiny.safetensors.
Then two more in mlx-lm's folders, DoRA beside `tiny` and LoRA with an embedding beside each model, with what mlx-lm's formulas give.

usage: foreign.py                   needs: torch, transformers, safetensors; tiny.py before it
writes: foreign/bin/, foreign/kohya.safetensors, foreign/mlx/, foreign/mlx-alpha/, foreign/mlx-dora/, foreign/mlx-embedding/, foreign/mlx-tied/, and
foreign.safetensors, the logits `NAME.logits.I` in float64
"""
import json
import os
import shutil
from collections import OrderedDict

import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import embedding, linear
from transformers import LlamaForCausalLM

from reference import HERE, numbers, save, to_float64
from tiny import padded

OUT = os.path.join(HERE, "foreign")
ADAPTER = os.path.join(HERE, "tiny-adapter")
PREFIX = "base_model.model."


def folder(name):
    path = os.path.join(OUT, name)
    os.makedirs(path, exist_ok=True)
    return path


def write_json(content, *path):
    with open(os.path.join(*path), "w") as file:
        json.dump(content, file, indent=2)
        file.write("\n")


tensors = load_file(os.path.join(ADAPTER, "adapter_model.safetensors"))
with open(os.path.join(ADAPTER, "adapter_config.json")) as file:
    config = json.load(file)
scale = config["lora_alpha"] / config["r"]
names = sorted({name.removeprefix(PREFIX).rsplit(".lora_", 1)[0] for name in tensors})
pairs = {name: (tensors[f"{PREFIX}{name}.lora_A.weight"], tensors[f"{PREFIX}{name}.lora_B.weight"]) for name in names}

# All ways in which torch writes a tensor: plain, as a parameter, a view with strides, a slice of a larger storage, in float64.
ways = [
    lambda t: t,
    lambda t: torch.nn.Parameter(t),
    lambda t: t.t().contiguous().t(),
    lambda t: torch.cat([torch.full((2, t.shape[1]), 9.0), t, t])[2:2 + t.shape[0]],
    lambda t: t.double(),
]
state = OrderedDict((name, ways[i % len(ways)](tensor)) for i, (name, tensor) in enumerate(sorted(tensors.items())))
state._metadata = OrderedDict([("", {"version": 1})])  # as module.state_dict() has it
assert sum(not t.is_contiguous() for t in state.values()) > 3
path = folder("bin")
torch.save(state, os.path.join(path, "adapter_model.bin"))
shutil.copy(os.path.join(ADAPTER, "adapter_config.json"), path)
back = torch.load(os.path.join(path, "adapter_model.bin"), weights_only=True)
assert all(torch.equal(back[name].float(), tensor) for name, tensor in tensors.items())

# Alphas that differ; B makes up for it, but for one layer without an alpha, whose scale is then 1.
kohya = {}
for i, (name, (a, b)) in enumerate(pairs.items()):
    module = "lora_te_" + name.replace(".", "_")
    alpha = [3.0, 6.0, 12.0][i % 3]
    kohya[f"{module}.lora_down.weight"] = a
    if i == 4:
        kohya[f"{module}.lora_up.weight"] = (b * scale).contiguous()
    else:
        kohya[f"{module}.lora_up.weight"] = (b * (scale * a.shape[0] / alpha)).contiguous()
        kohya[f"{module}.alpha"] = torch.tensor(alpha)
save_file(kohya, os.path.join(OUT, "kohya.safetensors"), {"ss_network_module": "networks.lora"})

# mlx: x @ a @ b, so both are transposed.
mlx = {f"{name}.lora_{which}": tensor.t().contiguous() for name, pair in pairs.items() for which, tensor in zip("ab", pair)}
keys = sorted({name.split(".", 3)[3] for name in names})
for name, parameters in {"mlx": {"rank": 3, "scale": scale, "dropout": 0.0, "keys": keys}, "mlx-alpha": {"rank": 3, "alpha": 6.0, "scale": scale / 2, "dropout": 0.0}}.items():
    save_file(mlx, os.path.join(folder(name), "adapters.safetensors"))
    write_json({"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": parameters, "model": "tiny"}, OUT, name, "adapter_config.json")


# The formulas of mlx_lm/tuner/lora.py and dora.py, with their names and shapes: x @ lora_a @ lora_b.
class Adapted(torch.nn.Module):
    def __init__(self, layer, scale, rank, dora, normal):
        super().__init__()
        out, inner = layer.weight.shape
        self.is_embedding = isinstance(layer, torch.nn.Embedding)
        self.weight, self.bias, self.scale = layer.weight.detach(), getattr(layer, "bias", None), scale
        rows, columns = (out, inner) if self.is_embedding else (inner, out)
        self.lora_a = normal(rows, rank, std=0.3)
        self.lora_b = normal(rank, columns, std=0.3)
        self.m = (self.weight.norm(dim=1) + normal(out, std=0.3)).float().double() if dora else None

    def forward(self, x):
        if self.is_embedding:
            return embedding(x, self.weight) + self.scale * self.lora_a[x] @ self.lora_b
        out = linear(x, self.weight) + self.scale * ((x @ self.lora_a) @ self.lora_b)
        if self.m is not None:
            adapted = self.weight + (self.scale * self.lora_b.T) @ self.lora_a.T
            out = (self.m / adapted.norm(dim=1)) * out
        return out if self.bias is None else out + self.bias

    def as_linear(self, x):
        return linear(x, self.weight) + self.scale * ((x @ self.lora_b.T) @ self.lora_a.T)


class TiedHead(torch.nn.Module):
    def __init__(self, table):
        super().__init__()
        self.table = [table]

    def forward(self, x):
        return self.table[0].as_linear(x)


golden = {}
for seed, (name, base, dora, keys) in enumerate([
    ("mlx-dora", "tiny", True, ["self_attn.q_proj", "mlp.down_proj"]),
    ("mlx-embedding", "tiny", False, ["self_attn.v_proj", "embed_tokens"]),
    ("mlx-tied", "tied", False, ["self_attn.o_proj", "embed_tokens"]),
]):
    normal = numbers(60 + seed)
    model = to_float64(LlamaForCausalLM.from_pretrained(os.path.join(HERE, base)))
    ids, _, mask = padded(json.load(open(os.path.join(HERE, f"{base}.json")))["rows"])
    plain = model(input_ids=ids, attention_mask=mask).logits
    written = {}
    for path, layer in list(model.named_modules()):
        if any(path.endswith("." + key) for key in keys):
            adapted = Adapted(layer, 1.75, 2, dora, normal)
            model.set_submodule(path, adapted)
            parts = ("lora_a", "lora_b", "m") if dora else ("lora_a", "lora_b")
            written.update({f"{path}.{part}": getattr(adapted, part).float().contiguous() for part in parts})
    if base == "tied":
        model.set_submodule("lm_head", TiedHead(model.model.embed_tokens))
    logits = model(input_ids=ids, attention_mask=mask).logits
    assert (logits - plain).norm() > 0.1 * plain.norm()
    golden.update({f"{name}.logits.{i}": logits[i, :int(mask[i].sum())] for i in range(len(ids))})
    save_file(written, os.path.join(folder(name), "adapters.safetensors"))
    write_json({"fine_tune_type": "dora" if dora else "lora", "num_layers": -1, "lora_parameters": {"rank": 2, "scale": 1.75, "dropout": 0.0, "keys": keys}, "model": base}, OUT, name, "adapter_config.json")
save(golden, "foreign.safetensors")
