"""A shot as typed values: the fields, their rules, its file.

May import: models, models.stage, appliance.
    camera        The part of a direction that is the camera: time, picture, framing, pose, moves, lens
    constraints   What must hold between the fields of a direction: names that exist, amounts that suit their move,
                  times in order
    document      A direction as TOML (one shot a file, what its director stated) and as JSON (everything, for the
                  record)
    fields        One table of fields: what each value of a direction is, and the reading, checking and writing that
                  follow from it
    light_presets Light set-ups by name, as numbers: each says only how it differs from three-point light, and stays
                  editable
    marks         A subject's track cut into legs from mark to mark
    notes         The part of a direction that goes with the shot: continuity, references, words, tolerances
    parsing       Values that people and files supply, read by their spec: typed, in range and harmless, or refused in
                  one line
    shot          What was asked for: a shot, in typed values and film words
    staging       The part of a direction that stands before the camera: light, people and the set
    vocabulary    The words of the set, as numbers: shot sizes, angles, sides, moves and easings, each defined once
"""
