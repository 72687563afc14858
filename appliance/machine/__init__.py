"""What this machine is and how fast it is.

May import: models, appliance.
    calibrate  Measure devices and disk: `rushes doctor --calibrate`
    cgroups    Limits of this process's control groups
    datasheets Datasheets of GPUs, to quote for another machine and for peak rates
    device     A machine and what is free on it, as frozen facts
    disk_speed Read speed of the model store, without the page cache
    host       The host: memory, cores, disk, containers, encoders
    nvml       GPUs as NVML reports them, numbered as by CUDA
    probe      Probe this machine
    rates      Measured rates of a machine
    report     A machine described for people
"""
