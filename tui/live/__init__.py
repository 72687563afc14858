"""One thread that watches the library and the machine.

messages What the watcher and the desk's threads post
watcher  One thread that watches the library and the machine, and posts what is new; the desk never waits for a disk
"""
