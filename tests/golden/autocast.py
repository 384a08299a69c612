"""Ten AdamW steps of the models of tiny.py and families.py with their adapters in mixed precision: PyTorch's autocast to
bfloat16 on the CPU, weights and adapters in float32, the loss in float32.

usage: autocast.py                  needs: torch, transformers, peft, safetensors, and the folders that tiny.py and families.py made
writes: autocast.json, NAME: `losses` that the ten steps saw, `loss_after` the tenth, `gradient_error` of the first gradients:
the largest distance of a tensor from that in float64, relative to its norm
"""
import json
import os

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from families import Baichuan2
from reference import HERE
from tiny import BETAS, EPS, LR, STEPS, adapter, loss_of, padded, worst_error

NAMES = ["tiny", "tied", "qwen2", "qwen3", "gpt2", "llama3", "baichuan2"]


def steps(name):
    with open(os.path.join(HERE, f"{name}.json")) as file:
        ids, labels, mask = padded(json.load(file)["rows"])
    kind = Baichuan2 if name == "baichuan2" else AutoModelForCausalLM
    model = kind.from_pretrained(os.path.join(HERE, name))
    model = PeftModel.from_pretrained(model, os.path.join(HERE, f"{name}-adapter"), is_trainable=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.dtype == torch.float32 for p in model.parameters())
    optimizer = torch.optim.AdamW(trained, lr=LR, betas=BETAS, eps=EPS, weight_decay=0.0)

    def loss():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=ids, attention_mask=mask).logits
        assert logits.dtype == torch.bfloat16, logits.dtype
        return loss_of(logits.float(), labels)

    losses, gradient_error = [], None
    for _ in range(STEPS):
        optimizer.zero_grad()
        now = loss()
        now.backward()
        if not losses:
            truth = load_file(os.path.join(HERE, f"{name}.safetensors"))
            gradients = adapter(model, lambda p: p.grad)
            gradient_error = worst_error(gradients, {n: truth[f"grad.{n}"] for n in gradients})
        optimizer.step()
        losses.append(now.item())
    return {"losses": losses, "loss_after": loss().item(), "gradient_error": gradient_error}


def main():
    golden = {name: steps(name) for name in NAMES}
    with open(os.path.join(HERE, "autocast.json"), "w") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")
    for name, record in golden.items():
        print(f"{name:10} {record['losses'][0]:.6f} → {record['loss_after']:.6f}, gradients off by {record['gradient_error']:.1e} of their norm at most")


if __name__ == "__main__":
    main()
