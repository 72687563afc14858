#!/usr/bin/env bash
# On a machine with a GPU, in at most ten minutes: the tests that need one, then both benchmarks.
#
#     install/on_gpu.sh                    all three
#     install/on_gpu.sh models             only some of tests, kernels, models: each then gets more of the ten minutes
#     install/on_gpu.sh --dry-run          without a GPU: checks that everything is installed, measures nothing
#
# The tests compile about 500 kernels, which takes minutes on a machine that has not run them before (the longest file
# took 248 s on an H100 that was also training): there, run each step on its own. Documents and logs are written to OUT,
# by default kernels/measured (a dry run: a new folder); other options are passed to the benchmarks (--only=attn).
# Installs nothing: it needs a Python with torch, triton, numpy, safetensors and pytest (RUSHES_PYTHON, else .venv, else
# python3). A step that fails or runs out of time does not stop the others, and its results so far are written.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

steps=() options=() results=kernels/measured
for argument in "$@"; do
    case "$argument" in
        tests | kernels | models) steps+=("$argument") ;;
        --*) options+=("$argument") ;;
        *)
            printf 'on_gpu.sh: %s is not one of tests, kernels, models\n' "$argument" >&2
            exit 2
            ;;
    esac
    [ "$argument" = --dry-run ] && results="$(mktemp -d)"
done
[ ${#steps[@]} -gt 0 ] || steps=(tests kernels models)

out="${OUT:-$results}"
python="${RUSHES_PYTHON:-.venv/bin/python}"
command -v "$python" >/dev/null || python=python3
mkdir -p "$out"
export PYTHONUNBUFFERED=1
limit=$((540 / ${#steps[@]}))
failed=()

# Runs a benchmark with a time limit. The log holds everything; the JSON document is too long to print.
benchmark() {
    timeout --signal=INT --kill-after=15 "$limit" \
        "$python" -m "$1" --out "$out" --limit $((limit - 45)) "${@:2}" "${options[@]}" 2>&1 |
        tee "$out/$step.log" | grep -v '^{'
    return "${PIPESTATUS[0]}"
}

# On an H100, four at a time, these took 248, 131, 94, 68, 67, 58 and 44 s, no other file more than 40. The longest
# starts first, so that the others run next to it.
longest=(tests/kernels/rowwise/test_ops.py tests/kernels/attention/test_ops.py tests/models/loading/test_quantize.py
    tests/models/vae/test_wan.py tests/kernels/linear/test_ops.py tests/models/dit/test_attention.py
    tests/models/loading/test_streaming.py)

# Runs the test files that have GPU tests (others may import packages that are not installed here), one for every two
# cores at a time, because compiling takes most of the time, but at most eight CUDA contexts on the GPU. Each file has its
# own process, because after one failed allocation CUDA may refuse everything else in that process. Its output is printed
# when it ends.
tests() {
    local end=$(($(date +%s) + limit)) most=$(($(nproc) / 2)) names
    most=$((most < 2 ? 2 : most > 8 ? 8 : most))
    names="$(printf '%s\n' "${longest[@]}")"
    { printf '%s\n' "$names"; grep -rl --include='test_*.py' 'mark\.gpu' tests | grep -vxF "$names"; } |
        tr '\n' '\0' | xargs -0 -P "$most" -n 1 bash -c "$one_file" "$end" "$python" | tee "$out/tests.log"
    return "${PIPESTATUS[2]}"
}

# shellcheck disable=SC2016 # expanded by the shells that tests() starts
one_file='left=$(($0 - $(date +%s)))
[ "$left" -gt 0 ] || { printf "%s: not run, no time was left\n" "$2"; exit 1; }
output="$(timeout --signal=INT --kill-after=15 "$left" "$1" -m pytest -q --disable-warnings -m gpu "$2" 2>&1)"
code=$?
printf "%s\n%s\n" "$2" "$output"
exit "$code"'

for step in "${steps[@]}"; do
    printf '==> %s\n' "$step"
    case "$step" in
        tests) tests ;;
        kernels) benchmark kernels.bench ;;
        # Attention as kernels/dispatch.py chooses it on Hopper, and both kernels that may be faster.
        models) benchmark models.bench --attention sdpa int8_f32 int8_f16 ;;
    esac || failed+=("$step (exit $?)")
done

printf '==> Results are in %s\n' "$out"
[ ${#failed[@]} -eq 0 ] || { printf 'on_gpu.sh: not complete: %s\n' "${failed[*]}" >&2; exit 1; }
