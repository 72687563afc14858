"""A checkpoint becomes a package (python -m models.importing as today).

May import: models, models.weight_files, models.dit, models.vae, models.encoders, models.loading.
    convert   One tensor of a stranger's file -> as the package holds it: read, made whole, checked, merged, rounded,
              and measured
    gather    What an operator brings -> the networks in it: files, shards and folders opened, recognised and hashed
    identify  Which card a transformer's file follows: what its shapes tell, what its name hints at, what must be asked
    layouts   Which network a file of weights is, and in whose layout: told by names and shapes, never by the file's
              name
    lora      LoRA files of every dialect -> what each changes of which tensor, added to float weights one tensor at a
              time
    plan      From networks that were brought to the package they will make: every tensor's place and form, before one
              is read
    sources   Weights as a house brings them: one file, several, a folder, or shards with an index; safetensors or GGUF
              alike
    wan_names Wan's transformers and autoencoders go by two names: the original's, which ours are, and those of
              diffusers
    __main__  A house's checkpoint becomes a package: `python -m models.importing FOLDER PATH... [options]`
"""
