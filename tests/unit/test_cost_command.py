"""`tunesvc cost`, as a person and as a script use it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesvc.cli import main

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Say:
    """Run `tunesvc cost`; return exit code, output and errors. No weights are on this machine."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def say(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["cost", *arguments])
        assert not list(tmp_path.iterdir())  # nothing was downloaded
        code = end.value.code
        assert isinstance(code, int)
        return code, *capsys.readouterr()

    return say


def test_a_table_of_what_backbones_cost(say: Say) -> None:
    """What is reckoned, then what is measured; each column is explained below."""
    code, out, _ = say("tiny_resnet", "two_conv_cnn", "--image-size", "16", "--num-classes", "10")
    assert code == 0
    reckoned, measured = out.split("\n\n")
    assert reckoned.split("\n")[0].split()[:3] == ["backbone", "pixels", "params"]
    assert measured.split("\n")[0].split()[:3] == ["backbone", "ms", "p95"]
    for part in (reckoned, measured):
        assert [line.split()[0] for line in part.split("\n")[1:3]] == [
            *("tiny_resnet", "two_conv_cnn")
        ]
    assert "a multiply-add counts as two" in " ".join(reckoned.split())
    assert "float32, threads:" in " ".join(measured.split())


def test_one_that_fails_hides_no_other(say: Say) -> None:
    """A misspelled one, and one that takes no such images; the exit code tells it."""
    code, out, err = say(
        *("tiny_resne", "tiny_resnet", "vit_b_16", "alexnet", "two_conv_cnn"),
        *("--image-size", "17", "--static", "--json"),
    )
    told = json.loads(out)
    assert [each["backbone"] for each in told] == [
        *("tiny_resne", "tiny_resnet", "vit_b_16", "alexnet", "two_conv_cnn")
    ]
    assert ["error" in each for each in told] == [True, False, True, True, False]
    assert (code, told[0]["why"]) == (2, "did you mean 'tiny_resnet'?")
    assert "--image-size" in told[3]["fix"]
    assert told[1]["image_size"] == 17
    assert err.count("error: ") == 3
    code, out, _ = say("tiny_resne")
    assert (code, out) == (2, "")


def test_what_is_static_runs_nothing(say: Say) -> None:
    """Not even a model that takes 1.2 GB."""
    code, out, _ = say("vit_l_16", "--static", "--image-size", "224", "--json")
    (told,) = json.loads(out)
    assert code == 0
    assert told["params_m"] == pytest.approx(304.327, abs=0.001)
    assert told["size_mb"] == pytest.approx(1161.023, rel=0.001)  # `_file_size` of its weights
    assert told["latency_ms"] is None
    assert "ms/N" not in say("tiny_resnet", "--static", "--image-size", "16")[1]


def test_the_json_tells_every_unit(say: Say) -> None:
    """What a script reads of one backbone."""
    _, out, _ = say(
        *("two_conv_cnn", "--image-size", "16", "--num-classes", "7", "--batch-size", "4"),
        *("--images", "10", "--device", "cpu", "--json"),
    )
    (told,) = json.loads(out)
    assert told["backbone"] == "two_conv_cnn"
    assert (told["num_outputs"], told["batch_size"], told["epoch_images"]) == (7, 4, 10)
    assert told["device"] == "cpu"
    assert all(
        told[name] > 0
        for name in ("params_m", "flops_g", "size_mb", "latency_ms", "images_per_second")
    )
