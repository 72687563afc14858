"""Random directed shots, rendered as footage and encoded.

May import: kernels, kernels.toolchain, models, models.stage, models.vae, models.controls, models.rendering.
    gpu_stage Training shots on a GPU: a blocking as tables of numbers, and the tables as a film, in milliseconds
    latents   Footage -> what the transformer learns from: latents of the film and of its controls, rays and tokens, per
              shot
    scenes    Random directed shots for training: every move, lens and lamp of the vocabulary, a pure function of a seed
    shoot     Renders training shots ahead into files: `python -m models.training.shots.shoot FOLDER`, at its own pace
"""
