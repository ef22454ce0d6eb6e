"""A backbone in two: what its frozen stages compute, and the rest.

    n         stages of the body, i = 0 … n-1 from input to output; n stands for the head
    reach(v)  of a step v of the forward pass: the latest i whose modules or parameters v hangs on

A cut behind `frozen` stages puts every step with reach < frozen into the prefix. So the pool, the
ReLU or the flattening behind the last frozen stage, which have no parameters, belong to it too:
what a frozen body hands to its head is a short vector.

Why: 2026-11: the forward pass is traced down to the modules of the stages and no deeper. Inside
them anything may happen; only the few lines that tie them together must be traceable, and they are
in all of torchvision's families. Where these lines do something else in training than in
evaluation, there is no cut. A dropout among them falls to the rest, since it draws anew each time.

Why: 2026-11: a backbone from elsewhere must show on two images that its halves do what the whole
does. That costs two forward passes, which ours and torchvision's are spared: tests show it of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import StochasticDepth

from tunesvc.backbones.anatomy import Backbone

_TESTED = ("torchvision.", "tunesvc.")  # packages whose every family the tests cut
_TOLERANCE = 1e-4  # some devices do not add up in the same order every time


@dataclass(frozen=True)
class Cut:
    """The halves of a backbone; they share its submodules and parameters, under the same names.

    The backbone's own module remains the one to be moved, saved, and set to training or
    evaluation; cut it where it is to stay. The prefix is meant for evaluation mode.

    Args:
        prefix: images (B, 3, crop, crop) float → features (B, …) float.
        rest: features → outputs (B, num_outputs) float; it may write into the features.
    """

    prefix: nn.Module
    rest: nn.Module


def cut(backbone: Backbone, frozen: int) -> Cut | None:
    """Split a backbone behind its leading stages.

    Args:
        backbone: on the device where it is to stay.
        frozen: how many stages the prefix holds; with all of them the rest is the head.

    Returns:
        None where nothing is frozen, or where the module cannot be split at this place.
    """
    if frozen == 0:
        return None
    halves = _traced(backbone, frozen)
    if halves is not None and (_is_tested(backbone.module) or _fits(backbone, halves)):
        return halves
    if frozen < len(backbone.stages) or any(map(_is_live, _glue(backbone))):
        return None  # to try a norm in training mode would change its statistics
    (head,) = backbone.head.modules
    halves = Cut(_UpTo(backbone.module, head), _only(backbone.module, head))
    return halves if _fits(backbone, halves) else None


def share(backbone: Backbone, frozen: int) -> float:
    """Return which part of a forward pass's operations the rest does; 1.0 where there is no cut.

    Multiplications of matrices and convolutions count. Nothing is computed where shapes are enough.
    """
    halves = cut(backbone, frozen)
    if halves is None:
        return 1.0
    side = backbone.transform.crop
    before, whole = (_operations(part, side) for part in (halves.prefix, backbone.module))
    return 1 - before / whole


def _operations(module: nn.Module, side: int) -> int:
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    shapes = {name: tensor.detach().to("meta") for name, tensor in tensors.items()}
    try:
        return _counted(module, shapes, torch.empty(1, 3, side, side, device="meta"))
    except RuntimeError:  # what comes next hangs on the numbers
        return _counted(
            module, tensors, torch.zeros(1, 3, side, side).to(next(module.parameters()))
        )


def _counted(module: nn.Module, tensors: Mapping[str, Tensor], images: Tensor) -> int:
    with _modes(module), FlopCounterMode(display=False) as counter, torch.no_grad():
        functional_call(module.eval(), dict(tensors), (images,))
    return int(counter.get_total_flops())


def _traced(backbone: Backbone, frozen: int) -> Cut | None:
    owners = _owners(backbone)
    graph = _graph(backbone.module, owners)
    if graph is None:
        return None
    reach = _reach(backbone, graph, owners)
    early = {node for node in graph.nodes if reach[node] < frozen}
    late = [node for node in graph.nodes if node not in early]
    frontier = {given for node in late for given in node.all_input_nodes if given in early}
    if len(frontier) != 1:
        return None  # several tensors, or a size, pass from half to half
    (last,) = frontier
    prefix, rest = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node in early:
            copies[node] = prefix.node_copy(node, copies.__getitem__)
    prefix.output(copies[last])
    copies = {last: rest.placeholder("features")}
    for node in late:
        copies[node] = rest.node_copy(node, copies.__getitem__)
    return Cut(fx.GraphModule(backbone.module, prefix), fx.GraphModule(backbone.module, rest))


def _owners(backbone: Backbone) -> dict[str, int]:
    """Return the stage, by its index, of each of the stages' modules and parameters."""
    return {
        name: index
        for index, stage in enumerate((*backbone.stages, backbone.head))
        for name in (*stage.modules, *stage.parameters)
    }


class _Tracer(fx.Tracer):
    """Looks into the modules that hold stages, and into no other."""

    def __init__(self, owners: Mapping[str, int]) -> None:
        super().__init__()
        self.owners = owners

    def is_leaf_module(self, _: nn.Module, module_qualified_name: str) -> bool:
        inside = f"{module_qualified_name}."
        is_part = module_qualified_name in self.owners
        return is_part or not any(name.startswith(inside) for name in self.owners)


def _graph(module: nn.Module, owners: Mapping[str, int]) -> fx.Graph | None:
    """Trace in training and in evaluation mode; None where it fails, or they differ."""
    with _modes(module):
        try:
            training = _Tracer(owners).trace(module.train())
            evaluation = _Tracer(owners).trace(module.eval())
        except Exception:  # a foreign forward pass may do to a proxy whatever it likes
            return None
    return evaluation if str(training) == str(evaluation) else None


@contextmanager
def _modes(module: nn.Module) -> Iterator[None]:
    """Put every submodule back into its mode afterwards."""
    before = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, mode in before:
            part.training = mode


def _reach(backbone: Backbone, graph: fx.Graph, owners: Mapping[str, int]) -> dict[fx.Node, int]:
    reach: dict[fx.Node, int] = {}
    for node in graph.nodes:
        own = -1
        if node.op in ("call_module", "get_attr"):
            own = owners.get(node.target, -1)
        if node.op == "call_module" and own < 0:
            is_live = _is_live(backbone.module.get_submodule(node.target))
            own = len(backbone.stages) if is_live else -1
        reach[node] = max([own, *(reach[given] for given in node.all_input_nodes)])
    return reach


def _is_live(module: nn.Module) -> bool:
    """Whether a module without parameters differs between training and evaluation."""
    return any(
        isinstance(part, _NormBase)
        or (isinstance(part, _DropoutNd | StochasticDepth) and part.p > 0)
        for part in module.modules()
    )


def _glue(backbone: Backbone) -> Iterator[nn.Module]:
    """Yield the modules that are in no stage."""
    placed = {
        part
        for stage in (*backbone.stages, backbone.head)
        for name in stage.modules
        for part in backbone.module.get_submodule(name).modules()
    }
    for part in backbone.module.modules():
        if part not in placed and not any(True for _ in part.children()):
            yield part


class _UpTo(nn.Module):
    """Runs a module and returns what reaches its head."""

    def __init__(self, module: nn.Module, head: str) -> None:
        super().__init__()
        self._modules, self._parameters = module._modules, module._parameters
        self._buffers = module._buffers
        self._run: Callable[[Tensor], Tensor] = module.forward
        self._head = head

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, …)."""
        seen: list[Tensor] = []

        def see(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            seen.append(given[0])

        with self.get_submodule(self._head).register_forward_pre_hook(see):
            self._run(images)
        (features,) = seen
        return features


def _only(module: nn.Module, name: str) -> nn.Module:
    """Return a module that does no more than one of its submodules does."""
    graph = fx.Graph()
    graph.output(graph.call_module(name, (graph.placeholder("features"),)))
    return fx.GraphModule(module, graph)


def _is_tested(module: nn.Module) -> bool:
    return type(module).__module__.startswith(_TESTED)


def _fits(backbone: Backbone, halves: Cut) -> bool:
    """Try it on two images: the halves do what the whole does, and the prefix always the same."""
    module, side = backbone.module, backbone.transform.crop
    example = next(module.parameters())
    if example.is_meta:
        return False  # nothing can be tried
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, side, side, generator=generator).to(example)
    with _modes(module), torch.no_grad():
        module.eval()
        try:
            features, whole = halves.prefix(images), module(images)
            again = _in_training(backbone, halves.prefix)(images)
            module.eval()
            return _close(again, features) and _close(halves.rest(features), whole)
        except Exception:  # as in `_graph`
            return False


def _in_training(backbone: Backbone, prefix: nn.Module) -> nn.Module:
    """Set the modes as they are in training while the prefix is frozen."""
    backbone.module.train()
    for stage in backbone.stages:
        for name in stage.modules:
            backbone.module.get_submodule(name).eval()
    return prefix


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, _TOLERANCE, _TOLERANCE)
