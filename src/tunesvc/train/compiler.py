"""A module's forward and backward pass, compiled by torch for batches of one shape.

Why: 2026-11: the head is left out: its dropout is a knob, drawn anew for each trial, and would be
compiled in as a constant. Elsewhere random numbers come from torch's own generators
(`fallback_random`), so that they are the same as in an eager step.

Why: 2026-11: each step has a folder of its own for inductor's files. Who is killed while compiling
leaves a library cut short there, which inductor takes for a whole one ever after ("file too
short"); so a folder that was left unfinished is emptied.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tunesvc import hostcache

_VARIANTS = 64  # of one class's code in a process; dynamo's own 8 are soon used up by many knobs


@dataclass(frozen=True, eq=False)
class Step:
    """A module that is compiled at its first call, but for its heads.

    Args:
        shape: of the batches that it takes.
    """

    module: nn.Module
    shape: torch.Size
    _wrapper: Callable[[Tensor], Tensor]
    _closed: Sequence[tuple[nn.Module, Callable[..., Any]]]  # heads that it calls
    _last: nn.Module | None = None  # the head, if it is called afterwards

    @classmethod
    def of(
        cls, module: nn.Module, shape: torch.Size, heads: Sequence[nn.Module], *, is_graphed: bool
    ) -> Step:
        """Return a module's.

        Args:
            heads: submodules that stay eager.
            is_graphed: as CUDA graphs.
        """
        options: dict[str, Any] = {"fallback_random": True}
        if is_graphed:
            options["triton.cudagraphs"] = True  # what mode="reduce-overhead" stands for
        body = _before(module, heads)
        wrapper = torch.compile(body or module, dynamic=False, options=options)
        if body is not None:
            return cls(module, shape, wrapper, (), heads[0])
        return cls(module, shape, wrapper, [(head, _closed(head)) for head in heads])

    def __call__(self, given: Tensor) -> Tensor:
        """Return the module's outputs for a batch (B, …), as it would.

        To the compiler the heads are closed for that while; nothing of it stays on the module.
        """
        for head, closed in self._closed:
            vars(head)["forward"] = closed
        try:
            outputs = self._wrapper(given)
        finally:
            for head, _ in self._closed:
                del vars(head)["forward"]
        return outputs if self._last is None else self._last(outputs)


def _before(module: nn.Module, heads: Sequence[nn.Module]) -> nn.Module | None:
    """Return what comes before the head of a plain sequence; None: it is none.

    Why: 2026-11: a sequence calls its parts in a loop; where one of them is closed, torch compiles
    none of it.
    """
    parts = list(module.children())
    is_plain = isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
    is_last = len(parts) > 1 and [*heads] == parts[-1:]
    return nn.Sequential(*parts[:-1]) if is_plain and is_last else None


def _closed(head: nn.Module) -> Callable[..., Any]:
    """Return what does a head's forward pass, and is not compiled."""
    closed: Callable[..., Any] = torch.compiler.disable(head.forward)  # type: ignore[no-untyped-call]
    return closed


@contextmanager
def at_work(files: Path) -> Iterator[None]:
    """Compile in the block: in this process, and the backward pass too, so that errors come here.

    Args:
        files: inductor's folder, nobody's to evict while this process lives. Should the block not
            come to its end, the next one empties it.
    """
    hostcache.hold(files)
    mark = files.with_suffix(".unfinished")
    if mark.exists():
        shutil.rmtree(files, ignore_errors=True)
    files.mkdir(parents=True, exist_ok=True)
    mark.touch()
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(files)  # for good: some of it is read later
    with _settings():
        yield
    mark.unlink(missing_ok=True)


@contextmanager
def _settings() -> Iterator[None]:
    import torch._dynamo.config as dynamo  # seconds to import
    import torch._functorch.config as functorch
    import torch._inductor.config as inductor

    dynamo.recompile_limit = max(dynamo.recompile_limit, _VARIANTS)
    with ExitStack() as stack:
        stack.enter_context(functorch.patch(force_non_lazy_backward_lowering=True))
        if not torch.cuda.is_available():  # else every worker starts as many processes as cores
            stack.enter_context(inductor.patch(compile_threads=1))
        yield
