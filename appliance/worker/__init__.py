"""The child process that holds the GPU: the only folder of the appliance that imports torch.

May import: models, models.cost, models.rendering, appliance, appliance.direction, appliance.blocking,
appliance.capability, appliance.machine, appliance.measuring, appliance.planning, appliance.delivery.
    faults   What an error means for the take: bad input, disk, memory, or a device fault
    film     One film for a score: rendered into raw frames, nothing delivered
    pipe     The worker's ends of its two pipes: orders in, reports out
    protocol The messages between daemon and worker: dataclasses, one JSON document a line
    take     One take: rendered, delivered under hidden names, and measured
    __main__ `python -m appliance.worker`: reads orders, writes reports
"""
