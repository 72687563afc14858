"""One file a screen.

May import: models, appliance, appliance.measuring, appliance.library, appliance.catalog, appliance.shooting,
tui.wording, tui.live, tui.widgets.
    board    The main screen: what renders, every take, details; new take, cancel, retake
    dialogs  Dialogs: a question, and a page of facts
    new_take Choose a shot file, read its quote, queue it
"""
