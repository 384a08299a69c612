"""Hugging Face's tokenizers on the texts of benches/tokens.rs.

usage: tokens.py FOLDER        needs: tokenizers; RAYON_NUM_THREADS says how many threads

FOLDER has tokenizer.json and texts.json (a list of strings). For each line on stdin it encodes all of
them once and prints [seconds, tokens].
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "true"
from tokenizers import Tokenizer

folder = Path(sys.argv[1])
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
texts = json.loads((folder / "texts.json").read_text())
for _ in sys.stdin:
    begun = time.perf_counter()
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    seconds = time.perf_counter() - begun
    print(json.dumps([seconds, sum(len(encoding.ids) for encoding in encodings)]), flush=True)
