#!/bin/sh
# What of the kit can be shown without a GPU: it starts where CUDA is not installed, trains on the processor, says that
# there is no GPU, runs its tests and prints its table.
# usage: check.sh KIT
set -eu
kit=$(cd "$1" && pwd)
tried=$(mktemp -d)
trap 'rm -rf "$tried"' EXIT
fail() { echo "$*" >&2; exit 1; }

for program in lorascope device-tests; do
    needed=$(readelf -d "$kit/bin/$program" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | tr '\n' ' ')
    echo "$program needs $needed"
    case $needed in *cu* | *nv* | *nccl* | *stdc++*) fail "$program does not start where one of these is missing" ;; esac
done
cd "$tried"
"$kit/bin/lorascope" --version
train() { "$kit/bin/lorascope" train "$1" --model "$kit/models/tiny" --data "$kit/rows.jsonl" --steps 3 --devices "$2" 2>&1; }
train processor cpu:1 > said || fail "$(cat said)"
train two cpu:2 > said || fail "$(cat said)"
if [ ! -e /dev/nvidiactl ]; then
    if train gpu cuda:0 > said; then fail "it trains on a GPU that is not here"; fi
    grep -q 'there is no GPU 0 for this program' said || fail "$(cat said)"
    ldconfig -p | grep -q 'libcuda\.so' || grep -q 'libcuda.so.1 is not on this machine' said || fail "$(cat said)"
    cat said
    if "$kit/kit" bench 2> said; then fail "it measures a GPU that is not here"; fi
    grep -q 'there is no GPU here' said || fail "$(cat said)"
fi
"$kit/kit" test --devices cpu:1
"$kit/kit" bench --devices cpu:1 --shapes smollm2 --rows 1 --tokens 32 --steps 1 > table
cat table
[ "$(grep -c '^smollm2 .* lorascope' table)" = 2 ] || fail "not two rows in the table"
if grep -q ' - ' table; then fail "a row without numbers"; fi
size=$(wc -c < "$kit.tar.xz")
echo "$kit.tar.xz: $((size / 1000000)) MB"
[ "$size" -lt 60000000 ] || fail "more than 60 MB"
