"""What the command line and the desk both do: quote, queue, retake, cancel.

May import: models, appliance, appliance.direction, appliance.blocking, appliance.capability, appliance.machine,
appliance.library, appliance.planning, appliance.catalog, appliance.daemon.
    checks     What is proved of a direction before it is queued: its blocking, its pictures
    plan_words Plans in words: film, render settings, duration, resources, queue
    quote      Quotes: a shot file is read and planned, on this machine or another
    requests   What a director asks for: quote, queue, retake, cancel
    take_words Takes in words: state, ending, facts
"""
