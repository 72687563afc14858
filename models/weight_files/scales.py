"""Numbers stored small, with what else they need to be numbers again: scales beside fp8 and int8 weights. Torch-free.

    plain fp8            no scale: the number is the weight
    ComfyUI, first form  X.scale_weight, and a mark `scaled_fp8`
    ComfyUI, new form    X.weight_scale, and X.comfy_quant or a table in the file's metadata that says how
    LightX2V             X.weight_scale, one for each row of an int8 or fp8 weight

A weight is its stored number times its scale, everywhere. What any other form would need is refused by name: a guess
would give noise. Input scales belong to other programs' products and are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from models.errors import BadInput
from models.weight_files.gguf import TYPES

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]  # name -> how it is stored, and its shape

WIDE = ("F64", "F32", "F16", "BF16")
FP8 = ("F8_E4M3", "F8_E5M2")
BLOCKS = tuple(block.name for block in TYPES.values() if block.numbers > 1)
SCALES = (".scale_weight", ".weight_scale")
PASSED = (".scale_input", ".input_scale", ".comfy_quant")
MARKS = ("scaled_fp8", "spiece_model")  # of the whole file; the second is a tokenizer that lies with the weights
FORMATS = ("float8_e4m3fn", "float8_e5m2", "int8_tensorwise")  # of ComfyUI's that are a number times a scale
METADATA = "_quantization_metadata"
UNREAD = {
    ".weight_scale_2": "nvfp4", ".weight_global_scale": "nvfp4", ".pre_quant_scale": "nvfp4",
    ".int8_weight": "int8 in blocks (TurboDiffusion)", "._data": "quanto (Wan2GP)", "._scale": "quanto (Wan2GP)",
    ".absmax": "bitsandbytes", ".quant_map": "bitsandbytes", ".qweight": "GPTQ or AWQ", ".qzeros": "GPTQ or AWQ",
}  # fmt: skip
WAY_OUT = "bring the bf16, fp16 or fp8 file of the same model"


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of a network without what accompanies them."""

    tensors: Tensors
    scales: dict[str, str]  # of a weight, the name of its scale
    stored: str  # in words: "bf16", "fp8 with scales", "Q4_K, F32"


def weights_of(
    tensors: Tensors, metadata: Mapping[str, str], read: Callable[[str], bytes], where: str = "the file"
) -> Weights:
    """Weights and companions told apart. `read` gives the bytes of a small tensor. Raises BadInput for another form."""
    own = {name: facts for name, facts in tensors.items() if name not in MARKS and not name.endswith(PASSED)}
    scales: dict[str, str] = {}
    for name in list(own):
        for suffix in SCALES:
            weight = name.removesuffix(suffix) + ".weight"
            if name.endswith(suffix) and weight in own:
                if weight in scales:
                    raise BadInput(f"{where} has two scales for {weight}; {WAY_OUT}")
                scales[weight] = name
        for suffix, form in UNREAD.items():
            if name.endswith(suffix):
                raise BadInput(f"{where} stores {name.removesuffix(suffix)} as {form}, which is not read; {WAY_OUT}")
    for name in scales.values():
        del own[name]
    _known_formats(tensors, metadata, read, where)
    _whole(own, scales, "scaled_fp8" in tensors, where)
    return Weights(own, scales, _words(own, scales))


def _known_formats(tensors: Tensors, metadata: Mapping[str, str], read: Callable[[str], bytes], where: str) -> None:
    """What ComfyUI's new form says of each layer must be a number times a scale."""
    said: dict[str, object] = {}
    try:
        if METADATA in metadata:
            said |= json.loads(metadata[METADATA])["layers"]
        for name, (_, shape) in tensors.items():
            if name.endswith(".comfy_quant"):
                if len(shape) != 1 or not 0 < shape[0] <= 4096:
                    raise ValueError(f"{name} is no text")
                said[name.removesuffix(".comfy_quant")] = json.loads(read(name))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"{where} says in no known words how it is stored ({error}); {WAY_OUT}") from error
    for layer, facts in said.items():
        form = facts.get("format") if isinstance(facts, dict) else facts
        if form not in FORMATS:
            raise BadInput(f"{where} stores {layer} as {str(form)[:40]!a}, which is not read; {WAY_OUT}")
        turned = [name for name, value in facts.items() if "rot" in name and value] if isinstance(facts, dict) else []
        if turned:
            raise BadInput(f"{where} stores {layer} turned ({turned[0]}), which is not read; {WAY_OUT}")


def _whole(own: Tensors, scales: Mapping[str, str], scaled: bool, where: str) -> None:
    """Every weight must be stored in a form that is known, and have its scale where the others have theirs."""
    for name, (dtype, shape) in own.items():
        lacks = name not in scales
        if dtype in FP8 and lacks and len(shape) > 1 and (scaled or scales):
            raise BadInput(f"{where} holds {name} in fp8 without its scale, which its others have; copy it again")
        if dtype == "I8" and lacks:
            raise BadInput(f"{where} holds {name} in int8 without a scale; {WAY_OUT}")
        if dtype not in (*WIDE, *FP8, *BLOCKS, "I8"):
            raise BadInput(f"{where} holds {name} as {dtype}, which is no form of weights that is read; {WAY_OUT}")


def _words(own: Tensors, scales: Mapping[str, str]) -> str:
    counts: dict[str, int] = {}
    for name, (dtype, _) in own.items():
        kind = "int8" if dtype == "I8" else "fp8" if dtype in FP8 else dtype if dtype in BLOCKS else dtype.lower()
        kind += " with scales" if name in scales and dtype in FP8 else ""
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(sorted(counts, key=lambda kind: (-counts[kind], kind)))
