"""The worker: the child process that owns the GPU, or all cores. The only part of the appliance that loads torch.

It reads orders and writes reports (appliance/worker/protocol.py) and stays warm between takes:
models.rendering.render keeps the weights it has loaded. It writes a take's files under hidden names; the daemon
publishes them. Whatever goes wrong becomes one report here, and its traceback goes to the daemon's log.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from pathlib import Path

from appliance.machine.cgroups import cores
from appliance.processes import die_with_parent
from appliance.worker.pipe import StopRequested, WorkerPipe
from appliance.worker.protocol import Cancelled, Failed, Ready, RenderOrder


def main() -> None:
    """Renders what is ordered, until the orders end."""
    die_with_parent()
    # Out of memory, the kernel should end this process and not the desk; whether we may say so depends on the system.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as appliance/machine/device.py numbers them
    pipe = WorkerPipe()  # before torch is loaded: what a library prints must not reach the daemon as a report
    import torch

    from appliance.worker.faults import device_of, kind_of, sentence  # start-up
    from appliance.worker.film import render_film  # start-up
    from appliance.worker.take import render_take  # start-up

    torch.set_num_threads(cores())
    pipe.report(Ready())
    while True:
        order = pipe.renders.get()
        try:
            pipe.report(render_take(pipe, order) if isinstance(order, RenderOrder) else render_film(pipe, order))
        except StopRequested:
            pipe.report(Cancelled(order.take))
        except Exception as error:
            traceback.print_exc()
            pipe.report(Failed(order.take, kind_of(error), sentence(error), device_of(error, order)))


if __name__ == "__main__":
    main()
