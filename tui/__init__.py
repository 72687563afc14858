"""The application around the screens.

May import: appliance, tui.live, tui.screens.
    app           The desk: the application around the screens
    output_filter The last gate before the terminal: no text, from whatever file or person, may command it
Folders, each of which imports only those above it and the files here:
    wording       takes and directions as lines of text
    live          one thread that watches the library and the machine
    widgets       one file a widget, each testable without a screen
    screens       one file a screen
"""
