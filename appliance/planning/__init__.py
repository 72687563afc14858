"""Where and how a shot runs here, how long it takes, and what to do when it does not fit.

May import: kernels, models, models.cost, models.weight_files, appliance, appliance.direction, appliance.machine,
appliance.measuring.
    calibrated_plan What this machine has shown of itself, brought to a plan: measured rates, what takes took, where
                    memory ran out
    duration        How long a render takes: work over speed, then corrected by what takes on this machine really took
    explain         Why a plan is as it is, in plain words: where it runs, what stays there, what passes, what sets the
                    pace
    fit             Where a film fits: memory, disk and the model's own reach, on the places this machine has
    hardware_check  Plans held to the hardware: for the day a GPU is at hand
    placements      How a card lies on a place: the quickest of the ways that fit there, of the best precision that fits
    plan            What this machine will do about a direction: a pure function of the direction, the machine and the
                    card
    remedies        Ways out of a refusal: each one that names numbers was tried on this machine as it is now, and fits
    speed           How fast a place works: measured rates where there are any, else the datasheet's arithmetic for its
                    class of card
"""
