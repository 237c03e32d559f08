#!/usr/bin/env bash
# All that must be shown on a GPU, in the order of its worth, in 6 minutes on one large GPU. No network, no Ray.
#
#   benchmarks/gpu.sh                                        # on the GPU
#   benchmarks/gpu.sh --photographs FOLDER --mini images.tar # with photographs of real size, and miniImageNet's
#   benchmarks/gpu.sh --device cpu --tiny                    # tries the script itself where there is none
#
# --out FOLDER (or $OUT) gets gpu.jsonl, a line for every row, and gpu.log; else they go to data/gpu. --total SECONDS
# (default 350) is what all parts may take, and divides it among them. PYTHON names the interpreter, one with torch, numpy and Pillow; part 4 also
# wants pipeline's packages. A part has a time limit of its own, prints its rows as they come, and cannot stop the next.
# The exit status is 0 if every part ended well and every check holds.
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} out=${OUT:-data/gpu} total=350 common=() photographs=() mini=()
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2; shift 2 ;;
    --total) total=$2; shift 2 ;;
    --photographs) photographs=(--photographs "$2"); shift 2 ;;
    --mini) mini=(--mini "$2"); shift 2 ;;
    --device) common+=(--device "$2"); shift 2 ;;
    --tiny) common+=(--tiny); shift ;;
    *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "benchmarks/gpu.sh"; exit 2 ;;
  esac
done
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$out"
: > "$out/gpu.jsonl"
exec > >(tee "$out/gpu.log") 2>&1
printer=$!
SECONDS=0

part() { # name, limit in seconds, arguments
  local name=$1 limit=$(($2 * total / 350)) began=$SECONDS left=$((total - SECONDS)) status=0
  shift 2
  [ "$limit" -gt "$left" ] && limit=$left
  if [ "$limit" -lt 5 ]; then
    printf '\n## %s: left out, the time is over\n' "$name"
    printf '{"part": "%s", "status": 124, "seconds": 0}\n' "$name" >> "$out/gpu.jsonl"
    return
  fi
  timeout --kill-after=3 "$limit" "$python" -m "benchmarks.gpu_$name" --out "$out" --seconds $((limit - 3)) \
    ${common[@]+"${common[@]}"} "$@" || status=$?
  [ $status -gt 1 ] && printf '%s: ended with status %d after %d s (limit %d)\n' "$name" $status $((SECONDS - began)) "$limit"
  printf '{"part": "%s", "status": %d, "seconds": %d}\n' "$name" $status $((SECONDS - began)) >> "$out/gpu.jsonl"
}

"$python" -c 'import sys, torch; print("Python", sys.version.split()[0], "torch", torch.__version__, "CUDA", torch.version.cuda)'
part correct 75
part conv4 95
part inception 75
part decoding 45 ${photographs[@]+"${photographs[@]}"}
part supports 25
part mini 350 ${mini[@]+"${mini[@]}"}
"$python" -m benchmarks.gpu_summary "$out"
status=$?
exec >&- 2>&-
wait "$printer"
exit $status
