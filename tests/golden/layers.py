"""Forward and backward of each layer by itself, in float64, from inputs that float32 holds exactly.

usage: layers.py                    needs: torch, transformers, safetensors
writes layers.safetensors beside it: `LAYER.NAME`, inputs in float32, what PyTorch computed from them in float64.
`d` before a name is the gradient with respect to it: `dy` is given, the others are the answer. README.md has the shapes.
"""
import torch
from torch.nn.functional import cross_entropy, embedding, gelu, layer_norm, linear, normalize, scaled_dot_product_attention, silu

from reference import numbers, rms_norm, rotary_angles, save

normal = numbers(1)
golden = {}


def record(layer, forward, inputs, trained, **constants):
    """Runs `forward(**inputs)`, sends a random `dy` back through it and keeps the gradients of `trained`."""
    for name in trained:
        inputs[name].requires_grad_()
    y = forward(**inputs)
    dy = normal(*y.shape) if y.dim() else torch.ones_like(y)
    gradients = torch.autograd.grad(y, [inputs[name] for name in trained], dy)
    for name, tensor in {**inputs, "dy": dy}.items():
        golden[f"{layer}.{name}"] = tensor.float() if tensor.is_floating_point() else tensor
    for name, value in constants.items():
        golden[f"{layer}.{name}"] = torch.tensor([value], dtype=torch.float64)
    golden[f"{layer}.y"] = y
    golden.update({f"{layer}.d{name}": gradient for name, gradient in zip(trained, gradients)})


record("rms_norm", lambda x, weight: rms_norm(x, weight, 1e-5),
       {"x": normal(7, 15, std=0.7), "weight": normal(15, mean=1.0, std=0.3)}, ["x", "weight"], eps=1e-5)

# Two rows packed in one sequence: positions start again at the border.
positions = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3])


def rotate(x, positions):
    cos, sin = (a[:, None, :] for a in rotary_angles(positions, x.shape[-1], 10000.0))
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


record("rotary", rotate, {"x": normal(9, 3, 10), "positions": positions}, ["x"], theta=10000.0)

# Rows of 4, 1 and 6 tokens; 6 query heads share 2 key-value heads.
row = torch.tensor([0] * 4 + [1] + [2] * 6)


def attention(q, k, v, starts):
    seen = (row[:, None] == row[None, :]) & torch.ones(11, 11).tril().bool()
    heads_first = [x.transpose(0, 1)[None] for x in (q, k, v)]
    return scaled_dot_product_attention(*heads_first, attn_mask=seen, enable_gqa=True)[0].transpose(0, 1)


record("attention", attention,
       {"q": normal(11, 6, 5, std=1.5), "k": normal(11, 2, 5, std=1.5), "v": normal(11, 2, 5), "starts": torch.tensor([0, 4, 5])},
       ["q", "k", "v"])

record("swiglu", lambda gate, up: silu(gate) * up, {"gate": normal(7, 13, std=2.0), "up": normal(7, 13)}, ["gate", "up"])

record("linear", lambda x, weight, bias: linear(x, weight, bias),
       {"x": normal(7, 11), "weight": normal(5, 11), "bias": normal(5)}, ["x", "weight", "bias"])

scale = 7 / 3
record("lora", lambda x, weight, a, b: linear(x, weight) + scale * linear(linear(x, a), b),
       {"x": normal(7, 11), "weight": normal(5, 11), "a": normal(3, 11), "b": normal(5, 3)}, ["x", "a", "b"], scale=scale)

# The mean over the trained tokens only; -1 marks a token that is not trained on.
targets = torch.tensor([3, -1, 16, 0, -1, 9, 9, -1, 12])


def loss(logits, targets):
    return cross_entropy(logits, targets, ignore_index=-1, reduction="mean")


record("cross_entropy", loss, {"logits": normal(9, 17, std=3.0), "targets": targets}, ["logits"])
record("head_loss", lambda x, weight, targets: loss(linear(x, weight), targets),
       {"x": normal(9, 8), "weight": normal(17, 8), "targets": targets}, ["x"])

# Below what was there first, so that the numbers above stay those they were.
record("layer_norm", lambda x, weight, bias: layer_norm(x, (15,), weight, bias, 1e-5),
       {"x": normal(7, 15, mean=0.5, std=0.7), "weight": normal(15, mean=1.0, std=0.3), "bias": normal(15)}, ["x", "weight", "bias"], eps=1e-5)

record("gelu_tanh", lambda x: gelu(x, approximate="tanh"), {"x": normal(9, 13, std=2.5)}, ["x"])
record("gelu_erf", gelu, {"x": normal(9, 13, std=2.5)}, ["x"])

# Qwen3: each of 3 heads of 6 by itself, one weight for all.
record("head_norm", lambda x, weight: rms_norm(x.unflatten(-1, (3, 6)), weight, 1e-6).flatten(-2),
       {"x": normal(7, 18, std=0.7), "weight": normal(6, mean=1.0, std=0.3)}, ["x"], eps=1e-6)

record("positions", lambda x, table, positions: x + embedding(positions, table),
       {"x": normal(9, 7), "table": normal(11, 7), "positions": positions}, ["x", "table"])

# Queries, keys and values in one product; sums with different factors keep their gradients apart.
record("fused", lambda whole: torch.cat([part * factor for part, factor in zip(whole.split([6, 4, 4], dim=-1), (1.0, 2.0, -3.0))], dim=-1),
       {"whole": normal(5, 14)}, ["whole"])

record("unit_rows", lambda x, weight: linear(x, normalize(weight)), {"x": normal(5, 7), "weight": normal(9, 7, std=3.0)}, ["x"])

save(golden, "layers.safetensors")
for name, tensor in golden.items():
    print(f"{name:24} {str(tensor.dtype)[6:]:8} {list(tensor.shape)}")
