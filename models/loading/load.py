"""A package becomes networks on a device, proved whole, and kept warm between shots.

What is needed now and then is made when it is: the second of two experts, and who reads words
(models/rendering/encode.py).
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from kernels.dispatch import Attention, choose
from kernels.toolchain import driver
from models.card import Card
from models.dit.wan import Transformer
from models.errors import BadInput, RushesError
from models.loading.quantize import load_quantized
from models.loading.streaming import place
from models.placement import Placement
from models.vae.detail import Detail
from models.vae.previs import VAE
from models.vae.wan import KINDS, WanVAE, load_wan_vae
from models.weight_files.tensors import Package, open_package

EXPERTS = ("transformer.", "transformer_2.")  # where a package holds them, in the order they work


class Experts:
    """The networks that share a walk. One is in the device's memory at a time, made of the mapped file as it works."""

    def __init__(self, package: Package, device: torch.device, placement: Placement) -> None:
        self.package, self.device, self.placement = package, device, placement
        self.attention: Attention = choose(device).attention
        self.ffn_rows = placement.ffn_rows
        self.note: str | None = None  # where the weights did not find the place that was meant for them
        self._which: int | None = None
        self._network: Transformer | None = None

    def network(self, which: int = 0) -> Transformer:
        """The expert that works first (0) or second (1). Raises BadInput for weights that are not of the card."""
        if self._network is None or which != self._which:
            self._network = None
            _let_go()
            card, part = self.package.card, self.package.part(EXPERTS[which])
            network = load_quantized(card, part, dtype_on(self.device))
            self.note = place(network, self.device, self.placement)
            self._network, self._which = network, which
        self._network.attention, self._network.ffn_rows = self.attention, self.ffn_rows
        return self._network


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Networks in memory on one device, and the hashes that name them."""

    experts: Experts
    vae: VAE | WanVAE
    detail: Detail | None  # where the card's films are finished from their previs
    device: torch.device
    kernels_sha256: str

    @property
    def package(self) -> Package:
        """The opened file: parts that are needed now and then are read from it."""
        return self.experts.package

    @property
    def card(self) -> Card:
        """The sizes of the network."""
        return self.package.card

    @property
    def transformer(self) -> Transformer:
        """The network, of two the one that works first."""
        return self.experts.network(0)

    @property
    def weights_sha256(self) -> str:
        """Of the package's file."""
        return self.package.sha256


_warm: dict[tuple[Path, str, int | None, str, int, int], Model] = {}


def load(package: Path, device: str, placement: Placement | None = None, attention: str | None = None) -> Model:
    """The model of a package on a device; the last one is kept, so the next shot with it starts at once.

    Its blocks lie as `placement` says, and are read from the mapped file one at a time on their way there. `attention`
    None asks the table of ways (kernels/dispatch.py).
    Raises BadInput for weights that are not whole and for a device that is not there.
    """
    where, placement = device_named(device), placement or Placement()
    package = package.resolve()
    try:
        seen = package.stat()
    except OSError as error:
        raise BadInput(
            f"weights {package} cannot be read ({error.strerror}): put the package back, or set RUSHES_WEIGHTS"
        ) from error
    key = (package, device, placement.resident_blocks, placement.source, seen.st_mtime_ns, seen.st_size)
    if key not in _warm:
        unload()
        opened = open_package(package)
        experts = Experts(opened, where, placement)
        experts.network(0)
        vae = load_vae(opened.card.vae, opened.part("vae."), where)
        detail = load_detail(opened.part("detail."), where)
        _warm[key] = Model(experts, vae, detail, where, source_sha256("kernels"))
    experts = _warm[key].experts
    experts.attention = cast(Attention, attention or choose(where).attention)
    experts.ffn_rows = placement.ffn_rows
    return _warm[key]


def unload() -> None:
    """Lets the kept model go, and gives its memory back to the device."""
    _warm.clear()
    _let_go()


def _let_go() -> None:
    """Memory that torch keeps, though nothing of ours is in it."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        if hasattr(torch.accelerator, "empty_host_cache"):  # pinned memory too, which torch keeps as well
            torch.accelerator.empty_host_cache()


def load_vae(name: str, tensors: dict[str, Tensor], device: torch.device) -> VAE | WanVAE:
    """The autoencoder of a package, as its card names it; its latent statistics stay float32 whatever the weights are.

    Raises BadInput when the tensors are not those of an autoencoder.
    """
    if name in KINDS:
        return load_wan_vae(name, tensors, device, dtype_on(device))
    vae = VAE()
    try:
        vae.load_state_dict(tensors)
    except RuntimeError as error:
        raise BadInput("the weights hold no autoencoder of this version's shape: use the package that ships") from error
    mean, std = vae.mean.clone(), vae.std.clone()
    vae.to(device, dtype_on(device), memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    vae.mean, vae.std = mean.to(device), std.to(device)
    return vae


def load_detail(tensors: dict[str, Tensor], device: torch.device) -> Detail | None:
    """What finishes a film from its previs; None where the package has none. Raises BadInput for other tensors."""
    if not tensors:
        return None
    detail = Detail()
    try:
        detail.load_state_dict(tensors)
    except RuntimeError as error:
        raise BadInput("the weights hold no detail of this version's shape: use the package that ships") from error
    return detail.to(device, dtype_on(device), memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


@functools.cache
def source_sha256(folder: str) -> str:
    """Hash of the code in one of our packages ("kernels", "models"): a take says what computed it.

    Computed once a process: what runs is what was there when it began, whatever is installed meanwhile.
    """
    return hash_of_code(Path(__file__).parents[2] / folder)


def hash_of_code(package: Path) -> str:
    """SHA-256 of every module below a package, each named by its path there, for file names repeat between folders.
    Raises RushesError where there is none: hashes of nothing would be equal.
    """
    paths = sorted(package.rglob("*.py"))
    if not paths:
        raise RushesError(f"{package} holds no code to hash: install Rushes again")
    seen = hashlib.sha256()
    for path in paths:
        seen.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return seen.hexdigest()


def device_named(name: str) -> torch.device:
    """The device of a name such as "cpu" or "cuda:0", ready for kernels. Raises BadInput where it is not there."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadInput(f"device {name!r} is not known: it must be cpu, cuda:0, cuda:1, ...") from error
    gpus = torch.cuda.device_count() if device.type == "cuda" and torch.cuda.is_available() else 0
    if device.type == "cuda" and not gpus:
        raise BadInput(
            f"device {name} was asked for, but this machine has no usable GPU: use --device cpu, or see rushes doctor"
        )
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise BadInput(
            f"device {name} was asked for, but this machine's last GPU is cuda:{gpus - 1}: use that or lower"
        )
    if device.type == "cuda":
        driver.prepare()
    return device


def dtype_on(device: torch.device) -> torch.dtype:
    """What the device multiplies fastest of what is precise enough: see kernels/dispatch.py."""
    return choose(device).dtype
