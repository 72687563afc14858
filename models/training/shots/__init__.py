"""Random directed shots, rendered as footage and encoded.

May import: kernels, kernels.toolchain, models, models.stage, models.vae, models.controls, models.rendering.
    gpu_stage Render training shots on a GPU, in milliseconds each
    latents   Encode footage to latents, and hand it out in batches
    scenes    Random directed shots, a pure function of a seed
    shoot     Render footage ahead into files, in several processes
"""
