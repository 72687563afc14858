"""What this machine is and how fast it works.

May import: models, appliance.
    calibrate  What this machine does, measured on request and kept: `rushes doctor --calibrate`
    cgroups    What the control groups around this process allow it: cores, memory, swap
    datasheets GPUs that are not here, by their datasheets (gpus.toml): to quote for another machine, and to know a
               card's peaks
    device     What a machine is and what of it is free: frozen facts in bytes, hertz, watts
    disk_speed How fast the model store reads, measured past the page cache: what streaming weights from disk will wait
               for
    host       The machine around the GPU: memory, swap, cores and their features, disk, containers, WSL, encoders
    nvml       The GPUs, as NVML tells of them and as CUDA will number them
    probe      One look at this machine: its devices and what is free of them now
    rates      What a machine was measured to do
    report     A machine's facts for people: all of them in rows, then a line for each that costs time or memory
"""
