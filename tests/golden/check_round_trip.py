"""Loads the adapters that lorascope wrote with the real PEFT and holds the logits against lorascope's.

usage: check_round_trip.py FOLDER …      needs: torch, transformers, peft, safetensors
FOLDER/NAME is an adapter, written by lorascope or by PEFT itself, with `logits.safetensors` (a matrix for each row of its base's rows); its base is a folder beside this
script. Fails when PEFT leaves out a tensor, or when a logit is off by more than 1e-4 of the largest.
"""
import json
import os
import sys

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from reference import HERE

failed = False
for name, folder in sorted((name, os.path.join(left, name)) for left in sys.argv[1:] for name in os.listdir(left)):
    base = json.load(open(os.path.join(folder, "adapter_config.json")))["base_model_name_or_path"]
    model = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, base), dtype=torch.float32)
    model = PeftModel.from_pretrained(model, folder).eval()
    saved, loaded = load_file(os.path.join(folder, "adapter_model.safetensors")), get_peft_model_state_dict(model)
    plain = lambda names: {n.replace(".base_layer.", ".") for n in names}
    left_out = plain(saved) - plain(loaded) - plain(model.state_dict())
    truth = load_file(os.path.join(folder, "logits.safetensors"))
    rows = json.load(open(os.path.join(HERE, f"{base}.json")))["rows"]
    with torch.no_grad():
        pairs = [(model(input_ids=torch.tensor([row["ids"]]), use_cache=False).logits[0], truth[str(i)]) for i, row in enumerate(rows)]
    off = max(((ours - theirs).abs().max() / ours.abs().max()).item() for ours, theirs in pairs)
    print(f"{name:36} {len(saved):3} tensors, logits off by {off:.1e} {'left out: ' + str(left_out) if left_out else ''}")
    failed |= bool(left_out) or off > 1e-4
sys.exit(failed)
