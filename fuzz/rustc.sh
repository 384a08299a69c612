#!/bin/sh
# Given to cargo as RUSTC_WRAPPER: marks the branches of our own crates for libFuzzer. The
# dependencies stay as the tests have them, and so need not be built again.
name=
for argument in "$@"; do
    [ "$previous" = --crate-name ] && name=$argument
    previous=$argument
done
case $name in
lorascope | fuzz_container | fuzz_record | fuzz_parquet)
    set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$@"
