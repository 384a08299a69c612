#!/bin/sh
# Puts the kit together: what was built, a tiny model, the reference numbers of the device tests.
# usage: pack.sh FOLDER_OF_BUILDS MODEL.gguf KIT
set -eu
builds=$1 model=$2 kit=$3
cd "$(dirname "$0")/../.."

rm -rf "$kit" "$kit.tar.xz"
mkdir -p "$kit/bin" "$kit/lib" "$kit/models" "$kit/tests/golden" "$kit/peers"
cp "$builds/lorascope" "$kit/bin/"
tests=$(ls -t "$builds"/deps/devices-* | grep -v '\.d$' | head -1)
cp "$tests" "$kit/bin/device-tests"
strip "$kit/bin/lorascope" "$kit/bin/device-tests"
cp benches/kit/kit benches/kit/README.md "$kit/"
cp -r benches/kit/shapes "$kit/"
cp benches/peers/peft_step.py "$kit/peers/"
for family in tiny llama3 qwen2 qwen3 gpt2 baichuan2 tied; do
    cp -r "tests/golden/$family" "tests/golden/$family-adapter" "tests/golden/$family.json" "$kit/tests/golden/"
done
cp tests/golden/autocast.json "$kit/tests/golden/"
cp -r tests/cases/23-merged-in-sixteen-bits/model "$kit/models/tiny"
head -20 datasets/school_math_heldout.jsonl > "$kit/rows.jsonl"
# The tests read its tokenizer, which lies before the weights.
head -c 4M "$model" > "$kit/models/tokenizer.gguf"
tar -C "$(dirname "$kit")" -c "$(basename "$kit")" | xz -6 > "$kit.tar.xz"
