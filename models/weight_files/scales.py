"""Scale tensors stored beside fp8 and int8 weights. Torch-free.

    plain fp8            no scale: the number is the weight
    ComfyUI, first form  X.scale_weight, and a marker tensor `scaled_fp8`
    ComfyUI, new form    X.weight_scale, and the format in X.comfy_quant or in the file's metadata
    LightX2V             X.weight_scale, one for each row of an int8 or fp8 weight

In each of them a weight is its stored number times its scale. Any other format is refused by name: guessing would give
noise. Scales of activations are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from models.errors import BadInput
from models.weight_files.gguf import TYPES

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]  # name -> dtype or block type, and shape

WIDE = ("F64", "F32", "F16", "BF16")
FP8 = ("F8_E4M3", "F8_E5M2")
BLOCKS = tuple(block.name for block in TYPES.values() if block.numbers > 1)
SCALES = (".scale_weight", ".weight_scale")
IGNORED = (".scale_input", ".input_scale", ".comfy_quant")
MARKS = ("scaled_fp8", "spiece_model")  # of the whole file; the second is a tokenizer stored with the weights
FORMATS = ("float8_e4m3fn", "float8_e5m2", "int8_tensorwise")  # of ComfyUI, where a weight is a number times a scale
METADATA = "_quantization_metadata"
UNSUPPORTED = {
    ".weight_scale_2": "nvfp4", ".weight_global_scale": "nvfp4", ".pre_quant_scale": "nvfp4",
    ".int8_weight": "int8 in blocks (TurboDiffusion)", "._data": "quanto (Wan2GP)", "._scale": "quanto (Wan2GP)",
    ".absmax": "bitsandbytes", ".quant_map": "bitsandbytes", ".qweight": "GPTQ or AWQ", ".qzeros": "GPTQ or AWQ",
}  # fmt: skip
WAY_OUT = "use the bf16, fp16 or fp8 file of the same model"


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a network, apart from their scales."""

    tensors: Tensors
    scales: dict[str, str]  # name of a weight -> name of its scale
    stored: str  # in words: "bf16", "fp8 with scales", "Q4_K, F32"


def weights_of(
    tensors: Tensors, metadata: Mapping[str, str], read: Callable[[str], bytes], where: str = "the file"
) -> Weights:
    """Separate weights from scales and markers. `read` gives the bytes of a small tensor. Raises BadInput for a format
    that is not supported.
    """
    weights = {name: entry for name, entry in tensors.items() if name not in MARKS and not name.endswith(IGNORED)}
    scales: dict[str, str] = {}
    for name in list(weights):
        for suffix in SCALES:
            weight = name.removesuffix(suffix) + ".weight"
            if name.endswith(suffix) and weight in weights:
                if weight in scales:
                    raise BadInput(f"{where} has two scales for {weight}; {WAY_OUT}")
                scales[weight] = name
        for suffix, form in UNSUPPORTED.items():
            if name.endswith(suffix):
                raise BadInput(
                    f"{where} stores {name.removesuffix(suffix)} as {form}, which is not supported; {WAY_OUT}"
                )
    for name in scales.values():
        del weights[name]
    _known_formats(tensors, metadata, read, where)
    _check_dtypes(weights, scales, "scaled_fp8" in tensors, where)
    return Weights(weights, scales, _words(weights, scales))


def _known_formats(tensors: Tensors, metadata: Mapping[str, str], read: Callable[[str], bytes], where: str) -> None:
    """The format of each layer, in ComfyUI's new form, must be one of FORMATS. Raises BadInput."""
    formats: dict[str, object] = {}
    try:
        if METADATA in metadata:
            formats |= json.loads(metadata[METADATA])["layers"]
        for name, (_, shape) in tensors.items():
            if name.endswith(".comfy_quant"):
                if len(shape) != 1 or not 0 < shape[0] <= 4096:
                    raise ValueError(f"{name} is not text")
                formats[name.removesuffix(".comfy_quant")] = json.loads(read(name))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"{where} has quantization metadata that cannot be read ({error}); {WAY_OUT}") from error
    for layer, entry in formats.items():
        form = entry.get("format") if isinstance(entry, dict) else entry
        if form not in FORMATS:
            raise BadInput(f"{where} stores {layer} as {str(form)[:40]!a}, which is not supported; {WAY_OUT}")
        rotated = [name for name, value in entry.items() if "rot" in name and value] if isinstance(entry, dict) else []
        if rotated:
            raise BadInput(f"{where} stores {layer} rotated ({rotated[0]}), which is not supported; {WAY_OUT}")


def _check_dtypes(weights: Tensors, scales: Mapping[str, str], scaled: bool, where: str) -> None:
    """Every weight must have a supported dtype, and a scale where one is needed. Raises BadInput."""
    for name, (dtype, shape) in weights.items():
        unscaled = name not in scales
        if dtype in FP8 and unscaled and len(shape) > 1 and (scaled or scales):
            raise BadInput(f"{where} holds {name} in fp8 without a scale, which its other weights have; copy it again")
        if dtype == "I8" and unscaled:
            raise BadInput(f"{where} holds {name} in int8 without a scale; {WAY_OUT}")
        if dtype not in (*WIDE, *FP8, *BLOCKS, "I8"):
            raise BadInput(f"{where} holds {name} as {dtype}, which is not supported for weights; {WAY_OUT}")


def _words(weights: Tensors, scales: Mapping[str, str]) -> str:
    counts: dict[str, int] = {}
    for name, (dtype, _) in weights.items():
        kind = "int8" if dtype == "I8" else "fp8" if dtype in FP8 else dtype if dtype in BLOCKS else dtype.lower()
        kind += " with scales" if name in scales and dtype in FP8 else ""
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(sorted(counts, key=lambda kind: (-counts[kind], kind)))
