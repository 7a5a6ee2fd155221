"""Mounts: files by their SHA-256, lists of files, and blobs, which come and go over plain HTTP."""

import base64
import hashlib
import os
import shutil

from grpclib import Status
from modal_proto import api_pb2

from . import ids
from .rpc import fail, missing

INLINE = 4 << 20  # bytes: a larger file does not go in a message
BATCH = 64  # files that a client asks for at once; more are refused, to see that none does


class Mounts:
    """Methods of the control plane (see rpc.py), and what the door puts and gets."""

    def __init__(self, world, url):
        self.world = world
        self.url = url  # of the door
        self.files = world.base / "files"
        self.blobs = world.base / "blobs"
        self.all = {}  # id: [MountFile]
        self.expected = {}  # blob: (bytes, MD5 and SHA-256 in base64)
        self.parts = {}  # blob: {number: data}
        self._by_name = {}
        for folder in (self.files, self.blobs):
            folder.mkdir()

    # Blobs

    def blob(self, name):
        """The file of a blob; its name is one that was given out."""
        if name not in self.expected:
            missing("blob", name)
        return self.blobs / name

    async def BlobCreate(self, request, _call):
        """Where to put so many bytes: `stores` addresses, each for one request or in parts."""
        faults = self.world.faults
        if request.content_length <= 0 or not request.content_md5:
            fail(Status.INVALID_ARGUMENT, "the length and the MD5 of a blob are needed")
        reply = api_pb2.BlobCreateResponse()
        for _ in range(faults.stores):
            name = ids.short("bl")
            self.expected[name] = (request.content_length, request.content_md5,
                                   request.content_sha256_base64)
            reply.blob_ids.append(name)
            url = f"{self.url}/blob/{name}"
            if not faults.part_bytes:
                reply.upload_urls.items.append(f"{url}?signature=secret")
                continue
            count = -(-request.content_length // faults.part_bytes)
            self.parts[name] = {}
            reply.multiparts.items.append(api_pb2.MultiPartUpload(
                part_length=faults.part_bytes, completion_url=f"{url}/complete",
                upload_urls=[f"{url}/part/{number}" for number in range(1, count + 1)]))
        return reply

    async def BlobGet(self, request, _call):
        """Where to get them."""
        if not self.blob(request.blob_id).exists():
            missing("blob", request.blob_id)
        return api_pb2.BlobGetResponse(download_url=f"{self.url}/blob/{request.blob_id}")

    def take(self, name, data):
        """A whole blob has come: its ETag. ValueError: it is another."""
        length, md5, sha256 = self.expected[name]
        digest = hashlib.md5(data)
        if len(data) != length:
            raise ValueError("another length")
        if base64.b64encode(digest.digest()).decode() != md5:
            raise ValueError("The Content-MD5 you specified did not match what we received.")
        if base64.b64encode(hashlib.sha256(data).digest()).decode() != sha256:
            raise ValueError("another SHA-256")
        self.blob(name).write_bytes(data)
        return digest.hexdigest()

    def complete(self, name, text):
        """All parts are there, and named in the text: the ETag of the whole."""
        parts = self.parts[name]
        digests = [hashlib.md5(parts[number]) for number in sorted(parts)]
        named = [f"<PartNumber>{number}</PartNumber>\n<ETag>\"{digest.hexdigest()}\"</ETag>"
                 for number, digest in enumerate(digests, 1)]
        if not all(one in text for one in named) or text.count("<Part>") != len(parts):
            raise ValueError("InvalidPart")
        self.take(name, b"".join(parts[number] for number in sorted(parts)))
        whole = hashlib.md5(b"".join(digest.digest() for digest in digests)).hexdigest()
        return f"{whole}-{len(parts)}"

    # Files

    async def MountBatchedCheckExistence(self, request, _call):
        """Which of them are not here yet."""
        if len(request.sha256_hex_hashes) > BATCH:
            fail(Status.INVALID_ARGUMENT, f"more than {BATCH} hashes")
        wanted = [name for name in request.sha256_hex_hashes if not self.file(name).exists()]
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=wanted)

    def file(self, digest):
        """Where the file of a SHA-256 is."""
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            fail(Status.INVALID_ARGUMENT, f"{digest!r} is no SHA-256")
        return self.files / digest

    async def MountPutFile(self, request, _call):
        """A file, or only the question whether it is here."""
        path = self.file(request.sha256_hex)
        kind = request.WhichOneof("data_oneof")
        if kind == "data" and len(request.data) > INLINE:
            fail(Status.INVALID_ARGUMENT, f"more than {INLINE} bytes: put them into a blob")
        if kind:
            blob = self.blob(request.data_blob_id) if kind == "data_blob_id" else None
            if blob and not blob.exists():
                missing("blob", request.data_blob_id)
            data = blob.read_bytes() if blob else request.data
            if hashlib.sha256(data).hexdigest() != request.sha256_hex:
                fail(Status.INVALID_ARGUMENT, "the data has another SHA-256")
            path.write_bytes(data)
        return api_pb2.MountPutFileResponse(exists=path.exists())

    # Mounts

    async def MountGetOrCreate(self, request, _call):
        """A list of files that are all here."""
        if request.deployment_name and not request.files:
            found = self._by_name.get(request.deployment_name)
            return api_pb2.MountGetOrCreateResponse(
                mount_id=found or missing("mount", request.deployment_name))
        if request.app_id and request.app_id not in self.world.apps:
            missing("app", request.app_id)
        for file in request.files:
            if not file.filename.startswith("/") or ".." in file.filename.split("/"):
                fail(Status.INVALID_ARGUMENT, f"{file.filename!r} is no absolute path")
            if not self.file(file.sha256_hex).exists():
                missing("file", file.filename)
        name = ids.short("mo")
        self.all[name] = list(request.files)
        if request.deployment_name:
            self._by_name[request.deployment_name] = name
        content = "".join(sorted(f"{f.filename}{f.sha256_hex}" for f in request.files))
        checksum = hashlib.sha256(content.encode()).hexdigest()
        return api_pb2.MountGetOrCreateResponse(
            mount_id=name, handle_metadata=api_pb2.MountHandleMetadata(
                content_checksum_sha256_hex=checksum))

    def write(self, name, folder):
        """Copies a mount's files below a folder."""
        for file in self.all[name]:
            path = folder / os.path.normpath("/" + file.filename).lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.files / file.sha256_hex, path)
            path.chmod((file.mode or 0o644) & 0o7777)

    def describe(self):
        """For the state: what was listed, by id."""
        return {name: [{"filename": file.filename, "mode": file.mode, "sha256": file.sha256_hex}
                       for file in files] for name, files in self.all.items()}
