"""The director's desk: a terminal that anyone can open, close and lose without touching a render.

May import: textual, and appliance's torch-free parts. Never kernels, torch, triton, safetensors; never models' heavy modules.
    app        the application: screens, theme, signals
    board      screen: what renders, what waits, what happened; start, cancel, retake
    queue      widget: one row a take
    details    widget: one take or one shot in full
    start      dialog: choose a shot file, read its quote, queue it
    confirm    dialog: one question
    helping    dialog: every key, from the actions' own table
    watch      thread: sees the library change and posts what is new
    messages   what the watcher posts
    words      directions, plans and takes as lines of text
    filter     nothing that a file says reaches the terminal as a command
Importing any of these loads neither numpy nor the library's database driver: both come after the first paint.
"""
