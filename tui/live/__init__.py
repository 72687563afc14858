"""One thread that watches the library and the machine.

May import: models, appliance, appliance.machine, appliance.measuring, appliance.library, appliance.daemon.
    messages What the watcher and the desk's threads post
    watcher  One thread that watches the library and the machine, and posts what is new; the desk never waits for a disk
"""
