#!/usr/bin/env bash
# Trains in four processes on two machines and compares with one process: the same bytes. The machines are network
# namespaces of this one with names of their own and a cable (veth) between them, so that all goes through TCP.
# Then the cable is cut in the middle of a run: both sides end, and the run goes on from the disk.
# Needs root, Open MPI and iproute2. Prints the time of a step, the bytes that a step sends, and how long the end took.
#
#     tests/two_hosts.sh LORASCOPE MODEL [STEPS]
set -euo pipefail

lorascope=$(realpath "$1") model=$(realpath "$2") steps=${3:-6}
data=$(realpath "$(dirname "$0")/../datasets/school_math.jsonl")
folder=$(mktemp -d)
names=(lorascope-a lorascope-b)

clean() {
    for name in "${names[@]}"; do
        ip netns pids "$name" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
        ip netns del "$name" 2>/dev/null || true
        rm -rf "/etc/netns/$name"
    done
    rm -rf "$folder"
}
trap clean EXIT

# Two machines with a cable.
for name in "${names[@]}"; do
    ip netns add "$name"
    mkdir -p "/etc/netns/$name"
    printf '127.0.0.1 localhost\n10.77.0.1 lorascope-a\n10.77.0.2 lorascope-b\n' >"/etc/netns/$name/hosts"
done
ip -n lorascope-a link add cable type veth peer name cable netns lorascope-b
for n in 1 2; do
    name=${names[n - 1]}
    ip -n "$name" addr add "10.77.0.$n/24" dev cable
    ip -n "$name" link set cable up
    ip -n "$name" link set lo up
done

# A shell on one of them, for mpirun: what ssh is between real ones.
cat >"$folder/on" <<'EOF'
#!/bin/sh
host=$1
shift
exec ip netns exec "$host" unshare --uts sh -c "hostname $host && $*"
EOF
chmod +x "$folder/on"

cat >"$folder/run.toml" <<EOF
model = "$model"
data = "$data"
steps = $steps
batch = 8
micro_batch = 128
seed = 7
[schedule]
warmup = 2
[snapshots]
every_seconds = 1e9
[lora]
rank = 8
alpha = 16.0
dropout = 0.1
EOF
cd "$folder"

sent() { ip netns exec "$1" cat /sys/class/net/cable/statistics/tx_bytes; }

echo "one process"
"$lorascope" train run.toml --name alone >alone.log 2>&1 || { cat alone.log; exit 1; }
echo "four processes on two machines"
a=$(sent lorascope-a) b=$(sent lorascope-b)
mpirun="mpirun --allow-run-as-root --oversubscribe --bind-to none --host lorascope-a:2,lorascope-b:2 -n 4 \
    --mca plm_rsh_agent $folder/on --mca btl tcp,self --mca btl_tcp_if_include cable --mca oob_tcp_if_include cable \
    -x PATH -x HOME -x LD_LIBRARY_PATH"
./on lorascope-a "cd $folder && $mpirun $lorascope train run.toml --name four" >four.log 2>&1 || { cat four.log; exit 1; }
a=$(($(sent lorascope-a) - a)) b=$(($(sent lorascope-b) - b))
grep processes four.log
grep -q "process 2 on lorascope-b" four.log || { echo "no process was on the second machine"; exit 1; }

last=$(printf 'step-%06d' "$steps")
cmp "runs/alone/$last/adapter_model.safetensors" "runs/four/$last/adapter_model.safetensors"
python3 - "$steps" "$a" "$b" <<'EOF'
import json, statistics, sys
steps, a, b = map(int, sys.argv[1:])
read = lambda name: [json.loads(line) for line in open(f"runs/{name}/history.jsonl")]
alone, four = read("alone"), read("four")
for one, other in zip(alone, four, strict=True):
    assert (one["loss"], one["gradient_norm"]) == (other["loss"], other["gradient_norm"]), (one, other)
median = lambda run: statistics.median(step["seconds"] for step in run[1:])
print(f"the same bytes after {steps} steps; {alone[-1]['tokens']} tokens in the last one")
print(f"a step takes {median(alone):.2f} s in one process, {median(four):.2f} s in four (medians without the first)")
print(f"a step sends {a / steps / 1e6:.1f} MB to the second machine and {b / steps / 1e6:.1f} MB back")
EOF

echo "the cable is cut in the middle of a run"
steps_of() { wc -l 2>/dev/null <"runs/$1/history.jsonl" || echo 0; }
trainers() { ip netns pids "$1" | while read -r pid; do
    case $(readlink "/proc/$pid/exe") in "$lorascope") echo "$pid" ;; esac
done; }
./on lorascope-a "cd $folder && exec $mpirun --enable-recovery $lorascope train run.toml --name cut --steps 1000" >cut.log 2>&1 &
until [ "$(steps_of cut)" -ge 2 ]; do
    kill -0 $! || { cat cut.log; exit 1; }
    sleep 0.2
done
begun=$(date +%s%N)
passed() { echo $((($(date +%s%N) - begun) / 1000000)); }
ip -n lorascope-a link set cable down
for name in "${names[@]}"; do
    while [ -n "$(trainers "$name")" ]; do
        [ "$(passed)" -lt 300000 ] || { cat cut.log; exit 1; }
        sleep 0.1
    done
    echo "no process is left on $name after $(passed) ms"
done
# mpirun waits for the other machine.
kill -9 $! 2>/dev/null || true
wait $! 2>/dev/null || true
grep -q "process [23] on lorascope-b.*nothing was heard of it for" cut.log || { cat cut.log; exit 1; }
done=$(steps_of cut)
"$lorascope" train cut --resume --steps 1 >resumed.log 2>&1 || { cat resumed.log; exit 1; }
[ "$(steps_of cut)" -ge "$done" ] || { echo "of $done steps $(steps_of cut) are left"; exit 1; }
echo "the run went on from its $done steps"
