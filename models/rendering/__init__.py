"""A blocking becomes frames: encode, condition, denoise, decode.

May import: models, models.stage, models.cost, models.weight_files, models.dit, models.controls, models.encoders,
models.loading.
    checkpoint   A walk on disk, step by step, so that a render which is cut off goes on where it stopped
    conditioning A blocking, and what else is asked for, become what the network of a card reads
    encode       The parts of a house's package that work before a walk, and are let go of: who reads words, and who
                 sees pictures
    guidance     How a network is asked at a step: the right one of two, with the words and without them, at times not
                 at all
    keyframes    Frames of a film that are given, as a network of the Wan I2V layout reads them: a mask, and a film of
                 them alone
    render       The main path: a blocking becomes frames
    sampler      From noise to a film: the flow's schedule of noise levels, and the solvers that walk down it
    step_cache   Steps at which the network is not asked: what it would say is taken from what it said last
"""
