"""Forwards and rates on a device (python -m models.bench as today).

May import: kernels, kernels.bench, models, models.cost, models.weight_files, models.dit, models.loading,
models.importing.
    baselines    Networks with drawn weights, and the same weights in diffusers' network, with which ours is compared
    device_rates What a device does: rates of its memory, of matrices as our blocks multiply them, of the way to it, of
                 one block
    forward      One measurement on this device: a network of a card's real size, its weights drawn, laid down as a
                 placement says
    __main__     A block and a whole forward of the int8 network against bf16 ones of the same weights, at the sizes of
                 Wan
"""
