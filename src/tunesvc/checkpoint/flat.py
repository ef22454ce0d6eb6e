"""Nested states, their tensors laid one after the other: one copy of them, in few large pieces.

    8 bytes   length of the outline
    …         the outline, JSON: the state, the tensors' shapes, the parts' lengths
    …         the parts: all tensors of one dtype each

Why: 2026-11: a run's state is several hundred small tensors. Beside training, what `torch.save`
does for each of them in Python stops Python's part of training. Reading JSON runs no code.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from itertools import accumulate
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_LENGTH = struct.Struct("<Q")
_TENSOR, _FLAT, _PAIRS, _TUPLE = _TAGS = ("tensor", "flat", "pairs", "tuple")
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype)
}


class _Place(NamedTuple):
    """Where a tensor lies: in which part, behind those that were named before it."""

    part: int
    shape: list[int]
    order: list[int]  # of its dimensions in memory, where that is another


@dataclass(frozen=True, eq=False)
class Flat:
    """A copy of a state, on the CPU.

    Args:
        outline: plain data, with numbers in place of tensors.
        places: of the tensors, by their numbers.
        parts: (n,) each, of any dtypes.
    """

    outline: Any
    places: list[_Place]
    parts: list[Tensor]

    def encoded(self, room: int) -> NDArray[np.uint8]:
        """Return the bytes, behind so many that are left free.

        Why: 2026-11: numpy copies in one thread, which lets others run Python; torch would take
        as many as training has.
        """
        parts = [[str(part.dtype).removeprefix("torch."), len(part)] for part in self.parts]
        head = json.dumps([self.outline, self.places, parts]).encode()
        pieces = [np.frombuffer(bytes(room) + _LENGTH.pack(len(head)) + head, np.uint8)]
        pieces += [part.view(torch.uint8).numpy() for part in self.parts]
        made = np.empty(sum(map(len, pieces)), np.uint8)
        for piece, end in zip(pieces, accumulate(map(len, pieces)), strict=True):
            made[end - len(piece) : end] = piece
        return made


def flattened(state: Any) -> Flat:
    """Copy tensors, numbers and strings, nested in dicts, lists and tuples.

    What is flat in it already is not copied again.
    """
    walk = _Walk()
    with torch.no_grad():
        outline = walk.outline(state)
        parts = [part if isinstance(part, Tensor) else torch.cat(part) for part in walk.parts]
    return Flat(outline, walk.places, parts)


def decoded(data: memoryview) -> Any:
    """Return the state that was encoded; each tensor has memory of its own.

    Raises:
        ValueError, TypeError, LookupError, RuntimeError, struct.error: none was.
    """
    (length,) = _LENGTH.unpack_from(data)
    outline, places, parts = json.loads(bytes(data[_LENGTH.size : _LENGTH.size + length]))
    dtypes = [_DTYPES[name] for name, _ in parts]
    ends = [_LENGTH.size + length]
    for dtype, (_, count) in zip(dtypes, parts, strict=True):
        ends.append(ends[-1] + count * dtype.itemsize)
    if ends.pop() != len(data):
        raise ValueError("its outline tells of other bytes than there are")
    tensors = []
    for part, shape, order in places:
        first, dtype = ends[part], dtypes[part]
        ends[part] += prod(shape) * dtype.itemsize
        tensors.append(_tensor(data[first : ends[part]], dtype, shape, order))
    return _filled(outline, tensors)


@dataclass
class _Walk:
    """What was met on the way through a state."""

    places: list[_Place] = field(default_factory=list)
    parts: list[Tensor | list[Tensor]] = field(default_factory=list)  # flat ones, and lines
    _lines: dict[torch.dtype, tuple[int, list[Tensor]]] = field(default_factory=dict)

    def outline(self, state: Any) -> Any:
        """Return a state as JSON has it."""
        match state:
            case Tensor():
                return {_TENSOR: self._lay(state)}
            case Flat():
                return {_FLAT: [self._take(state), state.outline]}
            case dict() if _is_plain(state):
                return {key: self.outline(value) for key, value in state.items()}
            case dict():
                return {_PAIRS: [[key, self.outline(value)] for key, value in state.items()]}
            case tuple() | list():
                values = [self.outline(value) for value in state]
                return {_TUPLE: values} if isinstance(state, tuple) else values
        return state

    def _lay(self, tensor: Tensor) -> int:
        """Note a tensor; return its number."""
        if tensor.dtype not in self._lines:
            self._lines[tensor.dtype] = len(self.parts), []
            self.parts.append(self._lines[tensor.dtype][1])
        part, lines = self._lines[tensor.dtype]
        order = [] if tensor.is_contiguous() else _order(tensor)
        self.places.append(_Place(part, list(tensor.shape), order))
        laid = tensor.permute(order) if order else tensor
        lines.append(laid.reshape(-1).cpu())
        return len(self.places) - 1

    def _take(self, flat: Flat) -> int:
        """Take over what is flat; return the number of its first tensor."""
        first, parts = len(self.places), len(self.parts)
        self.places += [place._replace(part=place.part + parts) for place in flat.places]
        self.parts += flat.parts
        return first


def _is_plain(state: dict[Any, Any]) -> bool:
    """Whether JSON would give a mapping back as it was, and no tag is mistaken."""
    return all(isinstance(key, str) for key in state) and not _is_tagged(state)


def _is_tagged(outline: dict[Any, Any]) -> bool:
    return len(outline) == 1 and next(iter(outline)) in _TAGS


def _order(tensor: Tensor) -> list[int]:
    """Return a tensor's dimensions, the one that varies slowest in memory first."""
    strides = tensor.stride()
    return sorted(range(tensor.dim()), key=lambda each: -strides[each])


def _tensor(data: memoryview, dtype: torch.dtype, shape: list[int], order: list[int]) -> Tensor:
    if not data:
        return torch.empty(shape, dtype=dtype)
    flat = torch.frombuffer(bytearray(data), dtype=dtype)
    if not order:
        return flat.view(shape)
    laid = flat.view([shape[each] for each in order])
    return laid.permute([order.index(each) for each in range(len(order))])


def _filled(outline: Any, tensors: list[Tensor], first: int = 0) -> Any:
    """Return the state of an outline.

    Args:
        first: the tensor that it calls number 0.
    """
    match outline:
        case dict() if _is_tagged(outline):
            ((tag, value),) = outline.items()
            return _untagged(tag, value, tensors, first)
        case dict():
            return {key: _filled(value, tensors, first) for key, value in outline.items()}
        case list():
            return [_filled(value, tensors, first) for value in outline]
    return outline


def _untagged(tag: str, value: Any, tensors: list[Tensor], first: int) -> Any:
    if tag == _TENSOR:
        return tensors[first + value]
    if tag == _FLAT:
        return _filled(value[1], tensors, first + value[0])
    if tag == _PAIRS:
        return {key: _filled(each, tensors, first) for key, each in value}
    return tuple(_filled(value, tensors, first))
