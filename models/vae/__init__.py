"""Autoencoders. One file a family.

May import: kernels, models.
    detail     Restores from the previs what the autoencoder loses
    previs     Our small autoencoder, in the latent geometry of Wan 2.1
    tiling     Tiles: which cells one outputs, and which it is computed from
    wan        Wan's autoencoders, 2.1 and 2.2
    wan_blocks Their layers: causal convolutions, residual blocks, down- and upsampling
"""
