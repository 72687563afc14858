"""What every layer speaks: cards, geometry, events, errors.

May import: nothing of ours.
    card         The sizes of a model, as data: one frozen record, and the named models we know
    errors       Errors for people: one line that names what is wrong, the value, what is allowed and the way out
    events       What a render is asked for and what it reports: torch-free, so the daemon and the desk can speak of it
    geometry     Every grid rule in one place: seconds, frames, pixels, latent grid, tokens
    placement    How a network lies in a device's memory: torch-free, so that a plan can say it and a daemon pass it on
Folders, each of which imports only those above it and the files here:
    stage        the procedural 3-D stage: a blocking in, picture, depth and ground truth out
    cost         parameters, FLOPs and bytes, by arithmetic
    weight_files reading and writing untrusted weight files
    dit          diffusion transformers. One file a family
    vae          autoencoders. One file a family
    controls     what each model family reads of a blocking. One file a kind of control: adding a family adds files here
    encoders     text and image encoders
    loading      a package becomes networks on a device: quantised, warm, streamed
    importing    a checkpoint becomes a package (python -m models.importing as today)
    rendering    a blocking becomes frames: encode, condition, denoise, decode
    training     the small model that ships with the product (python -m models.training as today)
    bench        forwards and rates on a device (python -m models.bench as today)
"""
