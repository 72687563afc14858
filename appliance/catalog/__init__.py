"""The models that are installed.

May import: models, models.cost, models.weight_files, models.controls, appliance, appliance.direction,
appliance.capability, appliance.library.
    importer  Start the importing process and show its progress
    installed Installed packages by their headers, and a check of their data, without torch
    model     The model of a shot: package, card, prompts, reference pictures
"""
