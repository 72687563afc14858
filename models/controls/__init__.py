"""What each model family reads of a request and of a blocking. A new family adds its facts and files here.

May import: models, models.stage.
    films  Control films of a blocking: previs and coded depth
    inputs What the network of a card reads: pictures, depth, rays
    rays   Camera rays of a blocking
    tokens Context tokens of a blocking: camera, lamps, set, subjects
"""
