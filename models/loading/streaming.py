"""Stream a network that is larger than its device: blocks in host memory are copied through two slots on the device.

    host      block 5   block 6   block 7 ...   pinned memory, or the mapped file of the package
                 |  copied on a separate CUDA stream while the previous block computes
    slots     [ block 5 ]  [ block 6 ]          two buffers on the device

A slot has a module for each kind of block (int8, or bf16), whose tensors are views of the slot's bytes: copying bytes
moves a block, and the arithmetic, and so the result, is that of a resident block. At the end of a pass the first
streamed block is fetched again, for the next denoising step.

A block of Wan 14B in int8 is 351 MB: 15 ms on PCIe 4.0 x16, for 42 TFLOP of work at 480x832x81.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.cost.footprint import RING_BUFFER_BYTES, RING_BUFFERS
from models.placement import Placement

ALIGNMENT = 256  # bytes: as of CUDA's allocations, and enough for every vector load
SMALLEST_PIECE = 2**20  # bytes of pinned memory

Pin = Callable[[int], Tensor]  # size -> uint8 in pinned memory; raises RuntimeError when there is no more


def place(network: nn.Module, device: torch.device, placement: Placement) -> str | None:
    """Move a network with `blocks` to a device: all of it, or the blocks that the placement keeps resident.

    Streamed blocks stay where they are (views of the mapped file), or are moved one by one to pinned memory, so they
    exist once. Returns a sentence when the system pinned less memory than the placement asks for.
    """
    blocks: Any = network.blocks
    stay, note = placement.resident_blocks, None
    if stay is not None and stay < len(blocks):
        pin = pin_memory if device.type == "cuda" and placement.source == "ram" else None
        network.blocks = streamed = StreamedBlocks(blocks, stay, device, pin)
        note = streamed.note
    network.to(device)
    return note


def pin_memory(size: int) -> Tensor:
    """Page-locked memory of `size` bytes. Raises RuntimeError when the system has no more."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)


class StreamedBlocks(nn.Module):
    """Iterates over blocks in order, each ready on the device when yielded; use it before the next one is requested.

    Blocks of one kind have tensors of equal names, dtypes and shapes, and differ in nothing else. One pass at a time.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], resident: int, device: torch.device, pin: Pin | None = None
    ) -> None:
        """`blocks` are in host memory; the first `resident` move with the network, the others are streamed.

        With `pin` they are copied to pinned memory until it raises RuntimeError; the rest stays where it is.
        """
        super().__init__()
        streamed = list(blocks[resident:])
        self.resident = nn.ModuleList(blocks[:resident])
        self.note: str | None = None
        self._waiting = [_Waiting(layout_of(block), tensors_of(block), ()) for block in streamed]
        with torch.inference_mode(False):  # created inside inference mode, but used outside of it too
            kinds = {waiting.layout: block for waiting, block in zip(self._waiting, streamed, strict=True)}
            self._slots = [_Slot(kinds, device) for _ in range(2)]
            self._copier = _Copier(device)
        if pin is not None:
            self._pin(pin)
        # A separate thread, which waits for the disk while the device computes.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="blocks")
        weakref.finalize(self, _drain, self._thread, self._copier.stream).atexit = False

    def __len__(self) -> int:
        return len(self.resident) + len(self._waiting)

    def __iter__(self) -> Iterator[nn.Module]:
        count = len(self._waiting)
        slot = self._fetch(0, self._slots[0]) if count else None
        yield from self.resident
        for index in range(count):
            assert slot is not None
            one, two = self._slots
            following = self._fetch((index + 1) % count, two if slot is one else one)
            try:
                yield slot.take()
            finally:
                slot.release()
            slot = following

    def _fetch(self, index: int, free: _Slot) -> _Slot:
        """The slot that has or will have a streamed block: `free`, unless the block is in a slot already."""
        for slot in self._slots:
            if slot.index == index:
                return slot
        free.index = index
        free.filling = self._thread.submit(self._copier.fill, free, self._waiting[index])
        return free

    def _pin(self, pin: Pin) -> None:
        for index, (layout, tensors, _) in enumerate(self._waiting):
            try:
                pieces = tuple(pin(size) for size in _powers_of_two(layout.size))
            except RuntimeError as error:
                why = str(error).strip().partition("\n")[0]
                self.note = (
                    f"{index} of {len(self._waiting)} blocks are in pinned memory, the system refused more ({why}): "
                    "the others are read from the package file, which may be slower"
                )
                return
            assembled = torch.empty(layout.size, dtype=torch.uint8)
            with torch.no_grad():
                for name, view in layout.views(assembled).items():
                    view.copy_(tensors[name])
                for piece, part in _parts_of(pieces, assembled):
                    piece.copy_(part)
            self._waiting[index] = _Waiting(layout, {}, pieces)


class Layout(NamedTuple):
    """The tensors of a kind of block in a buffer: (name, dtype, shape, first byte), and the buffer's size."""

    entries: tuple[tuple[str, torch.dtype, torch.Size, int], ...]
    size: int

    def views(self, buffer: Tensor) -> dict[str, Tensor]:
        """The tensors in a buffer (uint8), by name."""
        return {
            name: buffer[at : at + prod(shape) * dtype.itemsize].view(dtype).view(shape)
            for name, dtype, shape, at in self.entries
        }


def tensors_of(block: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers of a block, by name."""
    return {**dict(block.named_parameters()), **dict(block.named_buffers())}


def layout_of(block: nn.Module) -> Layout:
    """The layout of a block in a slot. Its size is a multiple of the smallest pinned piece."""
    entries, at = [], 0
    for name, tensor in tensors_of(block).items():
        entries.append((name, tensor.dtype, tensor.shape, at))
        at += _up(tensor.numel() * tensor.element_size(), ALIGNMENT)
    return Layout(tuple(entries), _up(at, SMALLEST_PIECE))


class _Waiting(NamedTuple):
    """A block in host memory: its tensors, or consecutive pinned pieces."""

    layout: Layout
    tensors: dict[str, Tensor]
    pieces: tuple[Tensor, ...]


class _Slot:
    """A buffer on the device, and which streamed block is in it or being copied."""

    def __init__(self, kinds: dict[Layout, nn.Module], device: torch.device) -> None:
        self.buffer = torch.empty(max((layout.size for layout in kinds), default=0), dtype=torch.uint8, device=device)
        self.blocks = {layout: _with_tensors(block, layout.views(self.buffer)) for layout, block in kinds.items()}
        self.index: int | None = None
        self.filling: Future[nn.Module]
        self.device = device
        self.on_cuda = device.type == "cuda"
        if self.on_cuda:
            self.filled, self.used = torch.cuda.Event(), torch.cuda.Event()

    def take(self) -> nn.Module:
        """The block, ready for work that this thread queues next. Raises what the copy raised."""
        try:
            block = self.filling.result()
        except BaseException:
            self.index = None
            raise
        if self.on_cuda:
            torch.cuda.current_stream(self.device).wait_event(self.filled)
        return block

    def release(self) -> None:
        """Mark the end of the work that needs this block."""
        if self.on_cuda:
            self.used.record(torch.cuda.current_stream(self.device))


class _Copier:
    """Copies blocks into slots: on a separate stream on CUDA, else synchronously."""

    def __init__(self, device: torch.device) -> None:
        self.stream: torch.cuda.Stream | None = None
        self._ring: list[tuple[Tensor, torch.cuda.Event]] = []
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)
            self.stream.wait_stream(
                torch.cuda.current_stream(device)
            )  # the previous owner of this memory may still have work queued

    @torch.no_grad()
    def fill(self, slot: _Slot, waiting: _Waiting) -> nn.Module:
        """Copy a block into a slot, after the last use of its previous block. Returns the block in the slot."""
        if self.stream is None:
            self._copy(slot, waiting)
        else:
            with torch.cuda.stream(self.stream):
                self.stream.wait_event(slot.used)
                self._copy(slot, waiting)
                slot.filled.record(self.stream)
        return slot.blocks[waiting.layout]

    def _copy(self, slot: _Slot, waiting: _Waiting) -> None:
        if waiting.pieces:
            for piece, part in _parts_of(waiting.pieces, slot.buffer):
                part.copy_(piece, non_blocking=True)
            return
        for name, view in waiting.layout.views(slot.buffer).items():
            if self.stream is None:
                view.copy_(waiting.tensors[name])
            else:
                self._through_ring(waiting.tensors[name], view, self.stream)

    def _through_ring(self, source: Tensor, target: Tensor, stream: torch.cuda.Stream) -> None:
        """Copy through pinned buffers in turn: the file is read into one while the device reads the other."""
        if not self._ring:
            self._ring = [(_pinned_or_not(RING_BUFFER_BYTES), torch.cuda.Event()) for _ in range(RING_BUFFERS)]
        flat, there = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (source, target))
        for part, target_part in zip(flat.split(RING_BUFFER_BYTES), there.split(RING_BUFFER_BYTES), strict=True):
            (buffer, read), *others = self._ring
            read.synchronize()
            staged = buffer[: len(part)]
            staged.copy_(part)
            target_part.copy_(staged, non_blocking=True)
            read.record(stream)
            self._ring = [*others, (buffer, read)]


def _with_tensors(block: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    """A copy of `block` with the given tensors; the old ones are not copied."""
    memo: dict[int, Any] = {id(buffer): tensors[name] for name, buffer in block.named_buffers()}
    for name, parameter in block.named_parameters():
        memo[id(parameter)] = nn.Parameter(tensors[name], requires_grad=False)
    return copy.deepcopy(block, memo)


def _pinned_or_not(size: int) -> Tensor:
    try:
        return pin_memory(size)
    except RuntimeError:  # slower, but correct
        return torch.empty(size, dtype=torch.uint8)


def _parts_of(pieces: Sequence[Tensor], buffer: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each piece, and its part of the buffer."""
    at = 0
    for piece in pieces:
        yield piece, buffer[at : at + len(piece)]
        at += len(piece)


def _powers_of_two(size: int) -> list[int]:
    """The size as a sum of powers of two, the largest first: torch rounds every pinned allocation up to one."""
    return [1 << bit for bit in reversed(range(size.bit_length())) if size >> bit & 1]


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _drain(thread: ThreadPoolExecutor, stream: torch.cuda.Stream | None) -> None:
    """Wait for copies into memory that is about to be freed."""
    thread.shutdown(wait=True, cancel_futures=True)
    if stream is not None:
        stream.synchronize()
