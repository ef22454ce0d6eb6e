"""Shelves hold named bytes, whole or absent, in a folder and in S3 alike."""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesvc import checkpoint, places
from tunesvc.checkpoint import Mark
from tunesvc.errors import StorageError, TuneError, UsageError
from tunesvc.shelf import Folder, Shelf, clear, whole
from tunesvc.storage.artifacts import open_artifacts

SECRET = "verysecret"
HOUR = 3600.0


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of a server that speaks S3, with a bucket `models`."""
    server = pytest.importorskip("moto.server", reason="needs: pip install 'moto[server]' boto3")
    boto3 = pytest.importorskip("boto3", reason="needs: pip install boto3")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer("127.0.0.1", 0)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="models")
        yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(params=["folder", "s3"])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """A new shelf of either kind."""
    if request.param == "folder":
        return open_artifacts(str(tmp_path / "artifacts"))
    request.getfixturevalue("s3")
    return open_artifacts(f"s3://models/{tmp_path.name}-{os.urandom(4).hex()}")


def test_what_is_written_is_read(shelf: Shelf) -> None:
    """Bytes and views come back, also over what was there, and their size is known."""
    shelf.write("s/t/one", b"first")
    shelf.write("s/t/one", memoryview(bytearray(b"second one")))
    assert shelf.read("s/t/one") == b"second one"
    assert shelf.size("s/t/one") == 10


def test_large_bytes(shelf: Shelf) -> None:
    """What S3 takes in several parts is one thing on the shelf."""
    data = os.urandom(2**20) * 20
    shelf.write("s/large", data)
    assert shelf.size("s/large") == len(data)
    assert shelf.read("s/large") == data
    assert shelf.drafts(-HOUR) == {}


def test_absent(shelf: Shelf) -> None:
    """An absent name is no name, cannot be read, and may be removed."""
    assert shelf.names("s/") == []
    for ask in (shelf.read, shelf.size):
        with pytest.raises(FileNotFoundError):
            ask("s/t/none")
    shelf.remove("s/t/none")
    assert shelf.drafts(0) == {}


def test_names_are_those_of_the_prefix(shelf: Shelf) -> None:
    """Sorted, and a prefix that ends in "/" never takes in a longer folder's names."""
    written = ["s/trial-000010/a", "s/trial-00001/b", "s/trial-00001/a", "s/owner", "sa/x", "root"]
    for name in written:
        shelf.write(name, b"")
    assert shelf.names("") == sorted(written)
    assert shelf.names("s/") == sorted(name for name in written if name.startswith("s/"))
    assert shelf.names("s/trial-00001/") == ["s/trial-00001/a", "s/trial-00001/b"]
    assert shelf.names("s/tri") == sorted(name for name in written if name.startswith("s/tri"))
    assert shelf.names("nothing/") == []


def test_clear(shelf: Shelf) -> None:
    """All below a prefix goes, and nothing else."""
    for name in ("s/owner.json", "s/trial/a", "s/trial/b", "sa/x"):
        shelf.write(name, b"1")
    clear(shelf, "s/")
    assert shelf.names("") == ["sa/x"]


def test_clearing_that_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is killed while clearing a study leaves the note whose the rest is."""
    shelf = Folder(tmp_path)
    for name in ("s/owner.json", "s/trial/a", "s/trial/b"):
        shelf.write(name, b"1")
    remove, removed = Folder.remove, []

    def remove_two(self: Folder, name: str) -> None:
        if len(removed) == 2:
            raise KeyboardInterrupt
        removed.append(name)
        remove(self, name)

    monkeypatch.setattr(Folder, "remove", remove_two)
    with pytest.raises(KeyboardInterrupt):
        clear(shelf, "s/")
    assert shelf.names("") == ["s/owner.json"]


def test_checkpoints_on_either_shelf(shelf: Shelf) -> None:
    """Saved, the older ones dropped, and the one before the newest as the fall-back."""
    for epoch in range(1, 5):
        checkpoint.save({"epoch": epoch}, shelf, "s/t", Mark(7, epoch, 0))
    names = shelf.names("s/t/")
    assert len(names) == 2
    assert checkpoint.load(shelf, "s/t") == {"epoch": 4}
    shelf.write(names[1], shelf.read(names[1])[:-1])
    assert checkpoint.load(shelf, "s/t") == {"epoch": 3}


def test_more_names_than_a_page(s3: str) -> None:
    """S3 lists a thousand names at a time; all of them are returned."""
    shelf = open_artifacts("s3://models/many")
    names = [f"s/{number:04d}" for number in range(1003)]
    for name in names:
        shelf.write(name, b"")
    assert shelf.names("s/") == names


def test_an_upload_that_never_ended_is_a_draft(s3: str) -> None:
    """It has no name, its bytes are told, an old one is found and can be discarded.

    This server says of every upload that it began in 2010.
    """
    shelf = open_artifacts("s3://models/torn")
    client = shelf.client  # type: ignore[attr-defined]
    upload = client.create_multipart_upload(Bucket="models", Key="torn/s/t/x")["UploadId"]
    part = {"Bucket": "models", "Key": "torn/s/t/x", "UploadId": upload, "PartNumber": 1}
    client.upload_part(**part, Body=b"12345")
    assert shelf.names("") == []
    assert shelf.drafts(1e9) == {}
    (draft,) = found = shelf.drafts(HOUR)
    assert draft.startswith("s/t/x")
    assert found[draft] == 5
    shelf.discard(draft)
    shelf.discard(draft)
    assert shelf.drafts(-HOUR) == {}


def test_an_absent_bucket_is_explained(s3: str) -> None:
    """What S3 refuses is an error with a cure, and no credentials in it."""
    shelf = open_artifacts("s3://nobodys/x")
    for ask in (lambda: shelf.names(""), lambda: shelf.write("a", b"")):
        with pytest.raises(StorageError, match="S3 does not") as caught:
            ask()
        assert "NoSuchBucket" in caught.value.why
        assert "create the bucket" in caught.value.fix
        assert SECRET not in str(caught.value)


def test_an_unreachable_endpoint_is_explained(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is down is an error that names the variable, without the URL's password."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:{SECRET}@127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StorageError) as caught:
        open_artifacts("s3://models/x").names("")
    assert "AWS_ENDPOINT_URL" in caught.value.fix
    assert SECRET not in str(caught.value)


def test_without_credentials(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing credentials are told, with where to put them."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nowhere")
    with pytest.raises(StorageError, match="AWS_ACCESS_KEY_ID"):
        open_artifacts("s3://models/x").write("a", b"")


def test_without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 without its library is an error that says what to install."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(TuneError, match="tunesvc\\[s3\\]"):
        open_artifacts("s3://models/x")


@pytest.mark.parametrize(
    "location", ["gs://models/x", "s3://", "s3:///x", f"s3://me:{SECRET}@models/x"]
)
def test_other_places_are_refused(location: str) -> None:
    """Neither a folder nor a bucket: an error of usage, which repeats no password."""
    with pytest.raises(UsageError, match="TUNESVC_ARTIFACTS") as caught:
        open_artifacts(location)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("location", ["s3://models/x", "s3://models", "s3://models/x/"])
def test_the_location_of_a_bucket(location: str, s3: str) -> None:
    """The location is what was given, whatever stands at its end."""
    assert open_artifacts(location).location == location.rstrip("/")


def test_where_artifacts_lie(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the home, or where TUNESVC_ARTIFACTS says: a folder, or an address as it is."""
    assert places.artifacts() == str(home / "artifacts")
    monkeypatch.setenv("TUNESVC_ARTIFACTS", "s3://models/x")
    assert places.artifacts() == "s3://models/x"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNESVC_ARTIFACTS", "here")
    assert places.artifacts() == str(tmp_path / "here")
    assert open_artifacts(places.artifacts()).location == str(tmp_path / "here")


def test_empty_folders_vanish(tmp_path: Path) -> None:
    """With its last file a folder goes, and those above it; the shelf's own stays."""
    shelf = Folder(tmp_path)
    shelf.write("s/t/a", b"")
    shelf.write("s/u/a", b"")
    shelf.remove("s/t/a")
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["u"]
    shelf.remove("s/u/a")
    assert list(tmp_path.iterdir()) == []


def test_writing_where_another_tidies(tmp_path: Path) -> None:
    """Folders that others remove, because they are empty, are made again."""
    shelf, done = Folder(tmp_path), threading.Event()

    def tidy() -> None:
        while not done.is_set():
            shelf.write("s/t/other", b"x")
            shelf.remove("s/t/other")

    other = threading.Thread(target=tidy)
    other.start()
    try:
        for number in range(300):
            shelf.write(f"s/t/{number}", b"x")
            shelf.remove(f"s/t/{number}")
    finally:
        done.set()
        other.join()


def test_drafts_have_no_name_until_they_are_whole(tmp_path: Path) -> None:
    """A file under way is a draft; one that was left an hour ago is told and can be discarded."""
    shelf = Folder(tmp_path)
    with whole(tmp_path / "s" / "a") as file:
        file.write(b"half")
        file.flush()
        assert shelf.names("") == []
        assert shelf.drafts(HOUR) == {}
        (draft,) = found = shelf.drafts(-HOUR)
        assert draft.startswith("s/")
        assert found[draft] == 4
    assert shelf.names("") == ["s/a"]
    assert shelf.drafts(-HOUR) == {}
    left = tmp_path / draft
    left.write_bytes(b"123")
    os.utime(left, (time.time() - HOUR - 60,) * 2)
    assert shelf.drafts(HOUR) == {draft: 3}
    shelf.discard(draft)
    assert not left.exists()


def test_an_error_while_writing_leaves_nothing(tmp_path: Path) -> None:
    """What fails half way leaves the old bytes and no draft."""
    Folder(tmp_path).write("a", b"old")

    def write() -> None:
        with whole(tmp_path / "a") as file:
            file.write(b"new")
            raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """Where a file stands in the folder's place, the error is the user's, not a traceback."""
    (tmp_path / "taken").write_text("")
    shelf = Folder(tmp_path / "taken")
    with pytest.raises(StorageError, match="cannot be written"):
        shelf.write("a", b"")
    with pytest.raises(StorageError, match="cannot be read"):
        shelf.read("a")


def test_an_unreadable_folder_is_not_an_empty_one(tmp_path: Path) -> None:
    """A folder that may not be looked into is an error: its trials would begin again."""
    Folder(tmp_path).write("s/t/a", b"")
    (tmp_path / "s").chmod(0)
    code = (
        "import sys; from pathlib import Path; from tunesvc.shelf import Folder\n"
        "Folder(Path(sys.argv[1])).names('s/t/')"
    )
    try:
        done = subprocess.run(_as_nobody(tmp_path, code), capture_output=True, text=True)
    finally:
        (tmp_path / "s").chmod(0o755)
    assert "cannot be listed" in done.stderr


def _as_nobody(folder: Path, code: str) -> list[str]:
    """Return a command that root's privileges do not help."""
    command = [sys.executable, "-c", code, str(folder)]
    if os.geteuid() != 0:
        return command
    if not shutil.which("setpriv"):
        pytest.skip("root reads everything, and there is no setpriv")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def _full(shelf: Folder) -> Any:
    """Save a small checkpoint and one that does not fit; return the error."""
    import torch

    checkpoint.save({"epoch": 1}, shelf, "s/t", Mark(1, 1, 0))
    checkpoint.save({"epoch": 2}, shelf, "s/t", Mark(1, 2, 0))
    state = {"epoch": 3, "w": torch.zeros(2**20)}
    with pytest.raises(StorageError, match="cannot be written") as caught:
        checkpoint.save(state, shelf, "s/t", Mark(1, 3, 0))
    assert "free space" in caught.value.fix
    assert len(list((shelf.root / "s/t").iterdir())) == 2  # no draft takes up the room
    assert checkpoint.load(shelf, "s/t") == {"epoch": 2}
    return caught.value


def test_a_full_disk_is_explained(small_disk: Path) -> None:
    """On a full disk saving is a StorageError with a cure, and both older checkpoints stay."""
    assert os.strerror(errno.ENOSPC) in _full(Folder(small_disk)).why


def test_a_file_too_large_is_explained(tmp_path: Path) -> None:
    """At a limit of this process (ulimit -f) it is the same, without root's help."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, before[1]))
    try:
        error = _full(Folder(tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.strerror(errno.EFBIG) in error.why
