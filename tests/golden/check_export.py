"""Loads a folder that we exported with the real transformers, and holds it against the golden numbers.

usage: check_export.py FOLDER NAME     needs: torch, transformers, peft, safetensors
NAME is `tiny` or `tied`: the logits with its adapter, in float64; or `logits`: SmolLM2, where tokenizer, greedy continuations and
logits must be those of logits.json, in float32.
"""
import json
import os
import sys

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from reference import HERE, to_float64

folder, name = sys.argv[1:]
model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
assert not info["missing_keys"] and not info["unexpected_keys"], info
with open(os.path.join(HERE, f"{name}.json")) as file:
    golden = json.load(file)
worst = 0.0
with torch.no_grad():
    if name != "logits":
        model = to_float64(PeftModel.from_pretrained(model, os.path.join(HERE, f"{name}-adapter")))
        truth = load_file(os.path.join(HERE, f"{name}.safetensors"))
        for i, row in enumerate(golden["rows"]):
            logits = model(input_ids=torch.tensor([row["ids"]])).logits[0]
            worst = max(worst, ((logits - truth[f"logits.{i}"]).norm() / truth[f"logits.{i}"].norm()).item())
        assert worst < 1e-12, worst
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for prompt in golden["prompts"]:
            assert tokenizer(prompt["text"])["input_ids"] == prompt["ids"], prompt["name"]
            ids = torch.tensor([prompt["ids"]])
            last = model(input_ids=ids).logits[0, -1]
            truth = load_file(os.path.join(HERE, f"logits-{prompt['name']}.safetensors"))["last"]
            worst = max(worst, (last - truth).abs().max().item())
            # Stops are part of the folder: the golden continuation goes on beyond them.
            new = model.generate(ids, max_new_tokens=16, do_sample=False, pad_token_id=0)[0, ids.shape[1]:].tolist()
            assert new == prompt["continuation"][:len(new)], (new, prompt["continuation"])
        assert worst < 1e-3, worst
        print(tokenizer.apply_chat_template([{"role": "user", "content": "3 + 5?"}], tokenize=False, add_generation_prompt=True))
print(folder, "is off by", worst)
