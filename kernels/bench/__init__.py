"""Timings and baselines (python -m kernels.bench as today).

May import: kernels, kernels.rowwise, kernels.vae, kernels.linear, kernels.attention, kernels.toolchain.
    baselines What one would use instead of our kernels: torch's libraries, and plain expressions for torch.compile to
              fuse
    cases     What `kernels.bench` measures: the cases of each operation at the shapes of a Wan block
    harness   What a case of the benchmark is: an operation at a shape of Wan, its twin, its baselines and its goals
    report    What a benchmark is asked, whether its goals are met, and the one JSON document that it leaves
    timing    How long a call takes, how much memory, and what the card itself can do: what both benchmarks measure with
    __main__  Every operation against what one would use instead, in the same process, at the shapes of Wan
"""
