"""Claims takes, runs the worker, publishes.

May import: models, appliance, appliance.direction, appliance.machine, appliance.measuring, appliance.library,
appliance.planning, appliance.delivery, appliance.catalog, appliance.worker.
    attempt        One attempt at a take: plan it, follow the worker, publish, record how it ended
    checkpoints    Folders of saved denoising steps, one for each unfinished take
    instance       One daemon for each installation: its lock, its log, how it is started
    recovery       Films that were published but not recorded before a daemon ended
    serve          The daemon's loop: claims takes and has its warm worker render them
    worker_process The daemon's end of the pipes to its worker process
    __main__       `python -m appliance.daemon`
"""
