"""A Hub of our own on 127.0.0.1, which answers the real client as huggingface.co does, parts of files too."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_PIECE_BYTES = 1 << 20


@dataclass
class Hub:
    """A Hub's repositories (name → file → bytes, or where they lie), what it was asked, by whom, what it sent."""

    address: str = ""
    repos: dict[str, dict[str, bytes | Path]] = field(default_factory=dict)
    knows_parts: bool = True
    says: dict[str, int] = field(default_factory=dict)
    """Name of a file → bytes that it is said to have, where that is not true."""
    asked: list[str] = field(default_factory=list)
    tokens: dict[str, str | None] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)
    """Name of a file → bytes of it that went out, of all repositories."""

    def forget(self) -> None:
        """Nothing was asked and nothing sent."""
        self.asked.clear()
        self.sent.clear()


def _size(content: bytes | Path) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)


def _etag(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _answer(hub: Hub, path: str, token: str | None) -> tuple[int, dict[str, str], bytes | Path]:
    """Status, headers and body."""
    hub.asked.append(path)
    hub.tokens[path] = token
    is_api = path.startswith("/api/")
    parts = path.split("?")[0].removeprefix("/api").removeprefix("/models").strip("/").split("/")
    at = 3 if parts[0] == "datasets" else 2
    repo, rest = "/".join(parts[:at]), parts[at:]
    if "gated" in repo and token != "Bearer hf_good":
        return 403, {"X-Error-Code": "GatedRepo"}, b"{}"
    if repo not in hub.repos:
        return 401, {"X-Error-Code": "RepoNotFound"}, b"{}"
    if len(rest) > 1 and rest[1] not in ("main", COMMIT):
        return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
    files = hub.repos[repo]
    if is_api and rest[:1] == ["tree"]:
        tree = [{"type": "file", "path": name, "size": _size(data), "oid": "0" * 40} for name, data in files.items()]
        return 200, {"Content-Type": "application/json"}, json.dumps(tree).encode()
    if is_api:
        siblings = [{"rfilename": n, "size": hub.says.get(n) or _size(data)} for n, data in files.items()]
        info = {"id": repo, "sha": COMMIT, "siblings": siblings, "tags": []}
        return 200, {"Content-Type": "application/json"}, json.dumps(info).encode()
    name = "/".join(rest[2:])
    if name not in files:
        return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
    return 200, {"ETag": f'"{_etag(files[name])}"', "X-Repo-Commit": COMMIT, "X-File": name}, files[name]


def _pieces(content: bytes | Path, first: int, last: int) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content[first : last + 1]
        return
    with content.open("rb") as file:
        file.seek(first)
        while first <= last and (piece := file.read(min(_PIECE_BYTES, last + 1 - first))):
            first += len(piece)
            yield piece


@contextmanager
def serving(hub: Hub) -> Iterator[None]:
    """Answers at ``hub.address``."""

    class Handler(BaseHTTPRequestHandler):
        def _reply(self, *, with_body: bool) -> None:
            status, headers, body = _answer(hub, self.path, self.headers.get("Authorization"))
            name, n_bytes = headers.pop("X-File", ""), _size(body)
            first, last, wanted = 0, n_bytes - 1, self.headers.get("Range", "")
            if name and wanted and hub.knows_parts:
                start, _, end = wanted.removeprefix("bytes=").partition("-")
                first, last = int(start), min(last, int(end or last))
                status, headers["Content-Range"] = 206, f"bytes {first}-{last}/{n_bytes}"
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(last + 1 - first)}.items():
                self.send_header(key, value)
            self.end_headers()
            for piece in _pieces(body, first, last) if with_body else ():
                self.wfile.write(piece)
                hub.sent[name] += len(piece)

        def do_HEAD(self) -> None:
            self._reply(with_body=False)

        def do_GET(self) -> None:
            try:
                self._reply(with_body=True)
            except ConnectionError:  # the client has read enough
                self.close_connection = True

        def log_message(self, format: str, *arguments: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
