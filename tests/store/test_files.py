"""Files: replaced in one move, hashed once, locked, and their errors told with path and way out."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lwq.errors import FileError, SpaceError
from lwq.store import files

ROOT = Path(__file__).parents[2]


def aged(path: Path, content: bytes = b"content", seconds: float = 60) -> Path:
    """A file last written a while ago."""
    path.write_bytes(content)
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_file_is_replaced_in_one_move(tmp_path: Path) -> None:
    target = tmp_path / "record.json"
    target.write_text("old")
    with open(target, encoding="utf-8") as reader:
        files.write_atomic(target, "neu ä")
        assert reader.read() == "old"
    assert target.read_bytes() == "neu ä".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "record.json"
    target.write_text("old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SpaceError, match=r"record\.json.*no room left"):
        files.write_atomic(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_what_a_killed_process_left_goes_with_the_next_write_of_the_same_file(tmp_path: Path) -> None:
    path, other = tmp_path / "a[1].txt", tmp_path / "b.txt"
    write = (
        "import sys; from contextlib import ExitStack; from pathlib import Path\n"
        "from lwq.store.files import replacing\n"
        "with ExitStack() as open_files:\n"
        "    for name in sys.argv[1:]: open_files.enter_context(replacing(Path(name))).write(b'half')\n"
        "    print('begun', flush=True); sys.stdin.read()"
    )

    def begun() -> subprocess.Popen[bytes]:
        writer = subprocess.Popen(
            (sys.executable, "-c", write, str(path), str(other)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"begun\n"
        return writer

    killed = begun()
    killed.kill()
    killed.communicate()
    at_work = begun()
    try:
        assert len(list(tmp_path.iterdir())) == 2
        files.write_atomic(path, b"whole")
        assert len(list(tmp_path.glob(".a*.tmp"))) == 1
        assert len(list(tmp_path.glob(".b*.tmp"))) == 1
    finally:
        at_work.communicate(b"")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {path.name: b"half", other.name: b"half"}


def test_json_bytes_depend_on_the_value_only(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    files.write_json(one, {"b": [1, 2.5, None], "a": "ü"})
    files.write_json(two, {"a": "ü", "b": (1, 2.5, None)})
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes().endswith(b"\n")
    assert files.read_json(one) == {"a": "ü", "b": [1, 2.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(one, float("nan"))


def test_cut_json_is_told_with_its_path(tmp_path: Path) -> None:
    cut = tmp_path / "cut.json"
    cut.write_text('{"a": ')
    with pytest.raises(FileError, match=r"cut\.json: is not JSON") as caught:
        files.read_json(cut)
    assert caught.value.hint


def test_hash_is_read_once_and_anew_when_the_file_changes(tmp_path: Path) -> None:
    memo, path = tmp_path / "home" / "hashes.sqlite", aged(tmp_path / "model.gguf")
    readings: list[int] = []

    def digest() -> str:
        return files.sha256_file(path, memo=memo, on_progress=lambda done, total: readings.append(done))

    expected = hashlib.sha256(b"content").hexdigest()
    assert (digest(), digest()) == (expected, expected)
    assert len(readings) == 1
    aged(path, b"CONTENT", seconds=30)
    assert digest() == hashlib.sha256(b"CONTENT").hexdigest()
    assert len(readings) == 2


def test_same_size_and_time_under_another_inode_is_read_anew(tmp_path: Path) -> None:
    memo, path = tmp_path / "memo", aged(tmp_path / "a")
    files.sha256_file(path, memo=memo)
    other = aged(tmp_path / "b", b"CONTENT")
    before = path.stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert files.sha256_file(path, memo=memo) == hashlib.sha256(b"CONTENT").hexdigest()


def test_file_written_a_moment_ago_is_not_remembered(tmp_path: Path) -> None:
    memo, path = tmp_path / "memo", tmp_path / "fresh"
    path.write_bytes(b"one")
    os.utime(path)
    now = path.stat().st_mtime_ns
    files.sha256_file(path, memo=memo)
    path.write_bytes(b"two")
    os.utime(path, ns=(now, now))
    assert files.sha256_file(path, memo=memo) == hashlib.sha256(b"two").hexdigest()


def test_damaged_memo_only_costs_time(tmp_path: Path) -> None:
    memo, path = tmp_path / "memo", aged(tmp_path / "a")
    memo.write_bytes(b"not a database at all, " * 100)
    expected = hashlib.sha256(b"content").hexdigest()
    assert [files.sha256_file(path, memo=memo) for _ in range(3)] == [expected] * 3
    assert memo.read_bytes().startswith(b"SQLite")


def test_lock_keeps_another_process_out_and_dies_with_it(tmp_path: Path) -> None:
    path, waited = tmp_path / "locks" / "one.lock", []
    hold = (
        "import sys, time; from pathlib import Path; from lwq.store.files import lock\n"
        "with lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen(
        (sys.executable, "-c", hold, str(path)), stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"

    def kill() -> None:
        waited.append(True)
        holder.kill()

    with files.lock(path, on_wait=kill):
        assert waited == [True]
        assert holder.wait() != 0
    holder.stdout.close()


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (errno.ENOSPC, SpaceError, "no room left"),
        (errno.EDQUOT, SpaceError, "no room left"),
        (errno.EROFS, FileError, "read-only"),
        (errno.EACCES, FileError, "permission denied"),
        (errno.EISDIR, FileError, "is a folder"),
    ],
)
def test_system_errors_say_what_where_why_and_the_way_out(
    tmp_path: Path, code: int, kind: type[FileError], words: str
) -> None:
    with pytest.raises(kind) as caught, files.os_errors("write the card", tmp_path):
        raise OSError(code, os.strerror(code))
    assert caught.value.message.startswith(f"{tmp_path}: cannot write the card: ")
    assert words in caught.value.message
    assert caught.value.hint


def test_need_of_space_tells_both_figures(tmp_path: Path) -> None:
    files.need_space(tmp_path / "not" / "there" / "yet", 1, "a byte")
    with pytest.raises(SpaceError, match=r"the model needs 1024\.00 TiB and the disk has [0-9.]+ \w+ free"):
        files.need_space(tmp_path, 1 << 50, "the model")


def test_link_is_the_same_file_and_replaces(tmp_path: Path) -> None:
    source, target = aged(tmp_path / "source"), tmp_path / "target"
    target.write_text("old")
    for _ in range(2):  # the second replaces a link to itself
        files.link_or_copy(source, target)
    assert target.samefile(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_where_links_cannot_be_a_copy_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(src: Path, dst: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    source, target = aged(tmp_path / "source"), tmp_path / "target"
    files.link_or_copy(source, target)
    assert target.read_bytes() == b"content"
    assert not target.samefile(source)
    assert stat.S_ISREG(target.lstat().st_mode)


@given(st.integers(min_value=0, max_value=1 << 60))
def test_human_size_is_within_half_a_percent(n_bytes: int) -> None:
    figure, unit = files.human_bytes(n_bytes).split()
    scale = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}[unit]
    assert abs(float(figure) * scale - n_bytes) <= 0.005 * n_bytes


def test_a_flipped_bit_anywhere_in_the_memo_never_gives_another_hash(tmp_path: Path) -> None:
    """Every byte that holds something, one bit of it each: the right hash is recalled, or the file is read again."""
    memo, path = tmp_path / "memo", aged(tmp_path / "a")
    right = files.sha256_file(path, memo=memo)
    good = memo.read_bytes()
    places = [i for i, byte in enumerate(good) if byte]
    for place in places[:: max(1, len(places) // 150)]:
        for bit in (0, 6):
            data = bytearray(good)
            data[place] ^= 1 << bit
            memo.write_bytes(data)
            assert files.known_sha256(path, memo) in (None, right)
            assert files.sha256_file(path, memo=memo) == right
            memo.unlink(missing_ok=True)


def test_a_memo_that_is_damaged_and_cannot_be_removed_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memo, path = tmp_path / "memo", aged(tmp_path / "a")
    memo.write_bytes(b"no database " * 100)

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "unlink", refuse)
    assert files.sha256_file(path, memo=memo) == hashlib.sha256(b"content").hexdigest()


@pytest.mark.parametrize(
    ("n_bytes", "told"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (1 << 20, "1.00 MiB"),
        (3 << 50, "3072.00 TiB"),
    ],
)
def test_sizes_are_told_in_the_largest_unit_that_is_reached(n_bytes: int, told: str) -> None:
    assert files.human_bytes(n_bytes) == told


def test_json_is_indented_by_two_and_not_escaped(tmp_path: Path) -> None:
    files.write_json(tmp_path / "one", {"b": 1, "a": "ü"})
    assert (tmp_path / "one").read_bytes() == '{\n  "a": "ü",\n  "b": 1\n}\n'.encode()


def test_hashing_tells_the_bytes_done_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_HASH_PIECE_BYTES", 3)
    told: list[tuple[int, int]] = []
    path = aged(tmp_path / "a", b"content")
    assert files.sha256_file(path, on_progress=lambda *n: told.append(n)) == hashlib.sha256(b"content").hexdigest()
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_a_known_hash_is_told_without_reading(tmp_path: Path) -> None:
    memo, path = tmp_path / "memo", aged(tmp_path / "a")
    assert files.known_sha256(path, memo) is None
    assert not memo.exists()
    digest = files.sha256_file(path, memo=memo)
    assert files.known_sha256(path, memo) == digest
    aged(path, b"CONTENT", seconds=30)
    assert files.known_sha256(path, memo) is None
    with pytest.raises(FileError, match="cannot look at it: no such file"):
        files.known_sha256(tmp_path / "nowhere", memo)


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.raises(FileError, match="this file system has no locks"), files.lock(tmp_path / "a.lock"):
        pytest.fail("held what cannot be held")


def test_a_lock_is_made_with_its_folders_and_let_go(tmp_path: Path) -> None:
    path = tmp_path / "some" / "folders" / "a.lock"
    for _ in range(2):
        with files.lock(path), files.lock_if_free(path) as is_free:
            assert not is_free
        with files.lock_if_free(path) as is_free:
            assert is_free
            with files.lock_if_free(path) as is_free_again:
                assert not is_free_again


def test_what_is_half_written_stays_only_while_its_process_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.q4.k.gguf"
    gone, mine, other = (tmp_path / f".{path.name}.{pid}-7.tmp" for pid in (1 << 22, os.getpid(), 1))
    for left in (gone, mine, other):
        left.touch()

    def kill(pid: int, signal: int) -> None:
        assert signal == 0
        if pid == 1:
            raise PermissionError(errno.EPERM, "Operation not permitted")
        if pid != os.getpid():
            raise ProcessLookupError

    monkeypatch.setattr(os, "kill", kill)
    files.write_atomic(path, "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([mine.name, other.name, path.name])


def test_no_room_for_a_link_is_told_and_not_taken_for_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(src: Path, dst: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(SpaceError, match="cannot put source there: no room left"):
        files.link_or_copy(aged(tmp_path / "source"), tmp_path / "target")
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize(
    ("error", "is_of_room"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EIO, "100 requested and 7 written"), False),
        (OSError("100 requested and 7 written"), True),
        (OSError("something else"), False),
    ],
)
def test_a_short_write_of_numpy_is_a_lack_of_room(error: OSError, is_of_room: bool) -> None:
    assert files.is_of_room(error) is is_of_room


def test_an_error_that_has_no_words_here_keeps_the_systems(tmp_path: Path) -> None:
    with pytest.raises(FileError) as caught, files.os_errors("do it", tmp_path):
        raise OSError(errno.EPIPE, "Broken pipe")
    assert caught.value.message == f"{tmp_path}: cannot do it: Broken pipe"
    assert not caught.value.hint
