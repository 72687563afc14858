"""Triton without a compiler or a GPU: its driver module, ahead-of-time builds, compile-only checks.

May import: kernels, kernels.rowwise, kernels.vae, kernels.linear, kernels.attention.
    compile_only Triton driver that compiles for any GPU and launches nothing
    driver       the C module that launches kernels: found prebuilt, or compiled and cached
    launches     every kernel launch of the known networks, on tensors without data
    prebuild     builds driver module and kernels ahead of time
    resources    registers, shared memory and instructions of each compiled kernel
"""
