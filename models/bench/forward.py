"""One measured forward on this device: a network of a card's real size with random weights, placed as stated.

    python -m models.bench.forward '{"card": {...}, "precision": "int8", ...}'

prints one JSON document: seconds of each forward, peak memory and the prediction of models/cost/footprint.py, and a
digest of the result. A separate process, so that its memory can be limited to simulate a smaller GPU.
`python -m appliance.planning.hardware_check` runs many and compares them with plans.
"""

from __future__ import annotations

import hashlib
import json
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

from kernels.bench.timing import free_memory, wait
from kernels.dispatch import choose
from models.bench.baselines import random_weights
from models.card import Card
from models.cost.footprint import CONTEXT_BYTES, SLACK, footprint, peak_resident_bytes
from models.dit.wan import Transformer
from models.errors import RushesError
from models.geometry import Geometry
from models.loading.load import device_named
from models.loading.quantize import load_quantized, quantize
from models.loading.streaming import place
from models.placement import Placement
from models.weight_files.package_header import SCHEME_INT4, SCHEME_INT8, card_from_json, card_to_json
from models.weight_files.tensors import open_package, save


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured."""

    card: Card
    geometry: Geometry
    precision: str = "int8"  # "bf16" | "int8" | "int4"
    placement: Placement = field(default_factory=Placement)
    attention: str = "sdpa"
    batch: int = 1
    device: str = "cpu"
    card_bytes: int | None = None  # memory of the simulated GPU, CUDA's context included; None: all of the real one
    forwards: int = 3  # the first one compiles kernels and is reported separately

    def to_json(self) -> str:
        """As one JSON object; `from_json` gives the same case back."""
        return json.dumps({**asdict(self), "card": card_to_json(self.card)})

    @classmethod
    def from_json(cls, text: str) -> Case:
        """The case in `text`. Raises BadInput for an invalid card."""
        facts: dict[str, Any] = json.loads(text)
        facts["card"] = card_from_json(facts["card"])
        facts["geometry"], facts["placement"] = Geometry(**facts["geometry"]), Placement(**facts["placement"])
        return cls(**facts)


@torch.inference_mode()
def measure(case: Case) -> dict[str, object]:
    """The document. Running out of memory is a result too."""
    device = device_named(case.device)
    predicted = predicted_bytes(case)
    try:
        with stored(case, device) as tensors:
            begin(case, device)
            network = load_quantized(case.card, tensors, choose(device).dtype)
        network.attention, network.ffn_rows = case.attention, case.placement.ffn_rows  # type: ignore[assignment]
        note = place(network, device, case.placement)
        del tensors
        seconds, digest = run_forwards(network, case, device)
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


def begin(case: Case, device: torch.device) -> None:
    """From here on a GPU has the simulated memory: what generating weights used does not count."""
    if device.type != "cuda":
        return
    free_memory(device)
    torch.cuda.reset_peak_memory_stats(device)
    if case.card_bytes is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (case.card_bytes - CONTEXT_BYTES["cuda"]) / total), device)


def run_forwards(network: Transformer, case: Case, device: torch.device) -> tuple[list[float], str]:
    """Seconds of each forward, and a digest of the last result. Each forward reads the result of the one before."""
    generator = torch.Generator().manual_seed(1)
    card = case.card
    latent = torch.randn(case.batch, card.in_channels, *case.geometry.latent, generator=generator).to(device)
    context = torch.randn(case.batch, card.text_len, card.text_dim, generator=generator).to(device)
    seconds = []
    for step in range(case.forwards):
        start = time.perf_counter()
        out = network(latent, torch.full((case.batch,), 900.0 - step, device=device), context)
        latent = torch.cat([out, latent[:, card.out_channels :]], 1)
        wait(device)
        seconds.append(time.perf_counter() - start)
    return seconds, hashlib.sha256(out.float().cpu().numpy().tobytes()).hexdigest()


def predicted_bytes(case: Case) -> int:
    """What models/cost/footprint.py predicts for the network alone, without autoencoder and text encoder."""
    kind = case.device.partition(":")[0]
    size = footprint(
        case.card, case.geometry, case.precision, case.device, case.placement, case.attention, "none", case.batch
    )
    alone = replace(size, coder_bytes=0, vae_bytes=0, text_bytes=0, encoder_bytes=0, reserve_bytes=0)
    return alone.total_bytes + round(SLACK[kind] * alone.working_bytes)


def peak_bytes(device: torch.device) -> int:
    """Of a GPU: the allocator's peak, and all other memory in use; where nobody else uses the GPU, that is this
    process. Of the CPU: the peak of resident memory.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        other = total - free - torch.cuda.memory_reserved(device)
        return torch.cuda.max_memory_reserved(device) + other
    return peak_resident_bytes()


@contextmanager
def stored(case: Case, device: torch.device) -> Iterator[dict[str, Tensor]]:
    """The random tensors of a case's card; in a mapped file where its blocks are read from one."""
    tensors = random_package(case.card, case.precision, device)
    if case.placement.source != "disk" or case.placement.resident_blocks is None:
        yield tensors
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.safetensors"
        scheme = SCHEME_INT4 if case.precision == "int4" else SCHEME_INT8
        save(path, tensors, {"scheme": scheme, "card": card_to_json(case.card), "licence": "none", "training": "{}"})
        del tensors
        yield open_package(path).tensors  # the mapping outlives the name


@torch.no_grad()
def random_package(card: Card, precision: str, device: torch.device) -> dict[str, Tensor]:
    """Random weights of a card in stored form, in host memory. One block, generated on the device, serves as all: a CPU
    core takes 4 s to generate and quantise one of the 1.3B, and one of the 14B has 7.6 times as many weights.
    """
    one, scheme = replace(card, layers=1), SCHEME_INT4 if precision == "int4" else SCHEME_INT8
    wide: dict[str, Tensor] = {}
    small: dict[str, Tensor] = {}
    for part in random_weights(one, device):
        wide |= {name: tensor.cpu() for name, tensor in quantize(part, one, keep={0}).items()}
        if precision != "bf16":
            small |= {name: tensor.cpu() for name, tensor in quantize(part, one, keep=(), scheme=scheme).items()}
    tensors = {name: tensor for name, tensor in wide.items() if not name.startswith("blocks.")}
    for layer in range(card.layers):
        block = wide if precision == "bf16" or layer in card.kept_blocks else small
        tensors |= {f"blocks.{layer}.{name[9:]}": t for name, t in block.items() if name.startswith("blocks.0.")}
    return tensors


def main(arguments: list[str]) -> int:
    """Print the document of the given case."""
    if len(arguments) != 1:
        print(
            "python -m models.bench.forward takes one case as JSON: see `python -m appliance.planning.hardware_check`",
            file=sys.stderr,
        )
        return 2
    try:
        print(json.dumps(measure(Case.from_json(arguments[0]))), flush=True)
    except RushesError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
