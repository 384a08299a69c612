"""The adapter of `tiny` as others write it: `adapter_model.bin`, kohya's file, mlx-lm's folders. What a model computes with each is in tiny.safetensors.

usage: foreign.py                   needs: torch, safetensors; tiny.py before it
writes: foreign/bin/, foreign/kohya.safetensors, foreign/mlx/, foreign/mlx-alpha/
"""
import json
import os
import shutil
from collections import OrderedDict

import torch
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
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
