"""The operations that models call, and which implementation runs where.

An operation (kernels/ops.py) has two implementations of one signature: a Triton kernel, and a plain-torch reference
that defines its meaning. The reference runs on the CPU and on GPUs older than Turing, the kernel on all newer GPUs.
Which attention, integer product and dtype a device uses is one table, kernels/dispatch.py, which needs no torch. Each
folder below holds the kernels of one family of operations next to their reference.py.

May import: kernels.rowwise, kernels.vae, kernels.linear, kernels.attention.
    dispatch  which implementation of each operation a device uses
    ops       the operations that models call
    raycast   ray caster for the procedural stage on a GPU
Folders, each of which imports only those above it and the files here:
    rowwise   normalise, scale, rotate and quantise rows
    vae       the autoencoder's operations between convolutions
    linear    int8 and int4 matrix products
    attention int8 attention and the preparation of queries, keys, values
    toolchain Triton without a compiler or a GPU: driver module, ahead-of-time builds, compile-only checks
    bench     timings and baselines (python -m kernels.bench)
"""
