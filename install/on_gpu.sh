#!/usr/bin/env bash
# What only a machine with a GPU can tell, in at most ten minutes: the GPU's tests, then both benchmarks.
#
#     install/on_gpu.sh                    all three
#     install/on_gpu.sh models             some of tests, kernels, models: each then has more of the ten minutes
#     install/on_gpu.sh --dry-run          without a GPU: shows that all is there, measures nothing
#
# Documents and logs go to OUT, else to kernels/measured; other options go to the benchmarks (--only=attn). Installs
# nothing: it needs a Python with torch, triton, numpy, safetensors and pytest (RUSHES_PYTHON, else .venv, else python3).
# What fails or runs out of time keeps nothing else from running, and what was measured until then is kept.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

steps=() options=()
for argument in "$@"; do
    case "$argument" in
        tests | kernels | models) steps+=("$argument") ;;
        --*) options+=("$argument") ;;
        *)
            printf 'on_gpu.sh: %s is not one of tests, kernels, models\n' "$argument" >&2
            exit 2
            ;;
    esac
done
[ ${#steps[@]} -gt 0 ] || steps=(tests kernels models)

out="${OUT:-kernels/measured}"
python="${RUSHES_PYTHON:-.venv/bin/python}"
command -v "$python" >/dev/null || python=python3
mkdir -p "$out"
export PYTHONUNBUFFERED=1
limit=$((540 / ${#steps[@]}))
failed=()

# Runs Python with a time limit. The log holds everything; the document is too long for a screen.
run() {
    timeout --signal=INT --kill-after=15 "$limit" "$python" "$@" 2>&1 | tee "$out/$step.log" | grep -v '^{'
    return "${PIPESTATUS[0]}"
}

benchmark() { run -m "$1" --out "$out" --limit $((limit - 45)) "${@:2}" "${options[@]}"; }

for step in "${steps[@]}"; do
    printf '==> %s\n' "$step"
    case "$step" in
        tests)
            # These alone: the others may import what is not installed here.
            mapfile -t files < <(grep -rl --include='test_*.py' 'mark\.gpu' tests)
            run -m pytest -q -m gpu "${files[@]}"
            ;;
        kernels) benchmark kernels.bench ;;
        # Attention as the card's row of kernels/dispatch.py has it on Hopper, and both ways that may beat it.
        models) benchmark models.bench --attention sdpa int8_f32 int8_f16 ;;
    esac || failed+=("$step (exit $?)")
done

printf '==> Everything is in %s\n' "$out"
[ ${#failed[@]} -eq 0 ] || { printf 'on_gpu.sh: not whole: %s\n' "${failed[*]}" >&2; exit 1; }
