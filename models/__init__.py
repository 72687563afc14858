"""The networks, and what they cost.

May import: kernels, torch, numpy, safetensors. Never appliance or tui.
Torch-free (the desk and the daemon may load them):
    card       the sizes of a model, as data
    geometry   every grid rule: seconds, frames, pixels, latent grid, tokens
    placement  how a network lies in a device's memory
    tiling     pictures in pieces that see enough of each other
    footprint  the memory of a render, item by item; beneath it sizes (weights), activations, autoencoders, text_sizes
    flops      the work of a render
    blocking   what a shot is, frame by frame: camera, lens, lights, subjects, set
    optics     angles, lenses, colour temperature, easing
    cast       what a character looks like
    sets       where a shot takes place
    stage      the procedural 3-D stage that renders a Blocking exactly (numpy or torch): solids, mannequin, defocus
    sheet      the model sheet of a shot: its people side by side in plain light
    conditions Blocking -> what the network reads
    header     what a file of weights says of itself, checked before it is believed; gguf the same of a GGUF file
    layouts    which network a file is, and in whose layout; companions (scales), families (which card), wan_names
    encoder_names  the names of the encoders' weights in other layouts
    tokenizer  words -> the numbers that Wan's encoder of them reads; spiece: the file of its vocabulary
    kinds      what a file is, told by its first bytes
    pickles    a pickle -> safetensors, by a child that may do nothing else; confine what takes the rest from it
    events     what a render reports; errors: what people are told
With torch:
    transformer  the Wan-architecture diffusion transformer
    attention    its self- and cross-attention, in floats or in int8
    branches     what some variants read besides: pictures, hints, rays, a reference
    linear       the matrices of its blocks, in floats, int8 or int4, and the ways into them
    vae          latents <-> frames, chunk by chunk; detail: what those lost is given back from the previs
    wan_vae      the same for Wan 2.1 and 2.2, of wan_vae_blocks
    umt5         the encoder of Wan's words
    text         words -> the context of a Wan network
    clip_vision  what Wan 2.1 sees of a keyframe
    words        the parts of a house's package that read words and see pictures, before a walk
    keyframes    frames of a film that are given: a mask, and a film of them alone
    conditioning what the network of a card reads of a blocking and a request
    guidance     how a network is asked at a step: passes, experts; easycache: steps at which it is not
    sampler      flow-matching schedules and solvers
    checkpoint   the steps of a walk on disk, so that a render goes on where it stopped
    weights      safetensors files, proved before they are believed
    lora         LoRA files of every dialect, added to float weights
    unpickling   the child that reads a pickle; nothing but pickles starts it
    sources      weights as a house brings them, read one tensor at a time; gguf_blocks what their blocks stand for
    importing    a house's checkpoint -> a package, in a process of its own: gathering (what was brought),
                 importing_plan, converting (one tensor), package_writer (group by group)
    quantize     bf16 network -> int8 or int4 package
    streaming    blocks that pass through two slots on the device
    loading      a package -> networks on a device, kept warm
    calibrate    a device -> its rates, as one JSON document
    measure      one network of real size on a device: time and memory beside what was predicted
    render       the main path: Blocking -> frames
    bench        the int8 network on this card against bf16 ones of the same weights, as a command
    rivals       what it compares: drawn weights, and diffusers' network with them
    training     how the shipped weights are made

Shapes use one alphabet: B batch, F latent frames, H W latent grid, L tokens, D width, N heads,
E head width; T video frames, and `h w` pixels of a video.
"""
