"""Takes and directions as lines of text.

May import: appliance, appliance.direction, appliance.capability, appliance.measuring, appliance.library,
appliance.shooting.
    direction_lines A direction as lines of text, one for each department
    take_lines      Takes as lines of text: states, the progress bar, the details pane
"""
