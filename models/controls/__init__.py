"""What each model family reads of a blocking. One file a kind of control: adding a family adds files here.

inputs What a model reads of a direction's pictures, depth and rays, by its card (models/rendering/conditioning.py
       does it)
tokens Blocking -> what the network reads, in numpy: two control films, camera rays, and a few context tokens
"""
