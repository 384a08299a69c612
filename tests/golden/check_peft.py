"""Loads an adapter with the real PEFT and prints the logits, to hold ours against.

usage: check_peft.py ADAPTER MODEL IDS.json [--last] [--double]     needs: torch, transformers, peft, safetensors
IDS.json is one row of token ids or a list of rows. Prints one line of JSON:
{"logits": for each row [T][V], or [V] with --last, "adapted": the modules that the adapter changes}.
Fails when PEFT leaves out a tensor of the file, which by itself it does with no more than a warning.
"""
import argparse
import json
import os

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from reference import to_float64

args = argparse.ArgumentParser()
args.add_argument("adapter")
args.add_argument("model")
args.add_argument("ids")
args.add_argument("--last", action="store_true", help="only the logits of each row's last position")
args.add_argument("--double", action="store_true", help="compute in float64")
args = args.parse_args()

model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
model = PeftModel.from_pretrained(model, args.adapter).eval()
saved = load_file(os.path.join(args.adapter, "adapter_model.safetensors"))
loaded = get_peft_model_state_dict(model)
if set(saved) != set(loaded):
    raise SystemExit(f"only in the file: {sorted(set(saved) - set(loaded))}; only in PEFT's model: {sorted(set(loaded) - set(saved))}")
changed = [name for name, tensor in saved.items() if not torch.equal(tensor.to(loaded[name].dtype), loaded[name])]
if changed:
    raise SystemExit(f"PEFT's values differ from the file's: {changed}")
if args.double:
    to_float64(model)

with open(args.ids) as file:
    rows = json.load(file)
if rows and isinstance(rows[0], int):
    rows = [rows]
with torch.no_grad():
    logits = [model(input_ids=torch.tensor([row]), use_cache=False).logits[0] for row in rows]
adapted = sorted(name.split("base_model.model.")[-1].removesuffix(".lora_A") for name, _ in model.named_modules() if name.endswith(".lora_A"))
print(json.dumps({"logits": [(row[-1] if args.last else row).tolist() for row in logits], "adapted": adapted}))
