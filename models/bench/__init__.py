"""Measured speed and memory on a device (python -m models.bench).

May import: kernels, kernels.bench, models, models.cost, models.weight_files, models.dit, models.loading,
models.importing.
    baselines    Networks with random weights, and diffusers' network with the same weights
    device_rates Rates of a device: memory, matrix products, upload, one block
    forward      One measured forward of a card's real size in a given placement
    __main__     Compare the int8 network with bf16 baselines at the sizes of Wan
"""
