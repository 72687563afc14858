#!/usr/bin/env bash
# What only a machine with a GPU can tell, in at most ten minutes: the GPU's tests, then both benchmarks.
#
#     install/on_gpu.sh                    all three
#     install/on_gpu.sh models             some of tests, kernels, models: each then has more of the ten minutes
#     install/on_gpu.sh --dry-run          without a GPU: shows that all is there, measures nothing
#
# The tests compile some 500 kernels, which a machine that has never run them does for minutes (the longest file took
# 248 s on an H100 with a training beside): there, run each step on its own. Documents and logs go to OUT, else to
# kernels/measured (of a dry run to a new folder); other options go to the benchmarks (--only=attn). Installs nothing: it
# needs a Python with torch, triton, numpy, safetensors and pytest (RUSHES_PYTHON, else .venv, else python3). What fails
# or runs out of time keeps nothing else from running, and what was measured until then is kept.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

steps=() options=() kept=kernels/measured
for argument in "$@"; do
    case "$argument" in
        tests | kernels | models) steps+=("$argument") ;;
        --*) options+=("$argument") ;;
        *)
            printf 'on_gpu.sh: %s is not one of tests, kernels, models\n' "$argument" >&2
            exit 2
            ;;
    esac
    [ "$argument" = --dry-run ] && kept="$(mktemp -d)"
done
[ ${#steps[@]} -gt 0 ] || steps=(tests kernels models)

out="${OUT:-$kept}"
python="${RUSHES_PYTHON:-.venv/bin/python}"
command -v "$python" >/dev/null || python=python3
mkdir -p "$out"
export PYTHONUNBUFFERED=1
limit=$((540 / ${#steps[@]}))
failed=()

# Runs a benchmark with a time limit. The log holds everything; the document is too long for a screen.
benchmark() {
    timeout --signal=INT --kill-after=15 "$limit" \
        "$python" -m "$1" --out "$out" --limit $((limit - 45)) "${@:2}" "${options[@]}" 2>&1 |
        tee "$out/$step.log" | grep -v '^{'
    return "${PIPESTATUS[0]}"
}

# On an H100, four at a time, these took 248, 131, 94, 68, 67, 58 and 44 s, no other file more than 40. The longest
# begins first: nothing then waits for it alone.
longest=(tests/kernels/rowwise/test_ops.py tests/kernels/attention/test_ops.py tests/models/loading/test_quantize.py
    tests/models/vae/test_wan.py tests/kernels/linear/test_ops.py tests/models/dit/test_attention.py
    tests/models/loading/test_streaming.py)

# Runs the files of tests that have some for a GPU (the others may import what is not installed here), one for two cores
# at a time, as most of their time is the compiler's, but no more than eight contexts on the card; and each in a process
# of its own, as a GPU that was once asked for memory that is not there answers a process nothing more. What a file says
# comes when it ends.
tests() {
    local end=$(($(date +%s) + limit)) most=$(($(nproc) / 2)) names
    most=$((most < 2 ? 2 : most > 8 ? 8 : most))
    names="$(printf '%s\n' "${longest[@]}")"
    { printf '%s\n' "$names"; grep -rl --include='test_*.py' 'mark\.gpu' tests | grep -vxF "$names"; } |
        tr '\n' '\0' | xargs -0 -P "$most" -n 1 bash -c "$one_file" "$end" "$python" | tee "$out/tests.log"
    return "${PIPESTATUS[2]}"
}

# shellcheck disable=SC2016 # this is for the shells that tests() starts
one_file='left=$(($0 - $(date +%s)))
[ "$left" -gt 0 ] || { printf "%s: no time was left\n" "$2"; exit 1; }
said="$(timeout --signal=INT --kill-after=15 "$left" "$1" -m pytest -q --disable-warnings -m gpu "$2" 2>&1)"
code=$?
printf "%s\n%s\n" "$2" "$said"
exit "$code"'

for step in "${steps[@]}"; do
    printf '==> %s\n' "$step"
    case "$step" in
        tests) tests ;;
        kernels) benchmark kernels.bench ;;
        # Attention as the card's row of kernels/dispatch.py has it on Hopper, and both ways that may beat it.
        models) benchmark models.bench --attention sdpa int8_f32 int8_f16 ;;
    esac || failed+=("$step (exit $?)")
done

printf '==> Everything is in %s\n' "$out"
[ ${#failed[@]} -eq 0 ] || { printf 'on_gpu.sh: not whole: %s\n' "${failed[*]}" >&2; exit 1; }
