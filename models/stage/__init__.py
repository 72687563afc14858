"""The procedural 3-D stage: a blocking in, picture, depth and ground truth out.

May import: nothing of ours.
    appearance  What a character looks like, drawn from a hash of the name
    blocking    A shot solved to numbers, frame by frame
    defocus     Depth of field: circles of confusion in pixels, and the blur
    mannequin   A jointed person built from capsules
    model_sheet The model sheet of a shot: its people side by side, without the scene
    optics      Angles, colour temperature, easing and the sRGB curve
    render      Renders a Blocking: picture, depth and ground truth
    sets        A few sets built from solids, each varied by a seed
    solids      Boxes and capsules, and their intersection with rays
"""
