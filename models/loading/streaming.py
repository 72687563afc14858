"""A network larger than its device: its blocks wait outside and pass, one after the other, through two slots on it.

    waiting   block 5   block 6   block 7 ...   pinned memory, or the mapped file of the package
                 |  copied on a stream of its own while the block before it works
    slots     [ block 5 ]  [ block 6 ]          two runs of bytes on the device

The blocks of a slot are modules whose tensors are views of its bytes, one for each kind of block (int8, or kept in
bf16), so that a copy of bytes moves a block and the arithmetic is that of a block which stays: the same numbers come
out. At the end of a pass the first waiting block is fetched again, for the next step of the walk.

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

from models.placement import Placement

ALIGNMENT = 256  # bytes: where CUDA's own allocations begin, and what every vector load wants
SMALLEST_PIECE = 2**20  # bytes of pinned memory
RING_BYTES = 32 * 2**20  # of each of the two buffers through which blocks leave a file

Pin = Callable[[int], Tensor]  # bytes -> uint8 in memory that the device reads by itself; RuntimeError: no more


def place(network: nn.Module, device: torch.device, placement: Placement) -> str | None:
    """Puts a network with `blocks` on a device: all of it, or what the placement says stays.

    The blocks that wait remain where they are (views of the mapped file), or go one by one to pinned memory and are
    let go of: they exist once. Returns a sentence when the system pinned less than the placement asks for.
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
    """So many bytes of page-locked memory. Raises RuntimeError when the system has none left."""
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)


class StreamedBlocks(nn.Module):
    """Blocks in their order, each ready on the device as it is yielded; it is to be used before the next is asked for.

    Blocks of one kind (equal names, dtypes and shapes of their tensors) differ in these alone. One pass runs at a time.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], resident: int, device: torch.device, pin: Pin | None = None
    ) -> None:
        """`blocks` lie in host memory; the first `resident` stay with the network, the others wait.

        With `pin` they are copied to what it gives, until it raises RuntimeError: the rest then waits where it is.
        """
        super().__init__()
        passing = list(blocks[resident:])
        self.resident = nn.ModuleList(blocks[:resident])
        self.note: str | None = None
        self._waiting = [_Waiting(layout_of(block), tensors_of(block), ()) for block in passing]
        with torch.inference_mode(False):  # made while something renders, it must outlive that
            kinds = {waiting.layout: block for waiting, block in zip(self._waiting, passing, strict=True)}
            self._slots = [_Slot(kinds, device) for _ in range(2)]
            self._copier = _Copier(device)
        if pin is not None:
            self._pin(pin)
        # One thread of its own: it waits for the disk while the device works.
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
                slot.let_go()
            slot = following

    def _fetch(self, index: int, free: _Slot) -> _Slot:
        """The slot that has a waiting block, or will have: `free`, unless the block is in one already."""
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
                    f"{index} of {len(self._waiting)} blocks wait in pinned memory, then the system refused ({why}): "
                    "the others come from the file of the package, which may be slower"
                )
                return
            assembled = torch.empty(layout.size, dtype=torch.uint8)
            with torch.no_grad():
                for name, view in layout.views(assembled).items():
                    view.copy_(tensors[name])
                for piece, part in _beside(pieces, assembled):
                    piece.copy_(part)
            self._waiting[index] = _Waiting(layout, {}, pieces)


class Layout(NamedTuple):
    """Where the tensors of a kind of block lie in a run of bytes: (name, dtype, shape, first byte), and its length."""

    entries: tuple[tuple[str, torch.dtype, torch.Size, int], ...]
    size: int

    def views(self, run: Tensor) -> dict[str, Tensor]:
        """The tensors in a run of bytes (uint8), by name."""
        return {
            name: run[at : at + prod(shape) * dtype.itemsize].view(dtype).view(shape)
            for name, dtype, shape, at in self.entries
        }


def tensors_of(block: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers of a block, by name."""
    return {**dict(block.named_parameters()), **dict(block.named_buffers())}


def layout_of(block: nn.Module) -> Layout:
    """How a block lies in a slot. Its length is a whole number of the smallest pinned pieces."""
    entries, at = [], 0
    for name, tensor in tensors_of(block).items():
        entries.append((name, tensor.dtype, tensor.shape, at))
        at += _up(tensor.numel() * tensor.element_size(), ALIGNMENT)
    return Layout(tuple(entries), _up(at, SMALLEST_PIECE))


class _Waiting(NamedTuple):
    """A block in host memory: as its tensors, or as pinned pieces that follow one another."""

    layout: Layout
    tensors: dict[str, Tensor]
    pieces: tuple[Tensor, ...]


class _Slot:
    """A run of bytes on the device, and which waiting block is in it or on its way."""

    def __init__(self, kinds: dict[Layout, nn.Module], device: torch.device) -> None:
        self.run = torch.empty(max((layout.size for layout in kinds), default=0), dtype=torch.uint8, device=device)
        self.blocks = {layout: _over(block, layout.views(self.run)) for layout, block in kinds.items()}
        self.index: int | None = None
        self.filling: Future[nn.Module]
        self.device = device
        self.on_cuda = device.type == "cuda"
        if self.on_cuda:
            self.filled, self.used = torch.cuda.Event(), torch.cuda.Event()

    def take(self) -> nn.Module:
        """The block, ready for whatever this thread asks of the device next. Raises what the copying raised."""
        try:
            block = self.filling.result()
        except BaseException:
            self.index = None
            raise
        if self.on_cuda:
            torch.cuda.current_stream(self.device).wait_event(self.filled)
        return block

    def let_go(self) -> None:
        """What was asked of the device until now is all that this block is needed for."""
        if self.on_cuda:
            self.used.record(torch.cuda.current_stream(self.device))


class _Copier:
    """Copies blocks into slots: on a stream of its own where there are streams, else at once."""

    def __init__(self, device: torch.device) -> None:
        self.stream: torch.cuda.Stream | None = None
        self._ring: list[tuple[Tensor, torch.cuda.Event]] = []
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device)
            self.stream.wait_stream(torch.cuda.current_stream(device))  # whoever had the slots' memory may use it still

    @torch.no_grad()
    def fill(self, slot: _Slot, waiting: _Waiting) -> nn.Module:
        """Copies a block into a slot, after the last use of what was there. The block that now lies in it."""
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
            for piece, part in _beside(waiting.pieces, slot.run):
                part.copy_(piece, non_blocking=True)
            return
        for name, view in waiting.layout.views(slot.run).items():
            if self.stream is None:
                view.copy_(waiting.tensors[name])
            else:
                self._through_ring(waiting.tensors[name], view, self.stream)

    def _through_ring(self, source: Tensor, target: Tensor, stream: torch.cuda.Stream) -> None:
        """Through two pinned buffers in turn: the file is read into one while the device reads the other."""
        if not self._ring:
            self._ring = [(_pinned_or_not(RING_BYTES), torch.cuda.Event()) for _ in range(2)]
        flat, there = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (source, target))
        for part, place in zip(flat.split(RING_BYTES), there.split(RING_BYTES), strict=True):
            (buffer, read), other = self._ring
            read.synchronize()
            staged = buffer[: len(part)]
            staged.copy_(part)
            place.copy_(staged, non_blocking=True)
            read.record(stream)
            self._ring = [other, (buffer, read)]


def _over(block: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    """A block like `block` whose tensors are the given ones; the old ones are not copied on the way."""
    memo: dict[int, Any] = {id(buffer): tensors[name] for name, buffer in block.named_buffers()}
    for name, parameter in block.named_parameters():
        memo[id(parameter)] = nn.Parameter(tensors[name], requires_grad=False)
    return copy.deepcopy(block, memo)


def _pinned_or_not(size: int) -> Tensor:
    try:
        return pin_memory(size)
    except RuntimeError:  # a slower copy is still a right one
        return torch.empty(size, dtype=torch.uint8)


def _beside(pieces: Sequence[Tensor], run: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Each piece, and the bytes of the run that are its own."""
    at = 0
    for piece in pieces:
        yield piece, run[at : at + len(piece)]
        at += len(piece)


def _powers_of_two(size: int) -> list[int]:
    """The size as a sum of powers of two, the largest first: torch rounds every pinned allocation up to one."""
    return [1 << bit for bit in reversed(range(size.bit_length())) if size >> bit & 1]


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _drain(thread: ThreadPoolExecutor, stream: torch.cuda.Stream | None) -> None:
    """A block may be on its way into memory that is about to be somebody else's: wait for it."""
    thread.shutdown(wait=True, cancel_futures=True)
    if stream is not None:
        stream.synchronize()
