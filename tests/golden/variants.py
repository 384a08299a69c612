"""What PEFT makes of each kind of adapter on the tiny models: logits, loss, gradients, ten updates, combinations.

usage: variants.py                  needs: torch, transformers, peft, safetensors, and what tiny.py wrote
writes variants/NAME/ (PEFT folder, for what PEFT can save), variants.safetensors and variants.json
Weights are stored in float32 and computed with in float64.
"""
import json
import os
import shutil

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from families import Baichuan2
from reference import HERE, numbers, save, to_float64
from tiny import ALL_LINEAR, BETAS, EPS, LR, STEPS, edit_json, loss_of, padded

VARIANTS = {
    "dora": ("tiny", dict(r=3, lora_alpha=7, use_dora=True, target_modules=ALL_LINEAR)),
    "dora_biased": ("tied", dict(r=2, lora_alpha=5, use_dora=True, use_rslora=True, target_modules=["q_proj", "down_proj"])),
    "patterns": ("tiny", dict(r=3, lora_alpha=7, use_rslora=True, target_modules=ALL_LINEAR, rank_pattern={"q_proj": 5, r"layers\.1\.mlp\..*": 2},
                              alpha_pattern={"v_proj": 11, "model.layers.0.self_attn.q_proj": 4})),
    "blocks": ("tied", dict(r=3, lora_alpha=7, target_modules=["q_proj", "v_proj"], layers_to_transform=[0, 2])),
    "expression": ("tied", dict(r=3, lora_alpha=7, target_modules=r".*\.[01]\..*(q|up)_proj", exclude_modules=r".*\.1\.mlp\..*")),
    "embedding": ("tiny", dict(r=3, lora_alpha=7, target_modules=["embed_tokens", "q_proj"])),
    "tied_embedding": ("tied", dict(r=3, lora_alpha=7, target_modules=["embed_tokens", "v_proj"])),
    "head": ("tiny", dict(r=3, lora_alpha=7, target_modules=["lm_head", "o_proj"])),
    "saved_head": ("tiny", dict(r=3, lora_alpha=7, target_modules=["v_proj"], modules_to_save=["lm_head", "norm"])),
    "biases": ("tied", dict(r=3, lora_alpha=7, target_modules=["q_proj", "up_proj"], bias="all")),
    "own_biases": ("tied", dict(r=3, lora_alpha=7, target_modules=["q_proj", "up_proj"], bias="lora_only")),
}
PADDING = 76
tensors, golden = {}, {}


def open_model(name):
    return LlamaForCausalLM.from_pretrained(os.path.join(HERE, name))


def pad(model, token):
    """The same model with a token whose row of the embedding is not trained."""
    model.model.embed_tokens.padding_idx = token
    return model


def trained(model, of=lambda p: p):
    """Trained tensors by our names: those of the files, without what PEFT wraps around."""
    plain = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            name = name.removeprefix("base_model.model.")
            for part in (".default.weight", ".default"):
                if any(f"{kind}{part}" in name for kind in ("lora_A", "lora_B", "embedding_A", "embedding_B", "magnitude_vector")):
                    name = name.replace(part, "")
            name = name.replace(".modules_to_save.default", "").replace(".base_layer", "")
            plain[name] = of(p).detach().clone()
    return plain


def ten_losses(model, optimizer, batch, after_first=lambda: None):
    """The losses of ten steps; `after_first` sees the first gradients."""
    ids, labels, mask = batch
    losses = []
    for step in range(STEPS):
        loss = loss_of(model(input_ids=ids, attention_mask=mask).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            after_first()
        optimizer.step()
        losses.append(loss.item())
    return losses


def batch_of(base):
    return padded(json.load(open(os.path.join(HERE, f"{base}.json")))["rows"])


def variant(name, base, config, seed, padding=None):
    folder = os.path.join(HERE, "variants", name)
    normal = numbers(seed)
    plain = lambda: pad(open_model(base), padding)
    model = get_peft_model(plain(), LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **config))
    with torch.no_grad():
        for tensor, p in model.named_parameters():
            if p.requires_grad:
                noise = normal(*p.shape, std=0.15)
                p.copy_(noise if "lora_A" in tensor or "lora_B" in tensor or "lora_embedding" in tensor else p + noise)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "README.md"))

    def tidy(c):
        names = c["target_modules"]
        c.update(target_modules=sorted(names) if isinstance(names, list) else names, base_model_name_or_path=base)

    edit_json(os.path.join(folder, "adapter_config.json"), tidy)
    rows = json.load(open(os.path.join(HERE, f"{base}.json")))["rows"]
    ids, labels, mask = padded(rows)
    load = lambda: to_float64(PeftModel.from_pretrained(plain(), folder, is_trainable=True))
    model = load()
    for tensor, p in model.named_parameters():
        if config.get("bias", "none") == "all" and tensor.endswith(".bias"):
            p.requires_grad_(True)
    logits = model(input_ids=ids, attention_mask=mask).logits
    loss = loss_of(logits, labels)
    loss.backward()
    for i, row in enumerate(rows):
        tensors[f"{name}.logits.{i}"] = logits[i, :len(row["ids"])].float()
    gradients = trained(model, lambda p: p.grad)
    assert all(g.abs().max() > 0 for g in gradients.values()), [n for n, g in gradients.items() if g.abs().max() == 0]
    tensors.update({f"{name}.grad.{n}": g.float() for n, g in gradients.items()})
    merged = load().merge_and_unload()
    difference = (merged(input_ids=ids, attention_mask=mask).logits - logits)[mask.bool()].abs().max().item()
    # PEFT merges an adapter of a tied embedding into the head as well, which it did not stand beside.
    assert name == "tied_embedding" or difference < 1e-9 * logits.abs().max().item(), difference
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LR, betas=BETAS, eps=EPS, weight_decay=0.0)
    losses = ten_losses(model, optimizer, (ids, labels, mask))
    golden[name] = {"base": base, "padding": padding, "losses": losses, "trained": sum(g.numel() for g in gradients.values())}
    print(name, golden[name])


def full(base, momentum):
    """All weights trained by SGD with momentum: what LoRA is compared with."""
    model = to_float64(open_model(base)) if base != "baichuan2" else Baichuan2.from_pretrained(os.path.join(HERE, base)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=momentum)
    keep = lambda: tensors.update({f"full_{base}.grad.{n}": p.grad.float() for n, p in model.named_parameters()})
    losses = ten_losses(model, optimizer, batch_of(base), keep)
    golden[f"full_{base}"] = {"base": base, "losses": losses, "trained": sum(p.numel() for p in model.parameters())}
    print(f"full_{base}", losses)


def lora_plus(base, ratio):
    """LoRA+ by PEFT: its parameter groups, plain AdamW."""
    from peft.optimizers import create_loraplus_optimizer
    model = to_float64(PeftModel.from_pretrained(open_model(base), os.path.join(HERE, f"{base}-adapter"), is_trainable=True))
    optimizer = create_loraplus_optimizer(model=model, optimizer_cls=torch.optim.AdamW, lr=LR, loraplus_lr_ratio=ratio, betas=BETAS, eps=EPS, weight_decay=0.0)
    golden["lora_plus"] = {"base": base, "ratio": ratio, "losses": ten_losses(model, optimizer, batch_of(base))}
    print("lora_plus", golden["lora_plus"]["losses"])


def combinations():
    """Two adapters of the tiny model made into one by PEFT: ΔW of each adapted layer."""
    first, second = os.path.join(HERE, "tiny-adapter"), os.path.join(HERE, "variants", "second")
    normal = numbers(77)
    model = PeftModel.from_pretrained(open_model("tiny"), first, is_trainable=True)
    model.add_adapter("second", LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=5, target_modules=ALL_LINEAR))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "second" in name:
                p.copy_(normal(*p.shape, std=0.15))
    shutil.rmtree(second, ignore_errors=True)
    model.save_pretrained(os.path.dirname(second), selected_adapters=["second"])
    os.remove(os.path.join(os.path.dirname(second), "README.md"))
    edit_json(os.path.join(second, "adapter_config.json"), lambda c: c.update(target_modules=sorted(c["target_modules"]), base_model_name_or_path="tiny"))
    model = model.double()
    for how, more in {"linear": {}, "cat": {}, "svd": {"svd_rank": 2}, "ties": {"density": 0.4}}.items():
        model.add_weighted_adapter(["default", "second"], [0.7, 0.4], how, combination_type=how, **more)
        for name, module in model.named_modules():
            if hasattr(module, "get_delta_weight") and how in getattr(module, "lora_A", {}) and "layers.1" in name:
                tensors[f"combine.{how}.{name.removeprefix('base_model.model.')}"] = module.get_delta_weight(how).float()


def pissa():
    """What PiSSA takes off W: its best approximation of rank 4. PEFT's own, found in float32, must agree to 1e-4."""
    base = open_model("tiny")
    weights = {name: p.detach().double() for name, p in base.named_parameters()}
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6, init_lora_weights="pissa", target_modules=["q_proj", "down_proj"]))
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            name = name.removeprefix("base_model.model.")
            u, s, v = torch.linalg.svd(weights[f"{name}.weight"], full_matrices=False)
            exact = (u[:, :4] * s[:4]) @ v[:4]
            theirs = module.get_delta_weight("default").double()
            assert (theirs - exact).norm() < 1e-4 * exact.norm(), name
            tensors[f"pissa.{name}"] = exact.float()


if __name__ == "__main__":
    for seed, (name, (base, config)) in enumerate(VARIANTS.items()):
        variant(name, base, config, 200 + seed)
    # A token that stands in two rows.
    variant("padded_embedding", *VARIANTS["embedding"], 300, padding=PADDING)
    variant("padded_saved", "tiny", dict(r=3, lora_alpha=7, target_modules=["v_proj"], modules_to_save=["embed_tokens"]), 301, padding=PADDING)
    full("tiny", 0.9)
    full("tied", 0.9)
    full("baichuan2", 0.9)  # a head of unit rows
    lora_plus("tiny", 16.0)
    combinations()
    pissa()
    save(tensors, "variants.safetensors")
    with open(os.path.join(HERE, "variants.json"), "w") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")
    print("variants.safetensors", os.path.getsize(os.path.join(HERE, "variants.safetensors")))
