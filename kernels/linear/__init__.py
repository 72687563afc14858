"""Int8 and int4 matrix products.

May import: kernels.
    int4      K7: int4 groups -> int8 rows, ready for K4
    int8      K4: int8 rows x int8 matrix -> float rows; scales, bias and GELU in the epilogue
    packing   How quantized matrices lie in memory and in files, and how float weights become int4. Plain torch, any
              device
    reference Integer matrix products in plain torch: what they mean, and how the CPU computes them
    tiles     How much of the work one program takes: tile sizes as data, by kernel, shape class and compute capability
"""
