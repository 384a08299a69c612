#!/bin/sh
# Given to cargo as RUSTC_WRAPPER: links our own crates into programs that stand alone, with what lies in KIT_LINK in the
# place of CUDA's libraries. The dependencies stay as the tests have them, and so need not be built again.
rustc=$1
shift
name= previous=
for argument in "$@"; do
    [ "$previous" = --crate-name ] && name=$argument
    previous=$argument
done
case $name in
lorascope | devices)
    count=$#
    while [ "$count" -gt 0 ]; do
        argument=$1 count=$((count - 1))
        shift
        [ "$argument" = -Cprefer-dynamic ] || set -- "$@" "$argument"
    done
    set -- -L "native=$KIT_LINK" "$@"
    ;;
esac
exec "$rustc" "$@"
