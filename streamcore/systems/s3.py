"""S3 and what speaks like it: the requests to one bucket.

Every method blocks, and is for worker threads. What raises what is said in :mod:`.s3_client`, what
addresses look like in :mod:`.s3_address`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from streamcore.systems.s3_address import Address
from streamcore.systems.s3_client import Changed, Missing, submit, tried


@dataclass(frozen=True, slots=True)
class Listed:
    """An object as it is now: ``size`` in bytes, ``etag`` as the server writes it, with its quotes."""

    key: str
    size: int
    etag: str


class Part(NamedTuple):
    """A part of an upload that the server has."""

    upload: str
    etag: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of a server; nothing is opened before the first request."""

    where: Address

    def find(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[Listed]:
        """The objects whose keys begin with *prefix*, in the order of their keys' bytes, behind *after*.

        All of them, or the first *limit*.
        """
        found: list[Listed] = []
        more: dict[str, object] = {"StartAfter": after} if after else {}
        while limit is None or len(found) < limit:
            size = 1000 if limit is None else min(1000, limit - len(found))
            page = self._call("list_objects_v2", prefix, Prefix=prefix, MaxKeys=size, **more)
            found += [Listed(o["Key"], o["Size"], o["ETag"]) for o in page.get("Contents", ())]
            if not page.get("NextContinuationToken"):
                break
            more = {"ContinuationToken": page["NextContinuationToken"]}
        return found

    def look(self, key: str) -> Listed | None:
        """The object as it is now; None when there is none."""
        try:
            head = self._call("head_object", key, Key=key)
        except Missing:
            return None
        return Listed(key, head["ContentLength"], head["ETag"])

    def read(self, key: str) -> bytes:
        """The whole object, which should be small."""
        return self._body(key, {}, None)()

    def begin_range(self, of: Listed, start: int, end: int) -> Callable[[], bytes]:
        """Ask for bytes ``[start, end)`` of the object as it was listed; what is returned waits for them.

        It raises Changed when the object is another one by now.
        """
        return self._body(of.key, {"Range": f"bytes={start}-{end - 1}", "IfMatch": of.etag}, of.etag)

    def create(self, key: str, content: bytes) -> bool:
        """Make the object if there is none, in one atomic step; False when there is one.

        That may be ours: so it looks when a reply was lost and the request was sent again.
        """
        try:
            self._call("put_object", key, Key=key, Body=content, IfNoneMatch="*")
        except Changed:
            return False
        return True

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there counts as removed."""
        self._call("delete_object", key, Key=key)

    # ------------------------------------------------------------ uploads in parts

    async def begin_upload(self, key: str, data: bytes) -> Part:
        """Begin an object in parts, which nobody sees, with its first one. For :func:`submit`."""
        begun = await self._request("create_multipart_upload", key, Key=key)
        return await self.send_part(key, begun["UploadId"], 1, data)

    async def send_part(self, key: str, upload: str, number: int, data: bytes) -> Part:
        """Send part *number*, from 1 on; all but the last one have 5 MiB or more. For :func:`submit`."""
        where = {"Key": key, "UploadId": upload, "PartNumber": number}
        sent = await self._request("upload_part", key, **where, Body=data)
        return Part(upload, sent["ETag"])

    async def complete(self, key: str, upload: str, etags: Sequence[str]) -> None:
        """Make the object of its parts; completed already is completed. For :func:`submit`.

        Missing when there is neither the upload nor the object.
        """
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        arguments = {"Key": key, "UploadId": upload, "MultipartUpload": {"Parts": parts}}
        try:
            await self._request("complete_multipart_upload", key, **arguments)
        except Missing:
            await self._request("head_object", key, Key=key)

    def abort(self, key: str, upload: str) -> None:
        """Take the parts of an upload away; one that is over counts as taken away."""
        with suppress(Missing):
            self._call("abort_multipart_upload", key, Key=key, UploadId=upload)

    def uploads(self, prefix: str) -> list[tuple[str, str]]:
        """Keys that begin with *prefix* and ids of all uploads that were begun and are not over."""
        found: list[tuple[str, str]] = []
        more: dict[str, object] = {}
        while True:
            page = self._call("list_multipart_uploads", prefix, Prefix=prefix, **more)
            found += [(upload["Key"], upload["UploadId"]) for upload in page.get("Uploads", ())]
            if not page.get("IsTruncated"):
                return found
            more = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    # ------------------------------------------------------------ requests

    def _body(self, key: str, wanted: dict[str, str], etag: str | None) -> Callable[[], bytes]:
        async def get(client: Any) -> bytes:
            answer = await client.get_object(Bucket=self.where.bucket, Key=key, **wanted)
            async with answer["Body"] as stream:
                data: bytes = await stream.read()
            if etag not in (None, answer["ETag"]):  # a server that does not know If-Match
                raise Changed("the object is another one by now", where=self.where.uri(key))
            return data

        return submit(tried(self.where, key, get))

    def _call(self, operation: str, key: str, **arguments: object) -> Any:
        return submit(self._request(operation, key, **arguments))()

    async def _request(self, operation: str, key: str, **arguments: object) -> Any:
        async def send(client: Any) -> Any:
            return await getattr(client, operation)(Bucket=self.where.bucket, **arguments)

        return await tried(self.where, key, send)
