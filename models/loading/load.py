"""Load a package, verified, onto a device, and keep it warm between shots.

Parts that are not always needed are loaded on demand: the second of two experts here, text and image encoders in
models/rendering/encode.py.
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
from models.weight_files.package_header import EXPERTS
from models.weight_files.tensors import Package, open_package


class Experts:
    """The networks that share the denoising steps. One at a time is on the device, loaded from the mapped file."""

    def __init__(self, package: Package, device: torch.device, placement: Placement) -> None:
        self.package, self.device, self.placement = package, device, placement
        self.attention: Attention = choose(device).attention
        self.ffn_rows = placement.ffn_rows
        self.note: str | None = None  # a sentence, where the system pinned less memory than planned
        self._which: int | None = None
        self._network: Transformer | None = None

    def network(self, which: int = 0) -> Transformer:
        """The first (0) or second (1) expert. Raises BadInput for weights that do not match the card."""
        if self._network is None or which != self._which:
            self._network = None
            _free_cached_memory()
            card, part = self.package.card, self.package.part(EXPERTS[which])
            network = load_quantized(card, part, dtype_on(self.device))
            self.note = place(network, self.device, self.placement)
            self._network, self._which = network, which
        self._network.attention, self._network.ffn_rows = self.attention, self.ffn_rows
        return self._network


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Networks in memory on one device, and the hashes that identify them."""

    experts: Experts
    vae: VAE | WanVAE
    detail: Detail | None  # the detail network, where the package has one
    device: torch.device
    kernels_sha256: str

    @property
    def package(self) -> Package:
        """The opened file, from which further parts are read on demand."""
        return self.experts.package

    @property
    def card(self) -> Card:
        """The sizes of the network."""
        return self.package.card

    @property
    def transformer(self) -> Transformer:
        """The network; of two experts the first."""
        return self.experts.network(0)

    @property
    def weights_sha256(self) -> str:
        """The hash of the package's file."""
        return self.package.sha256


_warm: dict[tuple[Path, str, int | None, str, int, int], Model] = {}


def load(package: Path, device: str, placement: Placement | None = None, attention: str | None = None) -> Model:
    """The model of a package on a device; the last one stays loaded, so the next shot with it starts at once.

    Its blocks are placed as `placement` says, and read from the mapped file one at a time. `attention` None takes the
    implementation of kernels/dispatch.py. Raises BadInput for damaged weights and for a device that is not there.
    """
    where, placement = device_named(device), placement or Placement()
    package = package.resolve()
    try:
        status = package.stat()
    except OSError as error:
        raise BadInput(
            f"weights {package} cannot be read ({error.strerror}): put the package back, or set RUSHES_WEIGHTS"
        ) from error
    key = (package, device, placement.resident_blocks, placement.source, status.st_mtime_ns, status.st_size)
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
    """Unload the model, and return its memory to the device."""
    _warm.clear()
    _free_cached_memory()


def _free_cached_memory() -> None:
    """Return memory that torch caches to the device and the system."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        if hasattr(torch.accelerator, "empty_host_cache"):  # pinned memory, which torch caches too
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
    """The detail network; None where the package has none. Raises BadInput for other tensors."""
    if not tensors:
        return None
    detail = Detail()
    try:
        detail.load_state_dict(tensors)
    except RuntimeError as error:
        raise BadInput(
            "the weights hold no detail network of this version's shape: use the package that ships"
        ) from error
    return detail.to(device, dtype_on(device), memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


@functools.cache
def source_sha256(folder: str) -> str:
    """The hash of the code in one of our packages ("kernels", "models"): it identifies what rendered a take.

    Computed once a process: the code that runs is that of its start, whatever is installed in the meantime.
    """
    return hash_of_code(Path(__file__).parents[2] / folder)


def hash_of_code(package: Path) -> str:
    """SHA-256 over all modules of a package, each with its path, since file names repeat between folders.
    Raises RushesError where there is none: all empty hashes would be equal.
    """
    paths = sorted(package.rglob("*.py"))
    if not paths:
        raise RushesError(f"{package} holds no code to hash: install Rushes again")
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


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
            f"device {name} was asked for, but the last GPU of this machine is cuda:{gpus - 1}: use that or a lower one"
        )
    if device.type == "cuda":
        driver.prepare()
    return device


def dtype_on(device: torch.device) -> torch.dtype:
    """The dtype in which the device computes: the fastest that is precise enough (kernels/dispatch.py)."""
    return choose(device).dtype
