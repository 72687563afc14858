"""Keeping an installation healthy.

May import: kernels.toolchain, models, appliance, appliance.machine, appliance.library, appliance.catalog,
appliance.daemon.
    doctor The checks of `rushes doctor`
"""
