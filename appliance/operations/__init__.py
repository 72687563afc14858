"""Keeping an installation healthy.

May import: kernels.toolchain, models, appliance, appliance.machine, appliance.library, appliance.catalog,
appliance.daemon.
    doctor What `rushes doctor` examines: each check finds a fact, says whether it is well, and what to do if it is not
"""
