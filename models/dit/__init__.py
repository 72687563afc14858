"""Diffusion transformers. One file a family.

May import: kernels, kernels.linear, kernels.attention, models.
    attention    Who looks at whom: every token of a film at every other, and at the context
    linear       The matrices of a block, in floats, in int8 or in int4, and the ways into them
    wan          The diffusion transformer, in the architecture and with the parameter names of Wan 2.1 / 2.2, in all
                 their variants
    wan_variants What some variants of Wan read besides noise, time and words, and how it becomes tokens
"""
