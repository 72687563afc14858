"""Takes and directions as lines of text.

May import: appliance, appliance.direction, appliance.measuring, appliance.library.
    direction_lines A direction in the words of the set, a line for each department: frame, camera, lens, light, cast,
                    set
    take_lines      Takes as lines of text: state words that need no colour, and what the details pane says
"""
