"""Reading and writing untrusted weight files.

May import: models.
    file_kind          What a file of weights is, told by its first bytes and never by its name
    gguf               What a GGUF file says of itself, checked before it is believed
    gguf_blocks        Numbers stored in GGUF's blocks -> float32, to the bit as ggml has them
    package_header     The metadata of a package: format, scheme, card and licence, checked before they are believed
    package_writer     A package written group by group, in bounded memory, so that a writer that is killed goes on
                       where it was
    pickle_child       The child that reads a pickle: `python -m models.weight_files.pickle_child FILE FOLDER`
    pickles            Weights that torch pickled -> safetensors, without this process ever reading the pickle
    safetensors_header What a safetensors file says of itself, checked before it is believed
    sandbox            What a process may still do when it reads what cannot be trusted
    scales             Numbers stored small, with what else they need to be numbers again: scales beside fp8 and int8
                       weights
    tensors            Weights on disk: safetensors files written whole, and read only when their data is what their
                       header hashed
"""
