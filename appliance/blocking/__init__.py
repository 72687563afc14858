"""A direction solved to numbers, frame by frame.

May import: models, models.stage, appliance.direction.
    camera    The camera of a direction, frame by frame: stated or solved, then moved, shaken and focused
    clearance Clear the way: dressing that the camera would stand in, or that hides whom it films, is carried off the
              set
    curves    Values over time: keys sampled at the frames, the progress of a move, and the noise of a hand
    framing   Framing solved: a shot size, an angle, a side and a lens become where the camera stands and where it looks
    lighting  The light plot of a direction, frame by frame: where each lamp is, how bright and what colour
    moves     Camera moves compiled to per-frame channels: place, pan, tilt, roll, focal length
    solve     Blocking: a direction solved to numbers
    walking   A subject's marks walked: place, heading and gait at every frame
"""
