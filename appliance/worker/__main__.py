"""The worker: the child process that owns the GPU, or all cores. The only module of the appliance that loads torch.

It reads orders and writes reports, one JSON document a line (appliance/daemon/worker_process.py has them), and stays
warm between takes: models.rendering.render keeps the weights it has loaded. It writes a take's files under hidden
names; the daemon publishes them. Whatever goes wrong becomes one report here, at the one boundary that prints a
traceback (to the daemon's log).
"""

from __future__ import annotations

import contextlib
import os
import traceback
from pathlib import Path

from appliance.machine.cgroups import cores
from appliance.processes import die_with_parent
from appliance.worker.faults import kind_of, place_of, sentence
from appliance.worker.film import render_film
from appliance.worker.protocol import Cancelled, Line
from appliance.worker.take import render_take


def main() -> None:
    """Renders what is ordered, until the orders end."""
    die_with_parent()
    # Memory pressure is to end us, not the desk; whether that is ours to say differs from system to system.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as appliance/machine/device.py numbers them
    line = Line()
    import torch

    torch.set_num_threads(cores())
    line.report("ready")
    while True:
        order = line.renders.get()
        take, fill = order["take"], {"render": render_take, "film": render_film}[order["order"]]
        try:
            line.report("done", take=take, **fill(line, order))
        except Cancelled:
            line.report("cancelled", take=take)
        except Exception as error:
            traceback.print_exc()
            line.report("error", take=take, kind=kind_of(error), error=sentence(error), place=place_of(error, order))


if __name__ == "__main__":
    main()
