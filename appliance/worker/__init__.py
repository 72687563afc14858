"""The child process that holds the GPU: the only place that imports torch.

May import: models, models.cost, models.rendering, appliance, appliance.direction, appliance.blocking,
appliance.capability, appliance.machine, appliance.measuring, appliance.planning, appliance.delivery.
    faults   What an error means for the take: bad input, disk, memory, or a fault of the device
    film     One film for a score: rendered and measured, nothing delivered
    protocol What the daemon and the worker say to each other: one JSON document a line
    take     One take, rendered, delivered and measured
    __main__ The worker: the child process that owns the GPU, or all cores
"""
