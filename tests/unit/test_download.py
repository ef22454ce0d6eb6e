"""Downloads of torchvision's weights, and machines that have no network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision.models import get_model

from tunesvc.backbones import build, check_weights, download
from tunesvc.errors import WeightsError
from tunesvc.spec import BackboneSpec


def resnet18(weights: str) -> BackboneSpec:
    return BackboneSpec(name="resnet18", weights=weights)


class Server(ThreadingHTTPServer):
    """Serves /good.pth, breaks off in /cut.pth, and counts what it is asked."""

    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        if self.path == "/none.pth":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"x" * (1000 if self.path == "/good.pth" else 10))

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def url(server: Server, name: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{name}"


def test_many_who_need_a_file_download_it_once(server: Server, tmp_path: Path) -> None:
    """The first fetches, the others wait for it; nobody sees half a file."""
    target = tmp_path / "checkpoints/good.pth"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: download.fetch(url(server, "good.pth"), target), range(4)))
    assert server.asked == ["GET /good.pth"]
    assert target.read_bytes() == b"x" * 1000


@pytest.mark.parametrize("name", ["none.pth", "cut.pth"])
def test_a_failed_download_says_which_file_to_place_where(
    name: str, server: Server, tmp_path: Path
) -> None:
    """And leaves nothing that could be taken for the file."""
    with pytest.raises(WeightsError) as caught:
        download.fetch(url(server, name), tmp_path / name)
    assert name in caught.value.what
    assert f"place the file {name} in {tmp_path}" in caught.value.fix
    assert not list(tmp_path.glob("*.p*[!k]"))


def test_a_check_downloads_nothing(server: Server, tmp_path: Path) -> None:
    """It only asks whether the file could be had."""
    download.check(url(server, "good.pth"), tmp_path / "good.pth")
    assert server.asked == ["HEAD /good.pth"]
    with pytest.raises(WeightsError, match=r"none\.pth"):
        download.check(url(server, "none.pth"), tmp_path / "none.pth")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No way out (a proxy where nobody listens), and torch hub's folder for oneself."""
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub/checkpoints"


@pytest.mark.parametrize("act", [check_weights, lambda s, base: build(s, 2, base=base)])
def test_an_offline_machine_says_which_file_is_missing(
    act: Callable[..., object], offline: Path
) -> None:
    """torchvision's own name of it, and torch hub's folder."""
    with pytest.raises(WeightsError, match=r"resnet18-f37072fd\.pth") as caught:
        act(resnet18("DEFAULT"), base=Path())
    assert str(offline) in caught.value.fix


def test_a_file_placed_by_hand_is_used_if_it_is_the_right_one(offline: Path) -> None:
    """Offline machines get their files this way; the hash in the name guards against mix-ups."""
    offline.mkdir(parents=True)
    torch.save(get_model("resnet18").state_dict(), offline / "resnet18-f37072fd.pth")
    check_weights(resnet18("ResNet18_Weights.IMAGENET1K_V1"), base=Path())
    with pytest.raises(WeightsError, match="not the file that its name says"):
        build(resnet18("IMAGENET1K_V1"), 2, base=Path())
