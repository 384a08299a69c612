"""Greedy generation with transformers or llama.cpp: tokens a second and peak memory, as one line of JSON.

usage: generate.py transformers FOLDER [--dtype bfloat16]          needs: torch, transformers
       generate.py llama.cpp MODEL.gguf                            needs: xllamacpp
with [--tokens 128] [--prompt 16] [--threads 2] [--turns 3]

The first answer is not timed; of the others the median is taken, without the first token, before which the prompt is read.
"""

import argparse
import json
import resource
import statistics
import time

parser = argparse.ArgumentParser()
parser.add_argument("tool", choices=["transformers", "llama.cpp"])
parser.add_argument("model")
parser.add_argument("--dtype", default="bfloat16")
for name, default in [("tokens", 128), ("prompt", 16), ("threads", 2), ("turns", 3)]:
    parser.add_argument(f"--{name}", type=int, default=default)
args = parser.parse_args()
prompt = [(i * 2741 + 11) % 49152 for i in range(args.prompt)]


def transformers_seconds():
    """Seconds a token of each turn."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(args.threads)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, args.dtype)).eval()
    for _ in range(args.turns + 1):
        with torch.inference_mode():
            answer = model(input_ids=torch.tensor([prompt]), use_cache=True)
            begun = time.perf_counter()
            for _ in range(args.tokens - 1):
                token = answer.logits[:, -1].argmax(-1, keepdim=True)
                answer = model(input_ids=token, past_key_values=answer.past_key_values, use_cache=True)
            answer.logits[:, -1].argmax(-1).item()
        yield (time.perf_counter() - begun) / (args.tokens - 1)


def llama_seconds():
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = args.model
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 512, 1, True, 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = args.threads
    server = xllamacpp.Server(params)
    request = {"prompt": prompt, "max_tokens": args.tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
    for _ in range(args.turns + 1):
        answer = server.handle_completions({**request, "timings_per_token": True})
        answer = json.loads(answer) if isinstance(answer, (str, bytes)) else answer
        assert answer["timings"]["predicted_n"] == args.tokens, answer["timings"]
        yield answer["timings"]["predicted_per_token_ms"] / 1e3


seconds = list(transformers_seconds() if args.tool == "transformers" else llama_seconds())[1:]
print(json.dumps({
    "tool": args.tool, "tokens_per_second": round(1 / statistics.median(seconds), 1),
    "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
}))
