"""Weights: names, files that fit, older files, other sizes. (test_weights_refused.py: the rest.)"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import VisionTransformer, get_model

from tunesvc.backbones import Backbone, build, check_weights
from tunesvc.backbones.weights import Source, assign, read
from tunesvc.errors import UnknownNameError, WeightsError
from tunesvc.spec import BackboneSpec

SMALL = "shufflenet_v2_x0_5"
SHARED = Path(__file__).parents[2] / "../shared/weights"
State = dict[str, Tensor]


def spec(weights: str | Path, name: str = SMALL, **kwargs: Any) -> BackboneSpec:
    return BackboneSpec(name=name, weights=str(weights), kwargs=kwargs)


@pytest.fixture(scope="module")
def trained() -> State:
    """Stand in for pretrained weights: a 1000-class model whose every number is known."""
    torch.manual_seed(7)
    state: State = get_model(SMALL).state_dict()
    return {key: value + 0.5 if value.ndim == 1 else value for key, value in state.items()}


def assert_body_is(backbone: Backbone, state: State) -> None:
    head = set(backbone.head.parameters)
    body = {k: v for k, v in backbone.module.state_dict().items() if k not in head}
    assert body.keys() == {key for key in state if not key.startswith("fc.")}
    for key, value in body.items():
        assert torch.equal(value, state[key].to(value.dtype)), key


def no_head(state: State) -> State:
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


# --- files that fit

WRITERS: dict[str, tuple[str, Callable[[State, Path], object]]] = {
    "plain": ("a.pth", torch.save),
    "old format": ("a.pt", lambda s, p: torch.save(s, p, _use_new_zipfile_serialization=False)),
    "checkpoint": ("a.th", lambda s, p: torch.save({"state_dict": s, "epoch": 3}, p)),
    "model": ("a.pth", lambda s, p: torch.save({"model": s}, p)),
    "parallel": ("a.pth", lambda s, p: torch.save({f"module.{k}": v for k, v in s.items()}, p)),
    "safetensors": ("a.safetensors", save_file),
    "no head": ("a.pth", lambda s, p: torch.save(no_head(s), p)),
}


@pytest.mark.parametrize("form", WRITERS)
def test_every_usual_form_of_a_weights_file_loads(
    form: str, trained: State, tmp_path: Path
) -> None:
    """The body is the file's, the head is new and of the right size, the hash the file's."""
    name, write = WRITERS[form]
    write(trained, tmp_path / name)
    backbone = build(spec(name), 3, base=tmp_path)
    assert_body_is(backbone, trained)
    assert backbone.module.get_parameter("fc.1.weight").shape == (3, 1024)
    assert backbone.weights_sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert all(parameter.requires_grad for parameter in backbone.module.parameters())


def test_half_precision_weights_become_single(trained: State, tmp_path: Path) -> None:
    """A float16 file gives a float32 model."""
    halves = {k: v.half() if v.is_floating_point() else v for k, v in trained.items()}
    torch.save(halves, tmp_path / "a.pth")
    backbone = build(spec("a.pth"), 3, base=tmp_path)
    assert {p.dtype for p in backbone.module.parameters()} == {torch.float32}
    assert_body_is(backbone, halves)


def test_missing_batch_counters_are_no_misfit(trained: State, tmp_path: Path) -> None:
    """Files older than PyTorch 0.4.1 have no num_batches_tracked."""
    torch.save({k: v for k, v in trained.items() if "num_batches" not in k}, tmp_path / "a.pth")
    assert build(spec("a.pth"), 3, base=tmp_path).weights_sha256


def test_a_folder_of_pretrain_is_a_path_too(trained: State, tmp_path: Path) -> None:
    """`weights.safetensors` in it is meant."""
    (tmp_path / "run").mkdir()
    save_file(trained, tmp_path / "run/weights.safetensors")
    assert_body_is(build(spec("./run"), 3, base=tmp_path), trained)


def test_a_pretrained_head_is_never_used(trained: State, tmp_path: Path) -> None:
    """Not even where the number of classes is the same: they are other classes."""
    torch.save(trained, tmp_path / "a.pth")
    head = build(spec("a.pth"), 1000, base=tmp_path).module.get_parameter("fc.1.weight")
    assert not torch.equal(head, trained["fc.weight"])


def test_from_scratch_needs_no_file(tmp_path: Path) -> None:
    """`pretrained=False` neither reads nor misses it."""
    assert build(spec("gone.pth"), 3, base=tmp_path, pretrained=False).weights_sha256 == ""


def test_training_one_model_leaves_the_next_untouched(trained: State, tmp_path: Path) -> None:
    """The tensors of a file are kept between builds, and copied into each model."""
    torch.save(trained, tmp_path / "a.pth")
    first = build(spec("a.pth"), 3, base=tmp_path).module
    with torch.no_grad():
        for tensor in [*first.parameters(), *first.buffers()]:
            tensor.zero_()
    assert_body_is(build(spec("a.pth"), 3, base=tmp_path), trained)


def test_a_file_is_read_once_until_it_changes(trained: State, tmp_path: Path) -> None:
    """The second build of a warm process shares the first one's tensors; a new file is read."""
    source = Source(tmp_path / "a.pth")
    torch.save(trained, source.path)
    first = read(source, spec("a.pth"))
    assert read(source, spec("a.pth")).tensors is first.tensors
    torch.save({**trained, "conv1.0.weight": trained["conv1.0.weight"] + 1}, source.path)
    os.utime(source.path, ns=(1, 1))
    assert read(source, spec("a.pth")).sha256 != first.sha256


# --- older files, other sizes, other normalisations


def tiny_vit(image_size: int) -> VisionTransformer:
    torch.manual_seed(image_size)
    return VisionTransformer(image_size, 8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16)


def test_vit_positions_are_interpolated_to_the_images(tmp_path: Path) -> None:
    """Weights of 32-pixel images (4×4 patches) serve 16 pixels (2×2); the class token stays."""
    source, small = Source(tmp_path / "a.pth"), tiny_vit(16)
    state = tiny_vit(32).state_dict()
    torch.save(state, source.path)
    assign(small, read(source, spec("a.pth")), "heads.head")
    found = small.encoder.pos_embedding
    assert found.shape == (1, 5, 8)
    assert torch.equal(found[:, 0], state["encoder.pos_embedding"][:, 0])
    corners = [1, 4, 13, 16]  # with aligned corners, 4×4 → 2×2 keeps exactly these
    assert torch.allclose(found[:, 1:], state["encoder.pos_embedding"][:, corners])


@pytest.mark.parametrize("old", ["linear_1", "linear_2"])
def test_vit_files_of_older_torchvisions_load(old: str, tmp_path: Path) -> None:
    """They call the layers of the MLP linear_1 and linear_2."""
    source, model, state = Source(tmp_path / "a.pth"), tiny_vit(16), tiny_vit(32).state_dict()
    new = ".mlp.0." if old == "linear_1" else ".mlp.3."
    torch.save({k.replace(new, f".mlp.{old}."): v for k, v in state.items()}, source.path)
    assign(model, read(source, spec("a.pth")), "heads.head")
    key = f"encoder.layers.encoder_layer_0{new}weight"
    assert torch.equal(model.get_parameter(key), state[key])


def test_densenet_files_of_older_torchvisions_load(tmp_path: Path) -> None:
    """They write norm.1 for norm1 and conv.2 for conv2."""
    state = get_model("densenet121").state_dict()
    old = {key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): v
           for key, v in state.items()}  # fmt: skip
    assert old.keys() != state.keys()
    torch.save(old, tmp_path / "a.pth")
    module = build(spec("a.pth", "densenet121"), 2, base=tmp_path).module
    key = "features.denseblock1.denselayer1.conv2.weight"
    assert torch.equal(module.get_parameter(key), state[key])


def test_mnasnet_files_load(tmp_path: Path) -> None:
    """Its module refuses a state that does not say which version of it wrote it."""
    torch.save(dict(get_model("mnasnet0_5").state_dict()), tmp_path / "a.pth")
    assert build(spec("a.pth", "mnasnet0_5"), 2, base=tmp_path).weights_sha256


@pytest.mark.parametrize("weights", ["none", "a.pth"])
def test_googlenet_undoes_the_normalisation_only_for_its_weights(
    weights: str, tmp_path: Path
) -> None:
    """They were ported from TensorFlow; their auxiliary heads are left out."""
    torch.save(get_model("googlenet", init_weights=False).state_dict(), tmp_path / "a.pth")
    module: Any = build(spec(weights, "googlenet"), 2, base=tmp_path).module
    assert module.transform_input is (weights != "none")
    assert isinstance(module.train()(torch.randn(2, 3, 64, 64)), Tensor)


# --- names


@pytest.mark.parametrize(
    ("name", "weights", "told"),
    [
        ("resnet18", "IMAGENET1K_V9", "did you mean 'IMAGENET1K_V1'"),
        ("tiny_resnet", "IMAGENET", "CIFAR10_10K"),
        ("two_conv_cnn", "DEFAULT", "`weights: none`"),
    ],
)
def test_unknown_weights_are_told_the_known_ones(name: str, weights: str, told: str) -> None:
    """And that `none` or a path would do."""
    with pytest.raises(UnknownNameError, match=told) as caught:
        check_weights(spec(weights, name), base=Path())
    assert "path" in caught.value.fix


def test_no_weights_are_always_there() -> None:
    """`none` has nothing to check."""
    check_weights(spec("none"), base=Path())


# --- real ImageNet weights


@pytest.mark.parametrize(
    ("file", "name", "kwargs"),
    [
        ("mobilenet_v2-tf2ptq-82f7e551.pth", "mobilenet_v2", {}),
        ("mobilenet_v2_w035-keras-features-96ed9f53.pth", "mobilenet_v2", {"width_mult": 0.35}),
        ("squeezenet1_0-deepcompression-97777cff.pth", "squeezenet1_0", {}),
        ("squeezenet1_1-caffe-features-49c38fe8.pth", "squeezenet1_1", {}),
    ],
)
def test_real_weights_give_the_features_of_torchvisions_own_model(
    file: str, name: str, kwargs: dict[str, Any]
) -> None:
    """With or without a head in the file; the narrow model needs its `kwargs`."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared/weights")
    backbone = build(spec(SHARED / file, name, **kwargs), 2, base=Path())
    theirs = get_model(name, **kwargs)
    theirs.load_state_dict(torch.load(SHARED / file, weights_only=True), strict=False)
    images, ours = torch.randn(1, 3, 64, 64), backbone.module.eval()
    with torch.no_grad():
        assert torch.equal(ours.get_submodule("features")(images), theirs.eval().features(images))


def test_the_narrow_weights_do_not_fit_the_wide_model() -> None:
    """The fix names `kwargs`, such as width_mult."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared/weights")
    file = SHARED / "mobilenet_v2_w035-keras-features-96ed9f53.pth"
    with pytest.raises(WeightsError, match="width_mult"):
        build(spec(file, "mobilenet_v2"), 2, base=Path())
