"""Networks and what surrounds them. The files here are shared by all folders: cards, geometry, events, errors.

May import: nothing of ours.
    atomic_write Files that appear whole or not at all: temporary name, fsync, rename, fsync of the folder
    card         The sizes of a model, as data, and the models we know by name
    errors       Errors for people: one line with what is wrong, the value, what is allowed and the way out
    events       The request of a render and the events that it reports
    geometry     Every grid rule in one place: seconds, frames, pixels, latent grid, tokens
    placement    Which blocks of a network stay in a device's memory
Folders, each of which imports only those above it and the files here:
    stage        the procedural 3-D stage: a blocking in, picture, depth and ground truth out
    controls     what each model family reads of a request and of a blocking
    cost         parameters, FLOPs and bytes, by arithmetic
    weight_files reading and writing untrusted weight files
    dit          diffusion transformers, one file a family
    vae          autoencoders, one file a family
    encoders     text and image encoders
    loading      a package becomes networks on a device: quantised, cached, streamed
    importing    a checkpoint becomes a package (python -m models.importing)
    rendering    a blocking becomes frames: encode, condition, denoise, decode
    training     the small model that ships with the product (python -m models.training)
    bench        forwards and rates on a device (python -m models.bench)
"""
