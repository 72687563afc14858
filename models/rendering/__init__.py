"""A blocking becomes frames: encode, condition, denoise, decode.

May import: models, models.stage, models.cost, models.weight_files, models.dit, models.controls, models.encoders,
models.loading.
    checkpoint   Denoising steps saved to disk, so that an interrupted render resumes
    conditioning A blocking and a request become the inputs of the network
    encode       Text and image encoders of an imported model
    guidance     Classifier-free guidance, expert switching and step caching
    keyframes    Given frames as a mask and a film of them alone
    render       The main path: a blocking becomes frames
    sampler      Flow matching: schedules of noise levels, and solvers
    step_cache   EasyCache: reuse the last output when the input has hardly changed
"""
