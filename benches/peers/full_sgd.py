"""The peak resident memory in MiB of three full SGD-with-momentum steps of PyTorch, 1 x 256 tokens, f32.

usage: full_sgd.py MODEL_AS_HUGGING_FACE_FOLDER         needs: torch, transformers
"""
import resource
import sys

import torch
from transformers import AutoModelForCausalLM

torch.set_num_threads(2)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
ids = torch.randint(0, model.config.vocab_size, (1, 256))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
for _ in range(3):
    loss = model(input_ids=ids, labels=ids).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
