"""Where and how a shot runs on this machine, how long it takes, and what to do when it does not fit.

May import: kernels, models, models.controls, models.cost, models.weight_files, appliance, appliance.direction,
appliance.machine, appliance.measuring.
    calibrated_plan Plans corrected by what this machine has shown: rates, past takes, memory that ran out
    duration        How long a render takes: work over speed, corrected by past takes
    explain         The reasons for a plan, in words
    fit             Whether a film fits a device: memory, disk, tokens, the CPU's time
    hardware_check  Compare plans with a real GPU: memory and time, predicted and measured
    placements      Choose precision, residency and tiles for a device: the fastest that fits
    plan            What this machine will do about a request: a plan or a refusal
    remedies        Ways out of a refusal, each tried on this machine
    request         What a plan is made for: a direction, a machine, a model
    speed           How fast a device is: measured rates, else its datasheet
"""
