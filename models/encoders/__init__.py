"""Text and image encoders.

May import: models, models.dit.
    clip          What Wan 2.1 sees of a keyframe: the picture tower of CLIP ViT-H/14 (open-clip, XLM-R-large), as far
                  as it is read
    names         One encoder's weights go by many names: those of other layouts -> the original's, which ours are
    sentencepiece The words of a SentencePiece model (spiece.model), read without its library
    tokenizer     A director's words -> the numbers that umT5 reads
    umt5          The text encoder of Wan: the encoder half of umT5, with the parameter names of the original Wan
                  checkpoints
"""
