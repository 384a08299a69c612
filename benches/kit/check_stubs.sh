#!/bin/sh
# The stubs of FOLDER without CUDA, and with libraries that take the place of it: what they are handed arrives.
# usage: check_stubs.sh FOLDER
set -eu
stubs=$1 here=$(dirname "$0") tried=$(mktemp -d)
trap 'rm -rf "$tried"' EXIT
mkdir "$tried/bin" "$tried/lib"
cc -O1 "$here/check_stubs.c" -L"$stubs" -lcublas -lcuda -lnccl -lcurand -o "$tried/bin/check"

expect() {
    found=$("$tried/bin/check" 2>/dev/null)
    [ "$found" = "$1" ] || { printf 'expected:\n%s\nfound:\n%s\n' "$1" "$found"; exit 1; }
}
missing() { "$tried/bin/check" 2>&1 >/dev/null | sed 's/ (.*//' | sort | tr '\n' ' '; }

# Nothing is there: error codes, and one line for each library but the driver's. A machine with CUDA cannot show it.
if ! ldconfig -p | grep -qE 'lib(cuda|cublas|curand|nccl)\.so'; then
line=$("$tried/bin/check" 2>/dev/null | head -1)
case $line in
"gemm 1, cuInit 100, libcuda.so.1, nccl 2, curand 101, libcublas.so.13 is not on this machine (lib"*) ;;
*) echo "without libraries: $line"; exit 1 ;;
esac
said=$(missing)
[ "$said" = "libcublas.so.13 is not on this machine libcurand.so.10 is not on this machine libnccl.so.2 is not on this machine " ] ||
    { echo "it says: $said"; exit 1; }
fi

for library in libcublas.so.12 libcuda.so.1 libnccl.so.2; do
    cc -O1 -shared -fPIC -DREAL "$here/check_stubs.c" -o "$tried/lib/$library"
done
again="gemm 0, cuInit 0, libcuda.so.1, nccl 0, curand 101, libcublas.so.13 of this machine has no cublasGetStatusString"
expect "$again
$again
vector registers"
echo "the stubs hand on what they are handed"
