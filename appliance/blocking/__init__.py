"""A direction solved to numbers, frame by frame.

May import: models, models.stage, appliance.direction.
    camera     The camera at every frame: stated or solved, moved, shaken, focused
    clearance  Remove set dressing that is in the camera's way
    curves     Values over time: keys, progress of a move, noise
    framing    Solve a framing to the camera's position and aim
    lighting   The lamps at every frame
    moves      Camera moves compiled to per-frame channels
    solve      Solve a direction to a blocking
    visibility Whether the film can show what was directed, and what would help
    walking    A subject's walk from mark to mark
"""
