"""One measurement on this device: a network of a card's real size, its weights drawn, laid down as a placement says.

    python -m models.bench.forward '{"card": {...}, "precision": "int8", ...}'

prints one JSON document: seconds of each forward, memory at its highest beside what models/cost/footprint.py predicts,
and a digest of what came out. A process of its own, so that its memory can be capped to play a smaller card, and ends
with it. `python -m appliance.planning.hardware_check` asks for many and compares them with plans.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kernels.bench.timing import let_go
from kernels.dispatch import choose
from models.bench.baselines import drawn
from models.bench.device_rates import wait
from models.card import Card
from models.cost.footprint import CONTEXT_BYTES, SLACK, footprint
from models.dit.wan import Transformer
from models.errors import RushesError
from models.geometry import Geometry
from models.loading.load import device_named
from models.loading.quantize import SCHEME, SCHEME_INT4, load_quantized, quantize
from models.loading.streaming import place
from models.placement import Placement
from models.weight_files.package_header import card_from_json, card_to_json
from models.weight_files.tensors import open_package, save


@dataclass(frozen=True, slots=True)
class Job:
    """What is measured."""

    card: Card
    geometry: Geometry
    precision: str = "int8"  # "bf16" | "int8" | "int4"
    placement: Placement = field(default_factory=Placement)
    attention: str = "sdpa"
    batch: int = 1
    device: str = "cpu"
    card_bytes: int | None = None  # of the card that is played, CUDA's context included; None: all there is
    forwards: int = 3  # the first one compiles kernels and is told apart

    def to_json(self) -> str:
        """As one JSON object; `from_json` gives the same job back."""
        return json.dumps({**asdict(self), "card": card_to_json(self.card)})

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job in `text`. Raises BadInput for a card that is none."""
        facts: dict[str, Any] = json.loads(text)
        facts["card"] = card_from_json(facts["card"])
        facts["geometry"], facts["placement"] = Geometry(**facts["geometry"]), Placement(**facts["placement"])
        return cls(**facts)


@torch.inference_mode()
def measure(job: Job) -> dict[str, object]:
    """The document. Running out of memory is a finding too."""
    device = device_named(job.device)
    predicted = predicted_bytes(job)
    try:
        with stored(job, device) as tensors:
            begin(job, device)
            network = load_quantized(job.card, tensors, choose(device).dtype)
        network.attention, network.ffn_rows = job.attention, job.placement.ffn_rows  # type: ignore[assignment]
        note = place(network, device, job.placement)
        del tensors
        seconds, digest = walk(network, job, device)
    except torch.OutOfMemoryError as error:
        return {"out_of_memory": str(error).partition("\n")[0], "predicted_bytes": predicted}
    return {
        "predicted_bytes": predicted,
        "peak_bytes": peak_bytes(device),
        "first_s": seconds[0],
        "forward_s": min(seconds[1:] or seconds),
        "seconds": seconds,
        "note": note,
        "digest": digest,
    }


def begin(job: Job, device: torch.device) -> None:
    """From here on a GPU is the card that is played: what drawing took of its memory does not count."""
    if device.type != "cuda":
        return
    let_go(device)
    torch.cuda.reset_peak_memory_stats(device)
    if job.card_bytes is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (job.card_bytes - CONTEXT_BYTES["cuda"]) / total), device)


def walk(network: Transformer, job: Job, device: torch.device) -> tuple[list[float], str]:
    """Seconds of each forward, and a digest of the last one's result. Each reads what the one before gave."""
    generator = torch.Generator().manual_seed(1)
    card = job.card
    latent = torch.randn(job.batch, card.in_channels, *job.geometry.latent, generator=generator).to(device)
    context = torch.randn(job.batch, card.text_len, card.text_dim, generator=generator).to(device)
    seconds = []
    for step in range(job.forwards):
        start = time.perf_counter()
        given = network(latent, torch.full((job.batch,), 900.0 - step, device=device), context)
        latent = torch.cat([given, latent[:, card.out_channels :]], 1)
        wait(device)
        seconds.append(time.perf_counter() - start)
    return seconds, hashlib.sha256(given.float().cpu().numpy().tobytes()).hexdigest()


def predicted_bytes(job: Job) -> int:
    """What models/cost/footprint.py says of the network alone: no autoencoder and no words take part here."""
    kind = job.device.partition(":")[0]
    size = footprint(job.card, job.geometry, job.precision, job.device, job.placement, job.attention, "none", job.batch)
    alone = replace(size, coder_bytes=0, vae_bytes=0, text_bytes=0, encoder_bytes=0, reserve_bytes=0)
    return alone.total_bytes + round(SLACK[kind] * alone.working_bytes)


def peak_bytes(device: torch.device) -> int:
    """Of a GPU: what the allocator held at most, and all that CUDA keeps besides; where nobody else uses the card, that
    is this process. Of the machine: what was resident.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        beside = total - free - torch.cuda.memory_reserved(device)
        return torch.cuda.max_memory_reserved(device) + beside
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB, but in bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def stored(job: Job, device: torch.device) -> Iterator[dict[str, Tensor]]:
    """The drawn tensors of a job's card; in a mapped file where its blocks are to come from one."""
    tensors = draw(job.card, job.precision, device)
    if job.placement.source != "disk" or job.placement.resident_blocks is None:
        yield tensors
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.safetensors"
        scheme = SCHEME_INT4 if job.precision == "int4" else SCHEME
        save(path, tensors, {"scheme": scheme, "card": card_to_json(job.card), "licence": "none", "training": "{}"})
        del tensors
        yield open_package(path).tensors  # the mapping outlives the name


@torch.no_grad()
def draw(card: Card, precision: str, device: torch.device) -> dict[str, Tensor]:
    """Weights of a card as a package stores them, in the machine's memory. One block is drawn for all, on the device:
    a processor's core takes 4 s to draw and round one of the 1.3B, and one of the 14B has 7.6 times as many weights.
    """
    one, scheme = replace(card, layers=1), SCHEME_INT4 if precision == "int4" else SCHEME
    kept: dict[str, Tensor] = {}
    small: dict[str, Tensor] = {}
    for part in drawn(one, device):
        kept |= {name: tensor.cpu() for name, tensor in quantize(part, one, keep={0}).items()}
        if precision != "bf16":
            small |= {name: tensor.cpu() for name, tensor in quantize(part, one, keep=(), scheme=scheme).items()}
    tensors = {name: tensor for name, tensor in kept.items() if not name.startswith("blocks.")}
    for layer in range(card.layers):
        block = kept if precision == "bf16" or layer in card.kept_blocks else small
        tensors |= {f"blocks.{layer}.{name[9:]}": t for name, t in block.items() if name.startswith("blocks.0.")}
    return tensors


def main(arguments: list[str]) -> int:
    """Prints the document of the job that is given."""
    if len(arguments) != 1:
        print(
            "python -m models.bench.forward takes one job as JSON: see `python -m appliance.planning.hardware_check`",
            file=sys.stderr,
        )
        return 2
    try:
        print(json.dumps(measure(Job.from_json(arguments[0]))), flush=True)
    except RushesError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
