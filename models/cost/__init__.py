"""Parameters, FLOPs and bytes, by arithmetic.

May import: models.
    activations  Bytes alive inside one forward, read off the path of models/dit/wan.py
    autoencoder  What the autoencoders cost: parameters, FLOPs of a latent cell, bytes at work
    flops        FLOPs of a card at a geometry, by arithmetic alone; a multiply-add counts as 2. Torch-free
    footprint    The memory that a render takes at its highest, itemised, on the device and in the machine beside it
    text_encoder The sizes of Wan's text encoder (umT5-xxl, the encoder half), and what they cost
    transformer  Parameters of a card and the bytes that its weights take, block by block
"""
