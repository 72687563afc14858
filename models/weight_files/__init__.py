"""Reading and writing untrusted weight files.

May import: models.
    file_kind          Recognise safetensors, GGUF and pickles by their first bytes
    gguf               Headers of GGUF files, checked before they are used
    gguf_blocks        Dequantise GGUF's block types to float32, bit for bit as ggml does
    package_header     A package's metadata: format, scheme, card, licence, parts; checked
    package_writer     Write a package group by group in bounded memory, resumable
    pickle_child       The sandboxed process that reads a pickle
    pickles            Convert pickles to safetensors in that process
    safetensors_header Headers of safetensors files, checked before they are used
    sandbox            Restrict a process: memory, time, network, files
    scales             Scale tensors stored beside fp8 and int8 weights
    tensors            Write safetensors files; open packages whose data matches its hash
"""
