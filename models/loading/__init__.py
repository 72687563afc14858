"""A package becomes networks on a device: quantised, warm, streamed.

May import: kernels, kernels.rowwise, kernels.linear, kernels.toolchain, models, models.cost, models.weight_files,
models.dit, models.vae, models.encoders.
    load      Load a package onto a device, and keep it warm between shots
    quantize  Quantise a network to int8 or int4, and load it again
    streaming Stream a network's blocks through two slots on the device
"""
