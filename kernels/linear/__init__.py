"""Int8 and int4 matrix products.

On the CPU reference.py runs. On a GPU the Triton kernels do; on Turing, torch's integer product with a Triton epilogue.

May import: kernels.
    int4      unpacks int4 groups to int8 rows (K7)
    int8      int8 matrix product with scales, bias and GELU in the epilogue (K4)
    packing   memory layout of quantised matrices, and quantisation of float weights to int4
    reference the same operations in plain torch
    tiles     tile sizes by kernel, shape class and compute capability
"""
