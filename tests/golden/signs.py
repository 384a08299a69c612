"""Two adapters of the tiny model made into one by PEFT with weights of both signs: ΔW of each adapted layer of the second block.

usage: signs.py                     needs: torch, transformers, peft, safetensors, and what tiny.py and variants.py wrote
writes signs.safetensors
"""
import os

from peft import PeftModel
from transformers import LlamaForCausalLM

from reference import HERE, save

WAYS = {"linear": {}, "cat": {}, "svd": {"svd_rank": 2}, "ties": {"density": 0.4}}
WEIGHTS = {"second": [0.7, -0.4], "first": [-1.3, 0.2], "both": [-0.7, -0.4]}

if __name__ == "__main__":
    tensors = {}
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(os.path.join(HERE, "tiny")), os.path.join(HERE, "tiny-adapter"))
    model.load_adapter(os.path.join(HERE, "variants", "second"), "second")
    model = model.double()
    for negative, weights in WEIGHTS.items():
        for how, more in WAYS.items():
            name = f"{negative}_{how}"
            model.add_weighted_adapter(["default", "second"], weights, name, combination_type=how, **more)
            for path, module in model.named_modules():
                if hasattr(module, "get_delta_weight") and name in getattr(module, "lora_A", {}) and "layers.1" in path:
                    tensors[f"{negative}.{how}.{path.removeprefix('base_model.model.')}"] = module.get_delta_weight(name).float()
    save(tensors, "signs.safetensors")
    print("signs.safetensors", os.path.getsize(os.path.join(HERE, "signs.safetensors")), len(tensors))
