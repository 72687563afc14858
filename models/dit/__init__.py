"""Diffusion transformers. One file a family.

May import: kernels, kernels.linear, kernels.attention, models.
    attention    Self- and cross-attention
    linear       Linear layers in float, int8 or int4, with the operations that prepare their inputs
    wan          The diffusion transformer of Wan 2.1 / 2.2 and its variants
    wan_variants Extra inputs of some variants of Wan, and the layers that embed them
"""
