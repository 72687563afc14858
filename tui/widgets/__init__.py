"""One file a widget, each testable without a screen.

take_list The list of takes: one row each, drawn line by line, so that ten thousand cost what forty do
"""
