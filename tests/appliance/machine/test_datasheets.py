"""The table of GPUs against figures that it does not hold: published rates, pin speeds, what drivers show."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.machine.datasheets import DATASHEET, TABLE, elsewhere, named, peak, sheet_of, sheets
from appliance.machine.device import Device, Gpu
from models.errors import BadInput

MIB, GIB = 2**20, 2**30
HERE = Device("box", "a CPU", 8, (), 64 * GIB, 48 * GIB, 100 * GIB, torch="2.13.0+cpu", no_gpu="none")

# What memory makers sell, in Gbit/s and pin. HBM runs at what the card's maker sets, within these.
PINS = (10, 12, 12.5, 14, 14.5, 15, 15.5, 16, 17, 18, 19, 19.5, 20, 21, 22.4, 23, 24, 28, 30)
HBM_PINS = (2.4, 7.8)


def test_there_are_enough_and_each_is_whole():
    cards = sheets()
    assert len(cards) >= 25 and len({card.name for card in cards}) == len(cards)
    columns = tomllib.loads(TABLE.read_text())["columns"]
    for card in cards:
        assert all(getattr(card, name) for name in columns), card.name


def test_bandwidth_is_bus_times_a_pin_that_is_sold():
    def sold(card):
        pin = card.gb_s * 8 / card.bus_bits
        if card.bus_bits >= 2048:
            return HBM_PINS[0] <= pin <= HBM_PINS[1]
        return any(pin == pytest.approx(each, rel=2e-3) for each in PINS)

    assert not [(card.name, card.gb_s * 8 / card.bus_bits) for card in sheets() if not sold(card)]


def test_a_gpu_fits_its_board():
    def wrong(card):
        gpu, lane = card.gpu, {3: 1e9, 4: 2e9, 5: 4e9}[card.family.pcie_gen]
        fits = {
            "watts": 64 <= card.watts <= 1000,
            "boost clock": 1000 < card.boost_mhz < 3000,
            "multiprocessors": 20 <= card.sms <= 188,
            "lanes": card.lanes in (8, 16),
            "free memory": 0.85 < gpu.free_bytes / gpu.total_bytes < 0.99,
            "link": gpu.pcie_bytes_s == pytest.approx(card.lanes * lane, rel=0.02),
            "memory clock": gpu.mem_clock_mhz * 2e6 * gpu.bus_width_bits / 8
            == pytest.approx(gpu.bandwidth_bytes_s, rel=1e-3),
        }
        return [name for name, right in fits.items() if not right]

    assert not {card.name: names for card in sheets() if (names := wrong(card))}


# float32 without tensor cores, as published: SMs x clock x 256 (128 before, and at, A100)
TERAFLOPS = [
    ("RTX 3060 12GB", 12.7), ("RTX 3060 Ti", 16.2), ("RTX 3070", 20.3), ("RTX 3080 10GB", 29.8), ("RTX 3090", 35.6),
    ("RTX A2000 12GB", 8.0), ("RTX A4000", 19.2), ("RTX A5000", 27.8), ("RTX A6000", 38.7), ("A10", 31.2),
    ("RTX 4060", 15.1), ("RTX 4060 Ti 16GB", 22.1), ("RTX 4070", 29.1), ("RTX 4070 Ti SUPER", 44.1),
    ("RTX 4080", 48.7), ("RTX 4090", 82.6), ("RTX 4000 Ada", 26.7), ("RTX 5000 Ada", 65.3), ("RTX 6000 Ada", 91.1),
    ("L4", 30.3), ("L40S", 91.6), ("RTX 5060 Ti 16GB", 23.7), ("RTX 5070", 30.9), ("RTX 5070 Ti", 43.9),
    ("RTX 5080", 56.3), ("RTX 5090", 104.8), ("RTX PRO 6000", 126.0), ("T4", 8.1), ("RTX 2080 Ti", 14.2),
    ("RTX 2060 6GB", 6.5), ("A100 80GB", 19.5),
]  # fmt: skip


def test_processors_and_clocks_give_the_published_rate():
    def derived(name):
        gpu = named(name)
        return gpu.sm_count * gpu.sm_clock_mhz * (128 if gpu.capability < (8, 6) else 256) / 1e6

    found = [(name, derived(name), stated) for name, stated in TERAFLOPS]
    assert not [row for row in found if row[1] != pytest.approx(row[2], rel=0.015)]


# TFLOPS and TOPS, dense, as published
TENSOR_RATES = [
    ("RTX 2080 Ti", 57, 114, 228, None, 616), ("T4", 32, 65, 130, None, 320),
    ("RTX 3060 12GB", 25.5, 51, 102, None, 360), ("RTX 3090", 71.2, 142.3, 284.7, None, 936),
    ("RTX A6000", 154.8, 154.8, 309.7, None, 768), ("A100 80GB", 312, 312, 624, None, 2039),
    ("RTX 4090", 165.2, 330.3, 660.6, 330.3, 1008), ("L40S", 362, 362, 733, 733, 864),
    ("RTX 5090", 209.5, 419, 838, 419, 1792), ("H100 SXM", 989, 989, 1979, 1979, 3350),
    ("H200", 989, 989, 1979, 1979, 4800), ("B200", 2250, 2250, 4500, 4500, 7700), ("A10", 125, 125, 250, None, 600),
    ("A30", 165, 165, 330, None, 933), ("L4", 121, 121, 242, 242, 300), ("H100 PCIe", 756, 756, 1513, 1513, 2039),
]  # fmt: skip


def test_derived_tensor_rates_are_the_published_ones():
    def derived(name):
        gpu, top = named(name), peak(named(name))
        fp8 = None if top.flops_fp8 is None else top.flops_fp8 / 1e12
        return top.flops_bf16 / 1e12, top.flops_f16 / 1e12, top.flops_int8 / 1e12, fp8, gpu.bandwidth_bytes_s / 1e9

    def same(found, stated):
        if (found[3] is None) != (stated[3] is None) or found[4] != stated[4]:
            return False
        return all(a == pytest.approx(b, rel=0.025) for a, b in zip(found, stated, strict=True) if b is not None)

    assert not [(name, derived(name), stated) for name, *stated in TENSOR_RATES if not same(derived(name), stated)]


# what a driver shows as the whole
MEBIBYTES = [
    ("RTX 3060 12GB", 12288), ("RTX 3090", 24576), ("RTX 4090", 24564), ("RTX 4060", 8188), ("RTX 5090", 32607),
    ("RTX A6000", 49140), ("T4", 15360), ("L4", 23034), ("L40S", 46068), ("A40", 46068), ("A100 40GB", 40960),
    ("A100 80GB", 81920), ("H100 SXM", 81559), ("H200", 143771), ("RTX PRO 6000", 97887),
]  # fmt: skip


def test_memory_is_what_a_driver_shows_and_never_all_of_it_is_free():
    def right(gpu, mebibytes):
        shown = gpu.total_bytes == pytest.approx(mebibytes * MIB, rel=6e-3)
        return shown and gpu.free_bytes < mebibytes * MIB - 256 * MIB

    assert not [(name, named(name).total_bytes // MIB, mib) for name, mib in MEBIBYTES if not right(named(name), mib)]


SPELLINGS = [
    ("RTX 3060 12GB", "RTX 3060 12GB"), ("nvidia geforce rtx 3060 (12 GiB)", "RTX 3060 12GB"),
    ("3060-12gb", "RTX 3060 12GB"), ("RTX3060 8 GB", "RTX 3060 8GB"), ("4060ti 16gb", "RTX 4060 Ti 16GB"),
    ("4090", "RTX 4090"), ("RTX 4090 24GB", "RTX 4090"), ("RTX 4070TiSuper", "RTX 4070 Ti SUPER"),
    ("Tesla T4", "T4"), ("NVIDIA A100-SXM4-80GB", "A100 80GB"), ("A100 80GB PCIe", "A100 PCIe 80GB"),
    ("h100", "H100 SXM"), ("NVIDIA H100 80GB HBM3", "H100 SXM"), ("h100 pcie", "H100 PCIe"),
    ("A6000", "RTX A6000"), ("6000 Ada", "RTX 6000 Ada"), ("RTX 6000 Ada Generation", "RTX 6000 Ada"),
    ("rtx pro 6000", "RTX PRO 6000 Blackwell"), ("GeForce RTX 4060 Laptop GPU", "RTX 4060 Laptop"),
]  # fmt: skip


def test_people_spell_as_they_like():
    def meant(spelling, name):
        return named(spelling) == named(name) and sheet_of(named(spelling)).name == name

    assert not [row for row in SPELLINGS if not meant(*row)]


def test_every_name_of_a_gpu_means_it():
    def names(card):
        for name in (card.name, *card.names):
            yield name if f"{card.memory_gib}GB" in name else f"{name} {card.memory_gib}GB"

    assert not [name for card in sheets() for name in names(card) if named(name) != card.gpu]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("RTX 3060", ("RTX 3060 8GB", "RTX 3060 12GB")),
        ("RTX 4090 12GB", ("RTX 4090 24GB",)),
        ("RTX 4095", ("RTX 4090",)),
        ("GTX 1080", ("GPUs that are known", "RTX 3080")),
        ("", ("GPUs that are known",)),
        ("a banana", ("GPUs that are known",)),
    ],
)
def test_another_name_is_refused_with_the_nearest(said, words):
    with pytest.raises(BadInput) as refused:
        named(said)
    assert "\n" not in str(refused.value) and all(word in str(refused.value) for word in (repr(said), *words))


@given(st.text(max_size=40))
@settings(max_examples=50, deadline=None)
def test_any_text_is_a_card_or_bad_input(text):
    try:
        assert named(text).uuid == DATASHEET
    except BadInput as error:
        assert "GPU is" in str(error)


def probed(name, capability=(8, 6), total=12 * GIB, **more):
    return Gpu(0, "GPU-1", name, capability, total, total, **more)


def test_a_card_that_is_here_is_known_by_the_drivers_name_and_its_memory():
    assert sheet_of(probed("NVIDIA GeForce RTX 3060")).name == "RTX 3060 12GB"
    assert sheet_of(probed("NVIDIA GeForce RTX 3060", total=8 * GIB - 20 * MIB)).name == "RTX 3060 8GB"
    assert sheet_of(probed("NVIDIA GeForce GTX 1660")) is None
    # The datasheet's clock, not the highest that the driver allows.
    assert peak(probed("NVIDIA GeForce RTX 3060", sm_count=28, sm_clock_mhz=2100)) == peak(named("RTX 3060 12GB"))


def test_a_slice_counts_its_own_processors():
    part = probed("NVIDIA A100-SXM4-40GB MIG 3g.20gb", (8, 0), 20 * GIB, sm_count=42, mig="3g.20gb")
    assert peak(part).flops_bf16 == pytest.approx(42 / 108 * 312e12, rel=0.01)


def test_an_unknown_card_is_reckoned_by_its_family():
    geforce = peak(probed("NVIDIA GeForce RTX 4070 Ghost", (8, 9), sm_count=10, sm_clock_mhz=2000))
    other = peak(probed("NVIDIA RTX 3500 Ada Laptop", (8, 9), sm_count=10, sm_clock_mhz=2000))
    assert (geforce.flops_bf16, geforce.flops_int8) == (10 * 2e9 * 512, 10 * 2e9 * 2048)
    assert other.flops_bf16 == 2 * geforce.flops_bf16 and other.flops_int8 == geforce.flops_int8
    assert peak(probed("NVIDIA B300", (10, 3), sm_count=148, sm_clock_mhz=1900)) is None  # int8 went: not as the B200
    assert peak(probed("NVIDIA GeForce RTX 4070 Ghost", (8, 9))) is None


def test_another_machine_has_the_card_and_the_memory_that_were_named():
    there = elsewhere("RTX 3060 12GB", 32, HERE)
    assert (there.ram_total_bytes, there.torch_has_cuda, there.no_gpu) == (32 * GIB, True, None)
    assert there.ram_free_bytes == pytest.approx(28.8 * GIB, rel=1e-6)
    assert there.gpus == (named("RTX 3060 12GB"),) and there.cores == 8
    as_here = elsewhere("RTX 3060 12GB", None, HERE)
    assert (as_here.ram_total_bytes, as_here.ram_free_bytes) == (64 * GIB, 48 * GIB)


@pytest.mark.parametrize("ram", [0, -5, 0.5, 20000, float("nan"), float("inf")])
def test_memory_that_no_machine_has(ram):
    with pytest.raises(BadInput, match="ram is"):
        elsewhere("RTX 3060 12GB", ram, HERE)
