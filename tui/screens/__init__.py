"""One file a screen.

May import: models, appliance, appliance.measuring, appliance.library, appliance.catalog, appliance.shooting,
tui.wording, tui.live, tui.widgets.
    board    The board: what renders now, every take with its state, and the take under the cursor; start, cancel,
             retake
    dialogs  Small dialogs: one question, every key, one take in full
    new_take Choose a shot file: type its path or pick one that lies here or ships with Rushes, read its quote, queue it
"""
