"""Parameters, FLOPs and bytes, by arithmetic.

May import: models, models.controls.
    activations  Bytes of activations inside one forward
    autoencoder  Parameters, FLOPs and working memory of the autoencoders
    flops        FLOPs of a card at a geometry
    footprint    Peak memory of a render, itemised, on the device and on the host
    text_encoder Sizes and costs of Wan's text encoder (umT5-xxl)
    transformer  Parameters of a card and bytes of its weights, block by block
"""
