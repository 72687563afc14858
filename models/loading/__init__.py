"""A package becomes networks on a device: quantised, warm, streamed.

May import: kernels, kernels.rowwise, kernels.linear, kernels.toolchain, models, models.weight_files, models.dit,
models.vae, models.encoders.
    load      A package becomes networks on a device, proved whole, and kept warm between shots
    quantize  A trained network -> its int8 or int4 form, and back to a network that computes in int8
    streaming A network larger than its device: its blocks wait outside and pass, one after the other, through two slots
              on it
"""
