"""What each model family reads of a blocking. One file a kind of control: adding a family adds files here.

May import: models, models.stage.
    films  The control films of a blocking: its previs and its depth, coded as the network reads them
    inputs What a model reads of a direction's pictures, depth and rays, by its card
    rays   Camera rays of a blocking
    tokens Blocking -> what the network reads, in numpy: two control films, camera rays, and a few context tokens
"""
