"""Writes SmolLM2-135M-Instruct as a Hugging Face folder in float32, dequantised from the GGUF that `make model` fetches.

usage: smollm2_to_hf.py MODEL.gguf OUT          needs: torch, transformers, gguf, accelerate, safetensors
"""
import json
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, name = os.path.split(os.path.realpath(sys.argv[1]))
out = sys.argv[2]
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
os.makedirs(out, exist_ok=True)
# The head is the embedding again: stored once.
tensors = {k: v.clone().contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
save_file(tensors, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
config = model.config.to_dict()
config.pop("quantization_config", None)
config.update(architectures=["LlamaForCausalLM"], dtype="float32", tie_word_embeddings=True)
with open(os.path.join(out, "config.json"), "w") as file:
    json.dump(config, file, indent=1, default=str)
AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(out)
