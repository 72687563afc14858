"""A model scored on how well it obeys.

May import: models, models.stage, appliance, appliance.direction, appliance.blocking, appliance.machine,
appliance.measuring, appliance.planning, appliance.catalog, appliance.daemon.
    axes      The axes a model is scored on: what is commanded, in seven doses, and how it is measured on a film
    films     Films of directions, rendered by a worker of our own while the ones before are measured; nothing is
              delivered
    motion    Camera moves in the one unit they share, pixels of picture motion; and what a still camera's film shows
    page      A scorecard for people: a table, a picture of every dose-response, and a section for the page beside the
              weights
    run       The scorecard: what a model was commanded and what its films measure as, axis by axis, beside three
              baselines
    scorecard What the sweeps of a scorecard add up to: one JSON document, nothing but numbers and names
"""
