"""How the shipped weights are made: `python -m models.training` (see __main__).

scenes    random directed shots, a pure function of a seed
footage   renders them ahead into files, in a process of its own
latents   footage -> what the transformer learns from
vae_fit   trains the autoencoder on crops of footage
fit       trains the transformer on latents
"""
