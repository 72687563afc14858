"""Probe this machine: its devices and what is free on them now."""

from __future__ import annotations

import os

from appliance.machine.device import Device


def probe(thorough: bool = False) -> Device:
    """This machine, now. Takes some milliseconds; the first call with a GPU some tens.

    `thorough` also lists the encoders of PyAV and measures the model store, which takes half a second more.
    """
    import pynvml

    from appliance.machine.host import find_host  # start-up
    from appliance.machine.nvml import find_gpus  # start-up

    return find_gpus(find_host(thorough), pynvml, os.environ.get("CUDA_VISIBLE_DEVICES"))
