"""Writes and publishes the files of a take: film, stills, sidecar, label. One module a standard.

May import: models, models.stage, appliance, appliance.direction, appliance.blocking, appliance.machine,
appliance.delivery.labels, appliance.delivery.media.
    previs     `rushes preview`: the blocking as a film, without a model
    publish    Publishes a take's files: the film last
    sidecar    The JSON file next to a film: all that is needed to reproduce and verify it
    take_files Writes film, filmstrip, thumbnail and sidecar, and verifies them
Folders, each of which imports only those above it and the files here:
    labels     marks that say a film is generated
    media      film and picture formats
"""
