"""How the shipped weights are made: `python -m models.training` (see __main__).

May import: the rest of models, Pillow for the picture of the learning curves.
    scenes    random directed shots, a pure function of a seed
    footage   renders them ahead into files, in a process of its own
    screen    a shot as tables, and the tables as a film: on a GPU in milliseconds
    ahead     footage and latents in folders, for a processor
    stock     footage and latents in the memory of a GPU, which renders for itself
    vae_fit   trains the autoencoder on crops of footage
    latents   footage -> what the transformer learns from
    fit       trains the transformer on latents
    detail_fit  trains what finishes a film from its previs
    state     a run on disk: weights, average and optimiser
    carry     the runs as a few small files, for a machine that keeps nothing else
    calls     what the minutes of a training in a few short calls are for
    package   both networks -> the package that ships, and its record
    check     how near a package comes to the films it was told to make
"""
