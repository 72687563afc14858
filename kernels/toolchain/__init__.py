"""Triton without a compiler: its driver, ahead-of-time builds, compile-only checks.

May import: kernels, kernels.rowwise, kernels.vae, kernels.linear, kernels.attention.
    compile_only A GPU that is not here
    driver       How Triton gets the C module that launches its kernels, also on a box without a compiler
    launches     Every launch that matters, without data: what is compiled ahead of time, and what the tests hold to a
                 table
    prebuild     Makes ahead of time what Triton would compile on the machine that renders: it then needs no compiler,
                 and no time
    resources    What every kernel takes on every card, compiled here without one
"""
