"""Autoencoders. One file a family.

May import: kernels, models.
    detail     What a coarse code of a film loses, given back from its previs
    previs     Film <-> latents in Wan's geometry: 16 channels, 4 frames and 8x8 pixels to one cell, the first frame
               alone
    tiling     Pictures in pieces: which cells a tile gives, and which it has to see for that
    wan        Wan's autoencoders: film <-> latents, 2.1 with cells of 4 frames x 8 x 8 pixels, 2.2 of 4 x 16 x 16
    wan_blocks What Wan's autoencoders are made of: convolutions that remember frames, residual blocks, changes of size
"""
