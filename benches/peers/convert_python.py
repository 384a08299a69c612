"""Instruction rows to conversations, both JSON lines, as people script it in Python: seconds and memory, as one line of JSON.

usage: convert_python.py IN OUT                 needs: nothing
"""
import json
import os
import resource
import sys
import time

start, rows = time.perf_counter(), 0
with open(sys.argv[1], encoding="utf-8") as source, open(sys.argv[2], "w", encoding="utf-8") as target:
    for line in source:
        rows += 1
        row = json.loads(line)
        question = row["instruction"] + ("\n" + row["input"] if row["input"] else "")
        conversation = [{"from": "human", "value": question}, {"from": "assistant", "value": row["output"]}]
        target.write(json.dumps({"id": f"row-{rows}", "conversations": conversation}, ensure_ascii=False) + "\n")
seconds = time.perf_counter() - start
print(json.dumps({
    "peer": "python", "rows": rows, "seconds": round(seconds, 2), "mb_per_second": round(os.path.getsize(sys.argv[1]) / 1e6 / seconds, 1),
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
}))
