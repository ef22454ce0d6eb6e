"""Where checkpoints lie: a folder, or a bucket of anything that speaks S3.

Why: 2026-11: bytes pass through Optuna's artifact store, which knows S3's ways; listing, sizes and
unfinished uploads it does not offer, so those are asked of the same client. Credentials and the
endpoint are boto3's own affair (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL, …).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from optuna.artifacts import Boto3ArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from tunesvc.errors import StorageError, TuneError, UsageError
from tunesvc.shelf import Folder, Shelf
from tunesvc.storage.address import redact

_NO_SUCH = ("404", "NoSuchKey", "NotFound")
_REASONS = (
    (("NoCredentials", "AccessDenied", "Forbidden", "403", "InvalidAccessKeyId", "SignatureDoes"),
     "give credentials that may list, read, write and delete there (AWS_ACCESS_KEY_ID, "
     "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE)"),
    (("NoSuchBucket",), "create the bucket, or correct TUNESVC_ARTIFACTS"),
    (("EndpointConnection", "ConnectTimeout", "ConnectionClosed", "ProxyConnection"),
     "look at the network, and at AWS_ENDPOINT_URL where the bucket is not Amazon's"),
)  # fmt: skip


def open_artifacts(location: str) -> Shelf:
    """Return the shelf at a folder's path or at s3://bucket/prefix; nothing is asked of it yet.

    Raises:
        UsageError: neither the one nor the other.
        TuneError: it is in S3, and boto3 is not installed.
    """
    scheme, separator, rest = location.partition("://")
    if not separator:
        return Folder(Path(location).expanduser().absolute())
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket or "@" in bucket:
        raise UsageError(
            f"artifacts cannot be kept at {redact(location)}",
            "it is neither a folder nor s3://BUCKET/PREFIX",
            "correct TUNESVC_ARTIFACTS; credentials for S3 go into AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, another endpoint into AWS_ENDPOINT_URL",
        )
    prefix = prefix.strip("/")
    return Bucket(bucket, f"{prefix}/" if prefix else "", _client())


def _client() -> Any:
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise TuneError(
            "artifacts in S3 need boto3", "it is not installed", 'pip install "tunesvc[s3]"'
        ) from error
    patience = Config(connect_timeout=5, retries={"mode": "standard", "max_attempts": 5})
    with _told("s3"):
        return boto3.Session().client(
            "s3", config=patience
        )  # boto3's own session is not for threads


@dataclass(frozen=True)
class Bucket:
    """A shelf in S3: a name is a key below the prefix."""

    bucket: str
    prefix: str  # empty, or with "/" at its end
    client: Any  # boto3's S3 client, which threads may share

    @property
    def location(self) -> str:
        """The address, as TUNESVC_ARTIFACTS has it."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def names(self, prefix: str) -> list[str]:
        """Return all names that begin with the prefix, sorted."""
        entries = self._pages("list_objects_v2", "Contents", Prefix=self.prefix + prefix)
        return sorted(self._name(entry["Key"]) for _, entry in entries)

    def read(self, name: str) -> bytes:
        """Return what was written; FileNotFoundError where nothing has this name."""
        # Not the body's own `with`: that one gives out a stream which checks no length.
        with _told(self.location), closing(self._store.open_reader(self.prefix + name)) as body:
            return body.read()

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Put bytes under a name; S3 shows an object when all of it has arrived."""
        with _told(self.location):
            self._store.write(self.prefix + name, io.BytesIO(data))

    def remove(self, name: str) -> None:
        """Take a name away; one that is absent is no error. A bucket has no folders."""
        with suppress(FileNotFoundError), _told(self.location):
            self._store.remove(self.prefix + name)

    def size(self, name: str) -> int:
        """Return the number of bytes; FileNotFoundError where nothing has this name."""
        with _told(self.location):
            return int(self._call("head_object", name)["ContentLength"])

    def drafts(self, seconds: float) -> dict[str, int]:
        """Return the uploads begun longer ago that never ended; S3 bills them until aborted."""
        found = {}
        uploads = self._pages("list_multipart_uploads", "Uploads", Prefix=self.prefix)
        for page, upload in uploads:
            # S3's own clock, for this machine's may be wrong.
            now = parsedate_to_datetime(page["ResponseMetadata"]["HTTPHeaders"]["date"])
            if upload["Initiated"] < now - timedelta(seconds=seconds):
                key, number = upload["Key"], upload["UploadId"]
                parts = self._pages("list_parts", "Parts", Key=key, UploadId=number)
                found[f"{self._name(key)}#{number}"] = sum(part["Size"] for _, part in parts)
        return found

    def discard(self, draft: str) -> None:
        """Abort an upload; one that is absent is no error."""
        name, _, number = draft.rpartition("#")
        with suppress(FileNotFoundError), _told(self.location):
            self._call("abort_multipart_upload", name, UploadId=number)

    @property
    def _store(self) -> Boto3ArtifactStore:
        return Boto3ArtifactStore(self.bucket, self.client, avoid_buf_copy=True)

    def _name(self, key: str) -> str:
        return key.removeprefix(self.prefix)

    def _call(self, operation: str, name: str, **more: str) -> Any:
        return getattr(self.client, operation)(Bucket=self.bucket, Key=self.prefix + name, **more)

    def _pages(self, operation: str, field: str, **more: str) -> Iterator[tuple[Any, Any]]:
        """Yield every entry of a listing, however long, with the page that it stood on."""
        with _told(self.location):
            pages = self.client.get_paginator(operation).paginate(Bucket=self.bucket, **more)
            for page in pages:
                for entry in page.get(field, ()):
                    yield page, entry


@contextmanager
def _told(location: str) -> Iterator[None]:
    """Turn what S3 refuses into words; an absent object is a FileNotFoundError."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ArtifactNotFound as error:
        raise FileNotFoundError(str(error)) from error
    except (Boto3Error, BotoCoreError, ClientError) as error:
        code = str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
        if code in (*_NO_SUCH, "NoSuchUpload"):
            raise FileNotFoundError(redact(str(error))) from error
        known = f"{type(error).__name__} {code} {error}"
        fixes = (fix for words, fix in _REASONS if any(word in known for word in words))
        raise StorageError(
            f"{location}: S3 does not do what it is asked",
            redact(str(error)),
            next(fixes, "look at the bucket's state and quota; the same command goes on after"),
        ) from error
