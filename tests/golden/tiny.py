"""Two tiny random Llamas, a PEFT adapter for each, and what PyTorch and PEFT make of them: loss, gradients, ten AdamW steps.

usage: tiny.py                      needs: torch, transformers, peft, safetensors
writes, for `tiny` and `tied`:      NAME/ (Hugging Face folder), NAME-adapter/ (PEFT folder), NAME.safetensors, NAME.json
Weights are stored in float32 and computed with in float64; README.md says what each file holds.
"""
import json
import os

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from reference import HERE, numbers, save, to_float64

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STEPS, LR, BETAS, EPS = 10, 2e-3, (0.9, 0.999), 1e-8
RUNS = {"plain": (None, 0.0), "clipped": (1.0, 0.0), "decayed": (1.0, 0.1)}  # largest gradient norm, weight decay


def llama(config):
    return LlamaForCausalLM(LlamaConfig(hidden_act="silu", bos_token_id=1, eos_token_id=2, **config))


def make_model(model, seed, folder):
    """A model in which nothing is special: biases are not zero, norm weights not one. Saved as Hugging Face saves it."""
    normal = numbers(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ("norm" in name or ".ln_" in name) and not name.endswith("bias"):
                weight.copy_(normal(*weight.shape, mean=1.0, std=0.3))
            elif "embed" in name or "bias" in name or ".wpe" in name or ".wte" in name:
                weight.copy_(normal(*weight.shape, std=0.5))
            else:
                weight.copy_(normal(*weight.shape, std=1.5 * weight.shape[1] ** -0.5))
    model.save_pretrained(folder)
    if os.path.exists(os.path.join(folder, "generation_config.json")):
        os.remove(os.path.join(folder, "generation_config.json"))


def make_adapter(kind, model_folder, config, seed, folder):
    """An adapter in which A and B are both random: with B zero, as training starts, half of the gradients would be zero."""
    normal = numbers(seed)
    model = get_peft_model(kind.from_pretrained(model_folder), LoraConfig(**config))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(normal(*weight.shape, std=0.15))
    model.save_pretrained(folder)
    os.remove(os.path.join(folder, "README.md"))
    # Stable from run to run and place to place: PEFT keeps the modules in a set, and the folder's full path.
    edit_json(os.path.join(folder, "adapter_config.json"),
              lambda c: c.update(target_modules=sorted(c["target_modules"]), base_model_name_or_path=os.path.basename(model_folder)))


def edit_json(path, change):
    with open(path) as file:
        content = json.load(file)
    change(content)
    with open(path, "w") as file:
        json.dump(content, file, indent=2, sort_keys=True)
        file.write("\n")


def make_rows(vocabulary, lengths, seed):
    """Rows of tokens; `trained[i]` says whether token i is a target. A row's first token never is: nothing predicts it."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for length in lengths:
        ids = torch.randint(0, vocabulary, (length,), generator=generator)
        trained = torch.rand(length, generator=generator) < 0.6
        rows.append({"ids": ids.tolist(), "trained": trained.tolist()})
    rows[0]["trained"][0] = True
    return rows


def padded(rows):
    """ids, labels and attention mask [B, longest]; labels are -100 where nothing is trained."""
    longest = max(len(row["ids"]) for row in rows)
    fill = lambda values, blank: torch.tensor([list(v) + [blank] * (longest - len(v)) for v in values])
    labels = [[i if t else -100 for i, t in zip(row["ids"], row["trained"])] for row in rows]
    return fill([row["ids"] for row in rows], 0), fill(labels, -100), fill([[1] * len(row["ids"]) for row in rows], 0)


def loss_of(logits, labels):
    """The sum over trained tokens / their number; position i predicts token i + 1."""
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="mean")


def check_packed(model, rows, expected):
    """The rows in one sequence, positions from 0 in each and attention inside each, must give the same loss."""
    ids, row, positions, labels = [], [], [], []
    for number, r in enumerate(rows):
        length = len(r["ids"])
        ids += r["ids"]
        row += [number] * length
        positions += range(length)
        labels += [i if t and place else -100 for place, (i, t) in enumerate(zip(r["ids"], r["trained"]))]
    row = torch.tensor(row)
    seen = (row[:, None] == row[None, :]) & torch.ones(len(ids), len(ids)).tril().bool()
    logits = model(input_ids=torch.tensor([ids]), position_ids=torch.tensor([positions]), attention_mask=seen[None, None]).logits
    packed = loss_of(logits, torch.tensor([labels])).item()
    assert abs(packed - expected) < 1e-12, (packed, expected)


def adapter(model, of=lambda parameter: parameter):
    """Tensors of the adapter by the names that PEFT gives them in adapter_model.safetensors."""
    return {name.replace(".default", ""): of(p).detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def worst_error(tensors, truth):
    """The largest error of a tensor relative to its norm."""
    return max(((t - truth[name]).norm() / truth[name].norm()).item() for name, t in tensors.items())


def train(load, batch, max_norm, weight_decay):
    ids, labels, mask = batch
    model = load()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LR, betas=BETAS, eps=EPS, weight_decay=weight_decay)
    losses, norms = [], []
    for _ in range(STEPS):
        loss = loss_of(model(input_ids=ids, attention_mask=mask).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(trained, max_norm or float("inf")).item())
        optimizer.step()
        losses.append(loss.item())
    assert not max_norm or max(norms) > max_norm, f"the norm is never clipped: {norms}"
    after = loss_of(model(input_ids=ids, attention_mask=mask).logits, labels).item()
    record = {"max_norm": max_norm, "weight_decay": weight_decay, "losses": losses, "loss_after": after, "grad_norms": norms}
    return record, adapter(model)


def make_golden(name, new_model, lora_config, lengths, seed):
    folder, adapter_folder = os.path.join(HERE, name), os.path.join(HERE, f"{name}-adapter")
    kind = type(new_model)
    make_model(new_model, seed, folder)
    make_adapter(kind, folder, lora_config, seed + 1, adapter_folder)
    rows = make_rows(new_model.lm_head.weight.shape[0], lengths, seed + 2)
    batch = ids, labels, mask = padded(rows)

    def load32():
        return PeftModel.from_pretrained(kind.from_pretrained(folder), adapter_folder, is_trainable=True)

    load = lambda: to_float64(load32())
    model = load()
    logits = model(input_ids=ids, attention_mask=mask).logits
    loss = loss_of(logits, labels)
    loss.backward()
    gradients = adapter(model, lambda p: p.grad)
    assert set(gradients) == set(get_peft_model_state_dict(model)), "names differ from those that PEFT saves"
    assert all(g.abs().max() > 0 for g in gradients.values()), "a gradient is zero: the test would be blind there"
    check_packed(model, rows, loss.item())

    tensors = {f"logits.{i}": logits[i, :len(row["ids"])] for i, row in enumerate(rows)}
    tensors |= {f"grad.{n}": g for n, g in gradients.items()}

    # transformers and PEFT as they come, in float32, must agree; what they are off by says what float32 can give.
    plain = load32()
    loss32 = loss_of(plain(input_ids=ids, attention_mask=mask).logits, labels)
    loss32.backward()
    float32 = {"loss": loss32.item(), "gradient_error": worst_error(adapter(plain, lambda p: p.grad), gradients)}
    runs = {}
    for run, (max_norm, weight_decay) in RUNS.items():
        runs[run], final = train(load, batch, max_norm, weight_decay)
        tensors |= {f"{run}.{n}": t for n, t in final.items()}
        record32, final32 = train(load32, batch, max_norm, weight_decay)
        float32[run] = {"losses": record32["losses"], "adapter_error": worst_error(final32, final)}
    save(tensors, f"{name}.safetensors")
    assert float32["gradient_error"] < 1e-4 and abs(loss32.item() - loss.item()) < 1e-5, float32

    golden = {
        "rows": rows, "trained_tokens": int((labels[:, 1:] != -100).sum()),
        "loss": loss.item(), "grad_norm": torch.stack([g.norm() for g in gradients.values()]).norm().item(),
        "optimizer": {"lr": LR, "beta1": BETAS[0], "beta2": BETAS[1], "eps": EPS, "steps": STEPS}, "runs": runs,
        "float32": float32,
    }
    with open(os.path.join(HERE, f"{name}.json"), "w") as file:
        json.dump(golden, file, indent=1)
        file.write("\n")
    print(name, "loss", golden["loss"], "norm", golden["grad_norm"], "error of float32 in a gradient", float32["gradient_error"])
    for run, record in runs.items():
        print(f"  {run:8} losses {record['losses'][0]:.6f} → {record['loss_after']:.6f}, norms {record['grad_norms'][0]:.3f} → {record['grad_norms'][-1]:.3f}, error of float32 {float32[run]['adapter_error']:.1e}")


def main():
    make_golden(
        "tiny",
        llama(dict(vocab_size=97, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             head_dim=6, max_position_embeddings=64, rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})),
        dict(task_type="CAUSAL_LM", r=3, lora_alpha=7, lora_dropout=0.0, target_modules=ALL_LINEAR),
        lengths=[11, 5, 17], seed=10)

    # What the first has not: tied embeddings, biases, as many key-value heads as heads, heads wider than the model, another
    # theta and eps, rank-stabilised scaling, modules without an adapter, and a row of one token.
    make_golden(
        "tied",
        llama(dict(vocab_size=53, hidden_size=15, intermediate_size=37, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=3,
             head_dim=6, max_position_embeddings=32, rms_norm_eps=1e-6, rope_parameters={"rope_type": "default", "rope_theta": 500.0},
             tie_word_embeddings=True, attention_bias=True)),
        dict(task_type="CAUSAL_LM", r=3, lora_alpha=7, lora_dropout=0.0, target_modules=["q_proj", "o_proj", "down_proj"], use_rslora=True),
        lengths=[7, 13, 1, 3], seed=20)

    # Older files, and most on the hub, have theta beside the other numbers.
    edit_json(os.path.join(HERE, "tied", "config.json"), lambda c: c.update(rope_theta=c.pop("rope_parameters")["rope_theta"]))


if __name__ == "__main__":
    main()
