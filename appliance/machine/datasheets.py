"""Datasheets of GPUs (gpus.toml): to quote for another machine, and for the peak rates of those of this one.

A datasheet states how much memory a GPU has, not how much of it is free: `free_bytes` is estimated below.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from appliance.machine.device import Device, Gpu
from models.errors import BadInput

TABLE = Path(__file__).with_name("gpus.toml")
DATASHEET = "datasheet"  # in place of a uuid: no real GPU
MIB, GIB = 2**20, 2**30
# What the driver reserves: 256 MiB, and a 64th for page tables and what a nominal size lacks (an "80 GB" H100 has 79.6
# GiB, a "24 GB" 4090 has 23.99). A screen with a few windows takes another 256 MiB.
DRIVER_BYTES, DRIVER_SHARE, DESKTOP_BYTES = 256 * MIB, 64, 256 * MIB
SYSTEM_BYTES, SYSTEM_SHARE = 2 * GIB, 10  # of a stated RAM, in use by the system and the desk: the larger of the two


@dataclass(frozen=True, slots=True)
class Family:
    """What the GPUs of one generation and kind share. Rates are operations a clock and multiprocessor."""

    driver: str
    capability: tuple[int, int]
    pcie_gen: int
    bf16: int
    f16: int
    int8: int
    fp8: int | None = None
    desktop: bool = False
    ecc_inline: bool = False

    @property
    def geforce(self) -> bool:
        """Whether float32 accumulation runs at half the rate; the capability does not tell."""
        return "GeForce" in self.driver


@dataclass(frozen=True, slots=True)
class Sheet:
    """The datasheet of one GPU."""

    name: str
    memory_gib: int
    bus_bits: int
    gb_s: int
    lanes: int
    sms: int
    boost_mhz: int
    watts: int
    family: Family
    names: tuple[str, ...]  # the driver's first

    @property
    def total_bytes(self) -> int:
        """As the driver reports it."""
        whole = self.memory_gib * GIB
        return whole - whole // 16 if self.family.ecc_inline else whole

    @property
    def gpu(self) -> Gpu:
        """The GPU as a probe of an idle machine would find it."""
        reserved = DRIVER_BYTES + self.total_bytes // DRIVER_SHARE
        family = self.family
        return Gpu(
            index=0,
            uuid=DATASHEET,
            name=self.names[0],
            capability=family.capability,
            total_bytes=self.total_bytes,
            free_bytes=self.total_bytes - reserved - (DESKTOP_BYTES if family.desktop else 0),
            reserved_bytes=reserved,
            sm_count=self.sms,
            sm_clock_mhz=self.boost_mhz,
            mem_clock_mhz=round(self.gb_s * 8e3 / self.bus_bits / 2),
            bus_width_bits=self.bus_bits,
            bandwidth_bytes_s=self.gb_s * 1e9,
            pcie_gen=family.pcie_gen,
            pcie_width=self.lanes,
            pcie_gen_max=family.pcie_gen,
            pcie_width_max=self.lanes,
            power_limit_w=self.watts,
            power_default_w=self.watts,
        )


@dataclass(frozen=True, slots=True)
class Peak:
    """Peak rates of a GPU in dense operations a second, a multiply-add counted as two."""

    flops_bf16: float  # accumulated in f32; of fp16 on Turing, which has no bf16
    flops_f16: float  # accumulated in fp16
    flops_int8: float
    flops_fp8: float | None  # accumulated in f32


@lru_cache(maxsize=1)
def sheets() -> tuple[Sheet, ...]:
    """Every GPU of the table."""
    with open(TABLE, "rb") as file:
        table = tomllib.load(file)
    columns, found = table["columns"], []
    for facts in table["family"].values():
        rows = facts.pop("cards")
        family = Family(**facts | {"capability": tuple(facts["capability"])})
        for row in rows:
            values = dict(zip(columns, row, strict=False))
            names = tuple(row[len(columns) :]) or (family.driver + values["name"],)
            found.append(Sheet(**values, family=family, names=names))
    return tuple(found)


def named(name: str) -> Gpu:
    """The GPU of a name as people write it: "RTX 3060 12GB", "nvidia geforce rtx 3060 (12 GiB)", "4090", "A100 80GB".

    Raises BadInput for one that the table lacks, naming the nearest, and for a name of several, naming them.
    """
    from difflib import get_close_matches

    base, size = _key(name)
    same = [sheet for sheet in sheets() if base in _keys(sheet)]
    fits = [sheet for sheet in same if size in (None, sheet.memory_gib)]
    if len(fits) == 1:
        return fits[0].gpu
    if same:
        which = ", ".join(sheet.name if _key(sheet.name)[1] else f"{sheet.name} {sheet.memory_gib}GB" for sheet in same)
        raise BadInput(f"GPU is {name!r}: there {'are' if len(same) > 1 else 'is'} {which}; name one of them")
    near = {key: sheet.name for sheet in sheets() for key in _keys(sheet)}
    close = [near[key] for key in get_close_matches(base, near, n=6, cutoff=0.6)]
    advice = f"the nearest are {', '.join(dict.fromkeys(close))}" if close else "such as RTX 3060 12GB, RTX 4090, L40S"
    raise BadInput(f"GPU is {name!r}: it must be one of the {len(sheets())} GPUs that are known, {advice}")


def elsewhere(name: str, ram_gib: float | None, here: Device) -> Device:
    """A machine like `here`, but with the named GPU, a torch for it, and `ram_gib` of memory where that is stated.

    Raises BadInput for an unknown GPU and for an impossible amount of memory.
    """
    ram_total, ram_free = here.ram_total_bytes, here.ram_free_bytes
    if ram_gib is not None:
        if not 1 <= ram_gib <= 16384:
            raise BadInput(f"ram is {ram_gib:g}: it must be 1 to 16384, in GiB")
        ram_total = round(ram_gib * GIB)
        ram_free = ram_total - max(min(SYSTEM_BYTES, ram_total // 2), ram_total // SYSTEM_SHARE)
    return replace(
        here,
        name=DATASHEET,
        ram_total_bytes=ram_total,
        ram_free_bytes=ram_free,
        gpus=(named(name),),
        driver=None,
        cuda=None,
        no_gpu=None,
        unusable=(),
        torch=(here.torch or "").partition("+")[0] or "2",
        store_read_bytes_s=None,  # the other machine's disk is unknown
    )


def peak(gpu: Gpu) -> Peak | None:
    """Peak rates: multiprocessors x clock x rate. None where neither the name nor the capability is known.

    A GPU of the table counts with the datasheet's clock, another with the highest that it reports. A MIG slice counts
    its own multiprocessors.
    """
    sheet = sheet_of(gpu)
    if sheet is not None:
        family, sms, mhz = sheet.family, gpu.sm_count or sheet.sms, sheet.boost_mhz
    else:
        alike = [each.family for each in sheets() if each.family.capability == gpu.capability]
        alike.sort(key=lambda each: each.geforce is not ("GeForce" in gpu.name))
        if not alike or gpu.sm_count is None or gpu.sm_clock_mhz is None:
            return None
        family, sms, mhz = alike[0], gpu.sm_count, gpu.sm_clock_mhz
    clocks = sms * mhz * 1e6
    return Peak(
        flops_bf16=clocks * family.bf16,
        flops_f16=clocks * family.f16,
        flops_int8=clocks * family.int8,
        flops_fp8=None if family.fp8 is None else clocks * family.fp8,
    )


def sheet_of(gpu: Gpu) -> Sheet | None:
    """The datasheet for the name that a driver reports; of several of that name the one nearest in memory."""
    base, size = _key(gpu.name.partition(" MIG ")[0])
    same = [sheet for sheet in sheets() if base in _keys(sheet) and size in (None, sheet.memory_gib)]
    whole = gpu.total_bytes if gpu.mig is None else None
    same.sort(key=lambda sheet: abs(sheet.total_bytes - (sheet.total_bytes if whole is None else whole)))
    return same[0] if same else None


_SIZE = re.compile(r"(?<!\d)(\d{1,3})\s*gi?b\b")
_NOISE = re.compile(r"nvidia|geforce|tesla|rtx|gtx|generation|gpu|workstation edition|hbm[0-9]e?|[^a-z0-9]")


def _key(name: str) -> tuple[str, int | None]:
    """What tells GPUs apart in a name, and its gigabytes: "NVIDIA GeForce RTX 3060 Ti 8GB" is ("3060ti", 8)."""
    plain = name.lower()
    size = _SIZE.search(plain)
    return _NOISE.sub("", _SIZE.sub(" ", plain)), int(size[1]) if size else None


@lru_cache(maxsize=256)
def _keys(sheet: Sheet) -> frozenset[str]:
    return frozenset(_key(name)[0] for name in (sheet.name, *sheet.names))
