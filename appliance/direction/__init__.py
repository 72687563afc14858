"""A shot as typed values: its fields, their rules, its file.

May import: models, models.stage, appliance.
    camera        The camera's part of a direction: time, picture, framing, moves, lens
    constraints   Rules between fields: names that exist, amounts that suit a move
    document      A direction as TOML and as JSON
    fields        The table of fields: type, unit, range and help of each
    light_presets Lighting presets as numbers
    marks         A subject's track as legs from mark to mark
    notes         Continuity, references, text, tolerances
    parsing       Supplied values read by their spec, or refused in one line
    shot          A shot as it was asked for
    staging       What is in front of the camera: light, people, the set
    toml_slips    TOML whose errors show the line and name usual slips
    vocabulary    Film terms as numbers: shot sizes, angles, sides, moves, easings
"""
