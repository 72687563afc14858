"""The autoencoder's operations between convolutions: norm, SiLU, bias, residual, upsampling.

On the CPU reference.py runs, on a GPU the Triton kernels of norm_silu.py.

May import: nothing of ours.
    norm_silu RMSNorm + SiLU, bias + residual and nearest-neighbour upsampling, each in one pass over memory (K8)
    reference the same operations in plain torch
"""
