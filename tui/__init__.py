"""The director's desk: a terminal that anyone can open, close and lose without touching a render.

May import: textual, and the torch-free parts of appliance and models. Never kernels, torch, triton, safetensors.
    app        the application: screens, theme, signals
    board      screen: what renders, what waits, what happened; start, cancel, retake
    queue      widget: one row a take, drawn line by line
    start      dialog: choose a shot file, read its quote, queue it
    dialogs    one question; one page of facts: a take in full, every key
    doing      what a key does to the library, on a thread
    watch      thread: sees the library and the machine change, posts what is new
    messages   what is posted
    words      takes as lines of text
    directing  a direction as lines of text, one a department
    filter     the last gate: nothing that a file says reaches the terminal as a command
    desk.tcss  the look
Importing any of these loads neither numpy nor the library's database driver: both come after the first paint.
"""
