"""Text and image encoders.

May import: models, models.dit.
    clip          The image encoder of Wan 2.1: CLIP ViT-H/14
    names         Parameter names of other layouts -> the original's
    sentencepiece The vocabulary of a SentencePiece model, read without its library
    tokenizer     A prompt -> the token ids that umT5 reads
    umt5          The text encoder of Wan: the encoder half of umT5
"""
