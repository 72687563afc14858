"""The small model that ships with the product (python -m models.training).

May import: models, models.stage, models.weight_files, models.dit, models.vae, models.controls, models.loading,
models.rendering, models.training.shots.
    autoencoder  Train the autoencoder on random crops of footage
    budget       Divide a training into calls of a few minutes each
    carry        Carry a training between machines as a few small files
    detail       Train the detail network on films of the package itself
    disk_footage Footage in a folder, rendered by other processes
    evaluate     PSNR of a package on test shots
    gpu_footage  Footage in GPU memory, rendered during training
    release      Write the package that ships, and its TRAINING.md
    run          A resumable training run in one safetensors file
    transformer  Train the transformer by rectified flow
    __main__     The whole training in one resumable command
Folders, each of which imports only those above it and the files here:
    shots        random directed shots, rendered as footage and encoded
"""
