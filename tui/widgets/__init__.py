"""One file a widget, each testable without a screen.

May import: appliance, appliance.library, tui.wording.
    facts     Facts and keys as two-column tables
    take_list The list of takes with a cursor; only visible rows are drawn
"""
