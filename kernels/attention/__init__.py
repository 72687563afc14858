"""Int8 attention and the preparation of its queries, keys and values.

On the CPU reference.py runs. On a GPU the Triton kernels of the other modules do, where the dispatch table chooses int8
attention; with torch's attention only RMSNorm and rotary embedding (`rmsnorm_rope`) are used.

May import: kernels.rowwise.
    int8         int8 attention: one pass over the keys with an online softmax (K6)
    queries_keys RMSNorm, rotary embedding and int8 quantisation of queries and keys (K2)
    reference    the same operations in plain torch, and the layout of their tensors
    rotary       rotary position embedding over time, height and width
    values       values scaled by channel and cast to float16 or float8 (K2)
"""
