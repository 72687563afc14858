"""Normalise, scale, rotate and quantise rows to int8.

On the CPU reference.py runs, on a GPU the Triton kernels of the other modules.

May import: nothing of ours.
    hadamard      block-Hadamard rotation, which spreads outliers over a block of columns
    layer_norm    LayerNorm, modulation and int8 quantisation (K1)
    quantize      int8 quantisation per row, with optional GELU and rotation (K5)
    reference     the same operations in plain torch
    residual_norm gated residual addition, then the next LayerNorm and quantisation (K3)
    row_tile      what these kernels share: a row in registers, its norm, rotation and rounding
"""
