"""Timings of every operation against baselines (python -m kernels.bench).

May import: kernels, kernels.rowwise, kernels.vae, kernels.linear, kernels.attention, kernels.toolchain.
    baselines what each operation is compared with: torch's libraries, and expressions for torch.compile
    cases     the benchmark cases of each operation at the shapes of a Wan block
    harness   one case: operation, arguments, error against the reference, baselines, goals
    report    options, goals and the JSON document of a benchmark
    timing    time, peak memory, and the device's own limits
    __main__  runs the benchmark
"""
