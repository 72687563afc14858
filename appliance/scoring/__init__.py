"""Score how well a model obeys a direction.

May import: models, models.stage, appliance, appliance.direction, appliance.blocking, appliance.machine,
appliance.measuring, appliance.planning, appliance.catalog, appliance.worker, appliance.daemon.
    axes      The axes that are scored: doses, and how each is measured
    films     Films rendered by a worker process of the scorecard
    motion    Camera moves in pixels of picture motion; lag; flicker
    page      A scorecard for people: table, plots, page
    run       Run a scorecard
    scorecard Statistics of the sweeps, as one JSON document
"""
