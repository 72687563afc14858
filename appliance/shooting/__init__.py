"""What the command line and the desk both do: quote, queue, retake, cancel.

May import: models, appliance, appliance.direction, appliance.capability, appliance.machine, appliance.library,
appliance.planning, appliance.catalog, appliance.daemon.
    quote    From a shot file to a quote, and from a take to its successor: what the command line and the desk both do
             first
    requests What a key does to the library
"""
