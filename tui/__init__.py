"""The application around the screens.

May import: appliance, tui.live, tui.screens.
    app           The desk: the application around the screens
    output_filter Filters for every line before it is written to the terminal
Folders, each of which imports only those above it and the files here:
    wording       takes and directions as lines of text
    live          the thread that polls the library and the machine
    widgets       one file a widget, each testable without a screen
    screens       one file a screen
"""
