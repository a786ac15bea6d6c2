#!/bin/bash
# Records the workloads of this folder: ./record.sh [name ...]   (default: all three)
#
# Compiles each <name>.c, runs it under lackey, and writes <name>.trace.gz and
# its sidecar <name>.trace.gz.json next to this script.
#
# The trace is lackey's output, byte for byte. `-q --basic-counts=no` keeps lackey
# from writing its "==PID==" messages: nothing is filtered afterwards, and two
# recordings with the same tools are the same bytes. The fixed, empty environment
# and the non-PIE static binary keep the stack, the heap and the code in place.
set -eu
set -o pipefail

fail() { echo "record.sh: $1" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")"
folder=$PWD
for tool in valgrind gcc objdump gzip setarch; do
  command -v "$tool" >/dev/null || fail "$tool is not installed, and a recording needs it."
done

about() {
  case $1 in
    stencil) echo "Heat spreads over a 64 x 64 plate of large cells; five sweeps are offloaded, the host fills the plate, heats the rim and samples the result between sweeps." ;;
    bfs) echo "Five breadth-first searches over a pointer-linked graph; going down the levels is offloaded, eight levels at a time, the host builds the graph and measures the frontier in between." ;;
    hashjoin) echo "A partitioned hash join of two relations; building and probing the table are offloaded, the host generates and partitions the input and adds up the matches." ;;
    *) fail "there is no workload called $1 here (stencil, bfs, hashjoin)." ;;
  esac
}

# The functions of section .offload as JSON, in address order. $1: the binary.
# (nm -S gives the same starts and lengths, but does not say which section.)
offload() {
  local symbols start length name separator=""
  symbols=$(objdump -t "$1" | awk '$3 == "F" && $4 == ".offload" { print $1, $5, $6 }' | sort)
  [ -n "$symbols" ] || fail "$1 has no function in section .offload."
  while read -r start length name; do
    printf '%s    { "symbol": "%s", "range": "0x%x-0x%x" }' \
      "$separator" "$name" "0x$start" "$((0x$start + 0x$length))"
    separator=$',\n'
  done <<<"$symbols"
}

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
# -O1 with frame pointers: plain accesses of 4 and 8 bytes, and nothing vectorised.
flags=(-std=gnu11 -Wall -Wextra -O1 -static -fno-pie -no-pie -fno-omit-frame-pointer -fcf-protection=none)
# Found now: the recorded program gets an empty environment, without PATH.
setarch=$(command -v setarch)
valgrind=$(command -v valgrind)
lackey=(valgrind -q --tool=lackey --trace-mem=yes --basic-counts=no) # what the sidecar says

[ $# -gt 0 ] || set -- stencil bfs hashjoin
for name in "$@"; do
  sentence=$(about "$name")
  gcc "${flags[@]}" -o "$build/$name" "$name.c"
  ( cd "$build"
    # Descriptor 9 carries the trace; the program keeps its own output.
    env -i "$setarch" -R "$valgrind" "${lackey[@]:1}" --log-fd=9 "./$name" 9>&1 >"$name.out" |
      gzip -9 -n >"$name.trace.gz" )
  cat >"$build/$name.json" <<JSON
{
  "schema": 1,
  "program": "$name",
  "about": "$sentence",
  "command": "${lackey[*]} ./$name",
  "offload": [
$(offload "$build/$name")
  ]
}
JSON
  mv "$build/$name.trace.gz" "$folder/$name.trace.gz"
  mv "$build/$name.json" "$folder/$name.trace.gz.json"
  echo "$(cat "$build/$name.out")  ->  $name.trace.gz"
done
