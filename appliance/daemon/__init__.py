"""Claims takes, runs the worker, publishes.

May import: models, appliance, appliance.direction, appliance.machine, appliance.measuring, appliance.library,
appliance.planning, appliance.delivery, appliance.catalog, appliance.worker.
    attempt        One take, from claimed to ended, on the daemon's side: plan it, follow the worker, publish, note how
                   it went
    checkpoints    Where renders save their steps: a folder for each take that renders or waits to go on, named by its
                   id and fence
    instance       One daemon for each house: the lock that says so, and how a daemon is started when there is none
    recovery       Where the films of takes lie, and what a daemon finds published that nobody wrote down
    serve          The daemon: claims takes, plans them, hands them to its warm worker, publishes what comes back
    worker_process The daemon's end of the line to its worker: orders out, reports in, one JSON document a line
    __main__       `python -m appliance.daemon`
"""
