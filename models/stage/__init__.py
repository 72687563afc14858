"""The procedural 3-D stage: a blocking in, picture, depth and ground truth out.

May import: nothing of ours.
    appearance  What a character looks like: thousands of people from a name, the same on every machine
    blocking    What a shot is, frame by frame: the one type that the stage, the conditions and the score read
    defocus     What a real lens does away from its focal plane: circles of confusion, in pixels
    mannequin   A jointed person built from capsules: proportions from the appearance, limbs from the walk
    model_sheet The model sheet of a shot: its people side by side, as a costume department draws them, and nothing else
                of the shot
    optics      Angles, lenses, colour temperature and easing: the arithmetic that directing and the stage share
    render      The procedural 3-D stage: renders a Blocking exactly, picture and ground truth alike
    sets        Where a shot takes place: a few sets built from solids, each varied by a seed
    solids      The solids of the stage and the rays that meet them: boxes and capsules (a ball is a capsule of no
                length)
"""
