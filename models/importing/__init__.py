"""A checkpoint becomes a package (python -m models.importing).

May import: models, models.weight_files, models.dit, models.vae, models.encoders, models.loading.
    convert   Read, check, merge and quantise one tensor
    gather    Open and identify the files that were given
    identify  Which card a transformer follows, by shapes, file names and options
    layouts   Which network a file holds and how its tensors are named
    lora      LoRA files of every naming scheme, merged into float weights
    plan      Which tensors the package will hold, and in which form
    sources   Weight files as one table of tensors: single, sharded, safetensors or GGUF
    wan_names Tensor names of Wan: the original's and those of diffusers
    __main__  Run one import: `python -m models.importing FOLDER PATH... [options]`
"""
