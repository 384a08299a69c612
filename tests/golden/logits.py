"""Logits and greedy continuations of SmolLM2-135M-Instruct on the dequantised weights of its GGUF, in float32.

usage: logits.py MODEL              needs: torch, transformers; MODEL as ../../benches/peers/smollm2_to_hf.py writes it
writes logits.json (prompts, ids, continuations) and logits-NAME.safetensors for each prompt; README.md has the shapes.
"""
import json
import os
import sys

import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from reference import HERE, save

NEW_TOKENS = 16
model = LlamaForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
chat = [{"role": "user", "content": "小明有3个苹果,又买了5个,一共几个?"}]
prompts = {
    "capital": "The capital of France is",
    "school": "题目:小红有12支铅笔,送给同学4支后,又买了7支。小红现在有几支铅笔?\n解答:",
    "chat": tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True),
}
# Every position at the same few columns, drawn once: all logits of all positions would be 40 MB.
columns = torch.randperm(model.config.vocab_size, generator=torch.Generator().manual_seed(3))[:64].sort().values


@torch.no_grad()
def logits_of(ids):
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]


golden = {"columns": columns.tolist(), "prompts": []}
for name, text in prompts.items():
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    logits = logits_of(ids)
    continued, margins = list(ids), []
    for _ in range(NEW_TOKENS):
        (first, second), (best, _) = (pair.tolist() for pair in logits_of(continued)[-1].topk(2))
        margins.append(first - second)
        continued.append(best)
    save({"last": logits[-1], "columns": logits[:, columns]}, f"logits-{name}.safetensors")
    new = continued[len(ids):]
    golden["prompts"].append({
        "name": name, "text": text, "ids": ids, "continuation": new, "continuation_text": tokenizer.decode(new),
        "largest_logit": logits[-1].abs().max().item(), "smallest_margin": min(margins),
    })
    print(f"{name}: {len(ids)} tokens → {tokenizer.decode(new)!r}, smallest margin {min(margins):.3f}")
with open(os.path.join(HERE, "logits.json"), "w") as file:
    json.dump(golden, file, ensure_ascii=False, indent=1)
    file.write("\n")
