"""One LoRA optimiser step with PEFT and PyTorch: tokens per second and peak memory, as one line of JSON.

usage: peft_step.py MODEL [--dtype float32|bfloat16] [--device cpu|cuda|cuda:1] [--attn sdpa|eager|flash_attention_2]
    [--checkpointing] [--batch 4] [--tokens 256] [--rank 8] [--steps 4] [--threads 2]
needs: torch, transformers, peft; MODEL is a Hugging Face folder (smollm2_to_hf.py writes one), or a config.json, whose
    weights are random then
The same work as `lorascope bench step`: random tokens, all of them trained on, adapters on all linear layers but the
head, gradient norm clipped at 1, AdamW. The first step warms up and does not count; the others give the median. The peak
is that of the process, on a GPU that of its tensors.
"""
import argparse
import json
import resource
import statistics
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

args = argparse.ArgumentParser()
args.add_argument("model")
args.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
args.add_argument("--device", default="cpu")
args.add_argument("--attn", default=None, choices=["sdpa", "eager", "flash_attention_2"])
args.add_argument("--checkpointing", action="store_true")
for name, default in [("batch", 4), ("tokens", 256), ("rank", 8), ("steps", 4), ("threads", 2)]:
    args.add_argument(f"--{name}", type=int, default=default)
args = args.parse_args()

torch.set_num_threads(args.threads)
torch.manual_seed(0)
device = torch.device(args.device)
on_gpu = device.type == "cuda"
how = {"dtype": getattr(torch, args.dtype)} | ({"attn_implementation": args.attn} if args.attn else {})
with device:
    if args.model.endswith(".json"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(args.model), **how)
    else:
        model = AutoModelForCausalLM.from_pretrained(args.model, **how)
lora = LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules="all-linear", task_type="CAUSAL_LM")
model = get_peft_model(model, lora).train().to(device)
if args.checkpointing:
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.enable_input_require_grads()
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.0)
ids = torch.randint(0, model.config.vocab_size, (args.batch, args.tokens), device=device)


def wait():
    if on_gpu:
        torch.cuda.synchronize(device)


def peak_mb():
    if on_gpu:
        return torch.cuda.max_memory_allocated(device) >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024



seconds = []
for _ in range(args.steps + 1):
    start = time.perf_counter()
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    wait()
    seconds.append(time.perf_counter() - start)
median = statistics.median(seconds[1:])
print(json.dumps({
    "peer": "peft", "dtype": args.dtype, "device": args.device, "attention": model.config._attn_implementation,
    "checkpointing": args.checkpointing, "batch": args.batch, "tokens": args.tokens,
    "rank": args.rank, "trained_parameters": sum(p.numel() for p in trained), "loss": round(loss.item(), 4),
    "step_seconds": round(median, 3), "tokens_per_second": round(args.batch * args.tokens / median, 1),
    "peak_mb": peak_mb(),
}))
