"""A take becomes files that a post house accepts. One module a standard.

May import: models, models.stage, appliance, appliance.direction, appliance.blocking, appliance.machine,
appliance.delivery.labels, appliance.delivery.media.
    previs     The blocking as a film: rendered exactly by the stage on numpy, without the model; what `rushes preview`
               makes
    publish    A finished take's files, published together: the film last, so that a film that is there is complete
    sidecar    The page that lies beside a take: everything that made it, so that it can be made again and believed
    take_files A take becomes files: the film, its filmstrip, thumbnail and page, all proved before any of them is
               published
Folders, each of which imports only those above it and the files here:
    labels     marks that say a film is generated
    media      film and picture formats
"""
