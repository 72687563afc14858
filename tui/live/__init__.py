"""One thread that watches the library and the machine.

May import: models, appliance, appliance.machine, appliance.measuring, appliance.library, appliance.daemon.
    messages Messages that the watcher and other threads post
    watcher  The thread that polls the library and the machine and posts changes
"""
