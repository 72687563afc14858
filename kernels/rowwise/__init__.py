"""Normalise, scale, rotate and quantise rows.

May import: nothing of ours.
    hadamard      The block-Hadamard rotation: it spreads an outlier over its block, so that int8 rows keep their small
                  values
    layer_norm    K1
    quantize      K5: float rows -> int8 rows with one scale each; GELU and the block-Hadamard rotation first where
                  asked
    reference     Every operation in plain torch: what it means, and how the CPU computes it
    residual_norm K3: a branch's result joins the residual stream, and the next branch's input is normed and rounded in
                  the same pass
    row_tile      What the kernels that work row by row share: how a row lies in registers, its norm, its rotation, its
                  rounding
"""
