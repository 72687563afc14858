"""The operations that models call, and which implementation runs where.

May import: kernels.rowwise, kernels.vae, kernels.linear, kernels.attention.
    dispatch  Which way each operation goes on which device: one table, read from the top
    ops       The operations models call
    raycast   A film of boxes and capsules on a floor, a ray at a time: the procedural stage of models on a GPU
Folders, each of which imports only those above it and the files here:
    rowwise   normalise, scale, rotate and quantise rows
    vae       what lies between an autoencoder's convolutions
    linear    int8 and int4 matrix products
    attention int8 attention and the preparation of queries, keys, values
    toolchain Triton without a compiler: its driver, ahead-of-time builds, compile-only checks
    bench     timings and baselines (python -m kernels.bench as today)
"""
