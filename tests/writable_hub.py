"""A Hub of our own on 127.0.0.1 that can be written to, by both ways of the real client, and that fails when told."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123456789"
READER = "hf_readerreaderreaderreaderreader01"
SIGNATURE = "X-Amz-Signature=do-not-show-this"
_OWNER = "someone"
_FAR = 2_000_000_000
"""Seconds since 1970 at which the token of the store of chunks ends."""


@dataclass
class Fault:
    """What goes wrong with requests whose path holds ``at``.

    A status; ``cut`` before the request was read, or ``lost`` after it was obeyed; or something done before the answer.
    """

    at: str
    answer: int | str | Callable[[], None]
    times: int = 1
    method: str = ""


@dataclass
class Stored:
    """A file of a repository."""

    n_bytes: int
    sha256: str
    git: str
    is_large: bool


@dataclass
class Repo:
    """Branches and their files."""

    private: bool
    branches: dict[str, dict[str, Stored]] = field(default_factory=lambda: {"main": {}})
    n_commits: int = 0


@dataclass
class WritableHub:
    """Repositories, large objects by sha256, faults still to come, and what was asked with which token."""

    address: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    n_received: int = 0
    """Bytes of large files that arrived, whole or not."""

    def put(self, repo: str, path: str, data: bytes) -> None:
        """A file that is there already."""
        self.repos[repo].branches["main"][path] = _stored(data, is_large=False)

    def fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.at in path and fault.method in ("", method):
                fault.times -= 1
                return fault
        return None


def _stored(data: bytes, *, is_large: bool) -> Stored:
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return Stored(n_bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), git=git, is_large=is_large)


Answer = tuple[int, dict[str, Any]]


def _answer(hub: WritableHub, method: str, path: str, token: str, body: bytes) -> Answer:
    if path.startswith("/lfs/"):
        return _large_object(hub, path.removeprefix("/lfs/"), body)
    if path.startswith(("/v1/", "/v2/", "/shards")):
        return _chunks(hub, path, body)
    if token not in (TOKEN, READER):
        return 401, {"error": "Invalid username or password."}
    if path == "/api/whoami-v2":
        return 200, {"name": _OWNER, "type": "user", "orgs": []}
    if path == "/api/validate-yaml":
        return 200, {"errors": [], "warnings": []}
    if path == "/api/repos/create":
        return _create(hub, token, json.loads(body))
    parts = path.removeprefix("/api/models").strip("/").replace(".git/info/lfs/objects", "/lfs").split("/")
    name, rest = "/".join(parts[:2]), parts[2:]
    if name not in hub.repos:
        return 404, {"error": "Repository not found"}
    if method != "GET" and token == READER:
        return 403, {"error": "Forbidden: pass a token with write access"}
    return _of_repo(hub, name, rest, body)


def _create(hub: WritableHub, token: str, asked: dict[str, Any]) -> Answer:
    name = f"{asked['organization']}/{asked['name']}"
    url = {"url": f"{hub.address}/{name}"}
    if asked["organization"] != _OWNER or token == READER:
        return 403, {"error": f"You don't have the rights to create a model under {asked['organization']}"}
    if name in hub.repos:
        return 409, {"error": "You already created this model repo", **url}
    hub.repos[name] = Repo(private=asked.get("visibility") == "private" or bool(asked.get("private")))
    return 200, url


def _of_repo(hub: WritableHub, name: str, rest: list[str], body: bytes) -> Answer:
    repo, what = hub.repos[name], rest[0] if rest else "info"
    if what in ("info", "revision"):
        commit = _commit_of(repo.branches[rest[1] if rest else "main"])
        return 200, {"id": name, "sha": commit, "private": repo.private, "siblings": [], "tags": []}
    if what == "branch":
        repo.branches.setdefault(rest[1], dict(repo.branches["main"]))
        return 200, {}
    if what == "lfs":
        return _batch(hub, json.loads(body))
    if what == "xet-write-token":
        return 200, {"accessToken": "short-lived", "exp": _FAR, "casUrl": hub.address}
    if what == "tree":
        files = repo.branches.get(rest[1]) or next(b for b in repo.branches.values() if _commit_of(b) == rest[1])
        return 200, {"": [_entry(path, file) for path, file in files.items()]}
    files = repo.branches[rest[1]]
    if what == "preupload":
        return 200, {"files": [_mode(asked, files) for asked in json.loads(body)["files"]]}
    assert what == "commit", rest
    return _committed(hub, name, repo, rest[1], body)


def _commit_of(files: dict[str, Stored]) -> str:
    told = json.dumps(sorted((path, file.sha256) for path, file in files.items()))
    return hashlib.sha1(told.encode()).hexdigest()


def _mode(asked: dict[str, Any], files: dict[str, Stored]) -> dict[str, Any]:
    path, there = asked["path"], files.get(asked["path"])
    is_large = path.endswith((".gguf", ".png"))
    oid = (there.sha256 if there.is_large else there.git) if there else None
    return {"path": path, "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False, "oid": oid}


def _entry(path: str, file: Stored) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": file.n_bytes, "oid": file.git}
    if file.is_large:
        entry["lfs"] = {"oid": file.sha256, "size": file.n_bytes, "pointerSize": 134}
    return entry


def _batch(hub: WritableHub, wanted: dict[str, Any]) -> Answer:
    made = []
    for asked in wanted["objects"]:
        oid = asked["oid"]
        upload = {"upload": {"href": f"{hub.address}/lfs/{oid}?{SIGNATURE}", "header": {}}}
        made.append({"oid": oid, "size": asked["size"], **({} if oid in hub.objects else {"actions": upload})})
    return 200, {"transfer": "xet" if "xet" in wanted["transfers"] else "basic", "objects": made}


def _large_object(hub: WritableHub, oid: str, body: bytes) -> Answer:
    hub.n_received += len(body)
    if hashlib.sha256(body).hexdigest() != oid:
        return 400, {"error": "the content is not what was announced"}
    hub.objects[oid] = body
    return 200, {}


def _in_headers(value: dict[str, Any]) -> dict[str, str]:
    """The same of the store of chunks for older clients, which read headers."""
    names = {"casUrl": "X-Xet-Cas-Url", "accessToken": "X-Xet-Access-Token", "exp": "X-Xet-Token-Expiration"}
    return {names[key]: str(value[key]) for key in names if key in value}


def _chunks(hub: WritableHub, path: str, body: bytes) -> Answer:
    """The store of chunks, as far as the client's version 1 of it goes; nothing is known of any chunk."""
    if path.startswith("/v1/xorbs/"):
        hub.n_received += len(body)
        return 200, {"was_inserted": True}
    return (200, {"result": 1}) if path in ("/v1/shards", "/shards") else (404, {})


def _committed(hub: WritableHub, name: str, repo: Repo, revision: str, body: bytes) -> Answer:
    files = repo.branches[revision]
    for line in map(json.loads, body.splitlines()):
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = _stored(base64.b64decode(value["content"]), is_large=False)
        elif line["key"] == "lfsFile":
            file = Stored(n_bytes=value["size"], sha256=value["oid"], git="0" * 40, is_large=True)
            files[value["path"]] = file
    repo.n_commits += 1
    oid = _commit_of(files)
    return 200, {"commitUrl": f"{hub.address}/{name}/commit/{oid}", "commitOid": oid}


@contextmanager
def writable(hub: WritableHub) -> Iterator[None]:
    """Answers at ``hub.address``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while n := int(self.rfile.readline(), 16):
                body += self.rfile.read(n)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _reply(self) -> None:
            fault = hub.fault(self.command, self.path)
            if fault and fault.answer == "cut":
                self.rfile.read(min(1000, int(self.headers.get("Content-Length") or 0)))
                self.close_connection = True
                return
            body, path = self._body(), self.path.split("?")[0]
            hub.asked.append(f"{self.command} {path}")
            if fault and callable(fault.answer):
                fault.answer()
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if fault and isinstance(fault.answer, int):
                status, value = fault.answer, {"error": f"told to fail; you sent {token}"}
            else:
                status, value = _answer(hub, self.command, path, token, body)
            if fault and fault.answer == "lost":
                self.close_connection = True
                return
            data = json.dumps(value.get("", value)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for key, told in _in_headers(value).items():
                self.send_header(key, told)
            if status in (429, 500):
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_HEAD = _reply

        def log_message(self, format: str, *arguments: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
