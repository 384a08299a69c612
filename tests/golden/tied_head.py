"""What PEFT makes of three adapters of a model whose head is its embedding: LoRA on the head, the head whole, the embedding whole.

usage: tied_head.py                 needs: torch, transformers, peft, safetensors, and ../cases/16-head-of-a-tied-model
writes tied_head.safetensors: for each adapter the logits [4, V] of the last four of the tokens 40 to 71, computed in float64
"""
import os
import warnings

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from reference import HERE, save, to_float64

warnings.simplefilter("ignore")
CASE = os.path.join(HERE, "..", "cases", "16-head-of-a-tied-model")
tensors = {}
for name in ("lora-head", "whole-head", "whole-embedding"):
    model = AutoModelForCausalLM.from_pretrained(os.path.join(CASE, "model"), dtype=torch.float32)
    model = to_float64(PeftModel.from_pretrained(model, os.path.join(CASE, name)).eval())
    with torch.no_grad():
        tensors[name] = model(input_ids=torch.arange(40, 72)[None]).logits[0, -4:].float()
    print(name, tensors[name].abs().max().item())
save(tensors, "tied_head.safetensors")
