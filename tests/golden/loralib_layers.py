"""What Microsoft's loralib makes of its layers, in float64, from inputs that float32 holds exactly.

usage: loralib_layers.py            needs: torch, transformers, safetensors, loralib; tiny.py before it
writes loralib.safetensors and loralib.json beside it: `CASE.NAME`, inputs in float32, answers in float64. `d` before a name is
the gradient with respect to it (`dy` is given), `merged` the weight that `eval()` leaves, `settled.NAME` what a forward pass has
made of a trained tensor in place, `after.NAME` a trained tensor after the steps.
"""
import json
import os

import loralib as lora
import torch
from transformers import LlamaForCausalLM

from reference import HERE, numbers, save, to_float64
from tiny import BETAS, EPS, LR, loss_of, padded

normal = numbers(41)
golden, cases = {}, {}
STEPS = 5


def with_values(layer, **values):
    layer = layer.double()
    for name, value in values.items():
        getattr(layer, name).data = value.clone()
    return layer


def record(case, layer, x, **constants):
    """One pass with a random `dy`; then the merged weight."""
    names = {"weight": "weight", "lora_A": "a", "lora_B": "b", "bias": "bias"}
    given = {short: getattr(layer, name).detach().clone() for name, short in names.items() if getattr(layer, name, None) is not None}
    floats = x.is_floating_point()
    y = layer(x.requires_grad_() if floats else x)
    dy = normal(*y.shape)
    wanted = [layer.lora_A, layer.lora_B] + ([x] if floats else [])
    gradients = torch.autograd.grad(y, wanted, dy)
    for name, tensor in {**given, "x": x, "dy": dy}.items():
        golden[f"{case}.{name}"] = tensor.float() if tensor.is_floating_point() else tensor
    golden[f"{case}.y"] = y
    golden.update({f"{case}.d{name}": g for name, g in zip(["a", "b", "x"], gradients)})
    golden[f"{case}.settled.a"] = layer.lora_A.detach().clone()
    golden[f"{case}.settled.weight"] = layer.weight.detach().clone()
    layer.eval()
    golden[f"{case}.merged"] = layer.weight.detach().clone()
    layer.train()
    cases[case] = {"scale": layer.scaling, **constants}


IDS = torch.tensor([3, 4, 0, 3, 9, 4, 10, 1, 3])


def embedding(**options):
    return with_values(lora.Embedding(11, 7, r=3, lora_alpha=7, **options), weight=normal(11, 7, std=0.65), lora_A=normal(3, 11, std=0.8), lora_B=normal(7, 3))


record("embedding", embedding(), IDS)
record("padded", embedding(padding_idx=4), IDS, padding=4)
record("short", embedding(max_norm=1.3), IDS, max_norm=1.3)
record("padded_short", embedding(padding_idx=4, max_norm=1.3), IDS, padding=4, max_norm=1.3)
for case in ("short", "padded_short"):
    for name, along in (("weight", 1), ("a", 0)):
        changed = (golden[f"{case}.settled.{name}"] - golden[f"{case}.{name}"].double()).abs().amax(along) > 1e-3
        assert 0 < changed.sum() < len(set(IDS.tolist())), (case, name, changed)

for case, options in {
    "merged_linear": dict(enable_lora=[True, False, True]),
    "merged_linear_all": dict(enable_lora=[True, True, True], bias=False),
    "merged_linear_turned": dict(enable_lora=[False, True, True], fan_in_fan_out=True),
}.items():
    layer = lora.MergedLinear(5, 12, r=2, lora_alpha=5, **options)
    turned = options.get("fan_in_fan_out", False)
    enabled = sum(options["enable_lora"])
    biased = {} if layer.bias is None else {"bias": normal(12)}
    with_values(layer, weight=normal(*((5, 12) if turned else (12, 5))), lora_A=normal(2 * enabled, 5), lora_B=normal(4 * enabled, 2), **biased)
    record(case, layer, normal(9, 5), **options)
try:
    lora.MergedLinear(5, 13, r=2, enable_lora=[True, False, True])
    raise SystemExit("13 rows in three equal parts")
except AssertionError as error:
    cases["indivisible"] = {"refused": str(error)}

layer = lora.Linear(6, 4, r=3, lora_alpha=7, fan_in_fan_out=True)
record("linear", with_values(layer, weight=normal(6, 4), lora_A=normal(3, 6), lora_B=normal(4, 3), bias=normal(4)), normal(8, 6), fan_in_fan_out=True)

# A whole model with a shortened embedding: five steps of AdamW on the rows of `tiny`.
model = LlamaForCausalLM.from_pretrained(os.path.join(HERE, "tiny"))
table = model.model.embed_tokens.weight.detach().clone()
max_norm = round(table.norm(dim=1).median().item(), 3)
model.requires_grad_(False)
layer = lora.Embedding(*table.shape, r=3, lora_alpha=7, max_norm=max_norm)
model.model.embed_tokens = layer
model = to_float64(model)
a = (0.6 * max_norm * normal(3, table.shape[0])).float().double()
b = normal(table.shape[1], 3, std=0.4).float().double()
with_values(layer, weight=table.double(), lora_A=a, lora_B=b)
rows = json.load(open(os.path.join(HERE, "tiny.json")))["rows"]
ids, labels, mask = padded(rows)
optimizer = torch.optim.AdamW([layer.lora_A, layer.lora_B], lr=LR, betas=BETAS, eps=EPS, weight_decay=0.0)
golden.update({"model.a": a.float(), "model.b": b.float()})
losses = []
for step in range(STEPS):
    logits = model(input_ids=ids, attention_mask=mask).logits
    loss = loss_of(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    if step == 0:
        golden.update({"model.da": layer.lora_A.grad.clone(), "model.db": layer.lora_B.grad.clone()})
        golden.update({f"model.logits.{i}": logits[i, :len(row["ids"])].detach() for i, row in enumerate(rows)})
    optimizer.step()
    losses.append(loss.item())
golden.update({"model.after.a": layer.lora_A.detach().clone(), "model.after.b": layer.lora_B.detach().clone()})
seen = sorted({i for row in rows for i in row["ids"]})
assert 1 < (a[:, seen].norm(dim=0) > max_norm).sum() < len(seen)
cases["model"] = {"scale": layer.scaling, "max_norm": max_norm, "losses": losses, "lr": LR, "beta1": BETAS[0], "beta2": BETAS[1], "eps": EPS}

save(golden, "loralib.safetensors")
with open(os.path.join(HERE, "loralib.json"), "w") as file:
    json.dump(cases, file, indent=1)
    file.write("\n")
