"""What PEFT makes of an embedding and a head that are trained whole, in models whose head is the embedding and in others.

usage: tying.py                     needs: torch, transformers, peft, safetensors, and what tiny.py and families.py wrote
writes tying/NAME/ (PEFT folder), tying.safetensors (logits, first gradients) and tying.json (losses of ten steps, numbers trained)
Weights are stored in float32 and computed with in float64.
"""
import json
import os
import shutil
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from reference import HERE, numbers, save, to_float64
from tiny import BETAS, EPS, LR, edit_json, loss_of, padded
from variants import ten_losses, trained

warnings.simplefilter("ignore")
NAMES = {"embedding": ["embed_tokens"], "head": ["lm_head"], "both": ["embed_tokens", "lm_head"]}
tensors, golden = {}, {}


def open_model(base):
    return AutoModelForCausalLM.from_pretrained(os.path.join(HERE, base), dtype=torch.float32)


def case(name, base, config, seed):
    folder = os.path.join(HERE, "tying", name)
    normal = numbers(seed)
    model = get_peft_model(open_model(base), LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=7, **config))
    with torch.no_grad():
        for tensor, p in model.named_parameters():
            if p.requires_grad:
                noise = normal(*p.shape, std=0.15)
                p.copy_(noise if "lora_" in tensor else p + noise)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "README.md"))
    edit_json(os.path.join(folder, "adapter_config.json"), lambda c: c.update(target_modules=sorted(c["target_modules"]), base_model_name_or_path=base))
    ids, labels, mask = padded(json.load(open(os.path.join(HERE, f"{base}.json")))["rows"])
    model = to_float64(PeftModel.from_pretrained(open_model(base), folder, is_trainable=True))
    logits = model(input_ids=ids, attention_mask=mask).logits
    loss_of(logits, labels).backward()
    lengths = mask.sum(1).tolist()
    for i, length in enumerate(lengths):
        tensors[f"{name}.logits.{i}"] = logits[i, :length].float()
    gradients = trained(model, lambda p: p.grad)
    tensors.update({f"{name}.grad.{n}": g.float() for n, g in gradients.items()})
    parameters = [p for p in model.parameters() if p.requires_grad]
    losses = ten_losses(model, torch.optim.AdamW(parameters, lr=LR, betas=BETAS, eps=EPS, weight_decay=0.0), (ids, labels, mask))
    golden[name] = {"base": base, "losses": losses, "trained": sum(g.numel() for g in gradients.values())}
    print(name, [n for n in gradients if "lora" not in n], losses[0], losses[-1])


if __name__ == "__main__":
    seed = 400
    for base in ("tied", "tiny"):
        for which, names in NAMES.items():
            for tying in (False, True):
                name = f"{base}_{which}{'_ensured' if tying else ''}"
                case(name, base, dict(target_modules=["v_proj"], modules_to_save=list(names), ensure_weight_tying=tying), seed)
                seed += 1
    for tying in (False, True):
        name = f"gpt2_wte{'_ensured' if tying else ''}"
        case(name, "gpt2", dict(target_modules=["c_fc"], modules_to_save=["wte"], ensure_weight_tying=tying, fan_in_fan_out=True), seed)
        seed += 1
    save(tensors, "tying.safetensors")
    with open(os.path.join(HERE, "tying.json"), "w") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")
    print("tying.safetensors", os.path.getsize(os.path.join(HERE, "tying.safetensors")))
