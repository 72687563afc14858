"""Int8 attention and the preparation of queries, keys, values.

May import: kernels.rowwise.
    int8         K6: attention of every token to every token: int8 scores, float16 or float8 values, one pass over the
                 keys
    queries_keys K2: the rows of a query or key matrix -> normed over their whole width, turned by their token's place,
                 int8 by head
    reference    Attention and what prepares its inputs, in plain torch: what they mean, and how the CPU computes them
    rotary       Positions in a film as rotations of channel pairs: which pairs turn with time, height and width, and
                 how fast
    values       K2 for values: every channel divided by a power of two, so that sums over 64 keys stay within float16;
                 then cast
"""
