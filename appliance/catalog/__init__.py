"""The models that are installed.

May import: models, models.cost, models.weight_files, models.controls, appliance, appliance.direction,
appliance.capability, appliance.library.
    importer  A house's checkpoint is brought in: the importing process is started, followed and, when it must, ended
    installed Model packages as the appliance sees them: facts from the header, and a proof of the bytes, without torch
    model     The model that a shot is made with: its package, its card, and who reads its words
"""
