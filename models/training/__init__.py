"""The small model that ships with the product (python -m models.training as today).

May import: models, models.stage, models.weight_files, models.dit, models.vae, models.controls, models.loading,
models.rendering, models.training.shots.
    autoencoder  Trains the autoencoder on random crops of footage: pictures, previs and depth, since all three pass
                 through it
    budget       A training in a few calls of so many minutes each: which call this is, and what its minutes are for
    carry        A training as a few small files, to go on with where nothing else comes along: another machine, another
                 call
    detail       Trains what finishes a film from its previs (models/vae/detail.py) on films that the package itself
                 makes
    disk_footage Shots of the stage in a folder, rendered ahead by processes beside this one: footage where there is no
                 GPU
    evaluate     How near a package comes to the films it was told to make, on shots that nobody trained on
    gpu_footage  Shots of the stage in a GPU's memory, rendered there while it trains: what a folder of footage is to a
                 processor
    release      Trained networks -> the package that ships, and the record beside it of how it came to be
    run          A training run on disk: weights, moving average and optimiser in one safetensors file, replaced as a
                 whole
    transformer  Trains the transformer on encoded shots: rectified flow, every condition dropped now and then for
                 itself
    __main__     `python -m models.training`: from nothing to a package of weights, in one resumable command
Folders, each of which imports only those above it and the files here:
    shots        random directed shots, rendered as footage and encoded
"""
