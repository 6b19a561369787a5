"""`lwq publish` by both ways of the real client to a Hub of our own, which is told to fail in every way it can."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lwq.store.files import sha256_file
from tests.report_folder import kept_files, write_report_folder
from tests.writable_hub import READER, TOKEN, Fault, Repo, WritableHub, writable

pytestmark = pytest.mark.slow
REPO = "someone/sample-GGUF"
LFS = {"HF_HUB_DISABLE_XET": "1"}
CHUNKS: dict[str, str] = {}
"""The client's own choice."""
both_ways = pytest.mark.parametrize("way", [LFS, CHUNKS], ids=["lfs", "chunks"])


@dataclass
class Said:
    """What the command said."""

    code: int
    out: str
    error: str


@dataclass
class Desk:
    """A report folder and the Hub that it goes to."""

    folder: Path
    hub: WritableHub
    kept: list[str]

    def publish(self, *options: str, token: str | None = TOKEN, **extra: str) -> Said:
        env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        env |= {"HF_ENDPOINT": self.hub.address, "HF_HOME": str(self.folder.parent / "hf"), "NO_PROXY": "127.0.0.1"}
        env |= {
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            **({"HF_TOKEN": token} if token else {}),
            **extra,
        }
        argv = (sys.executable, "-m", "lwq", "publish", str(self.folder), "--to", REPO, *options)
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, cwd=self.folder.parent)
        for secret in (token, "X-Amz-Signature", "do-not-show"):
            assert not secret or secret not in done.stdout + done.stderr
        return Said(code=done.returncode, out=done.stdout, error=done.stderr)

    def there(self, branch: str = "main") -> dict[str, str]:
        return {path: file.sha256 for path, file in self.hub.repos[REPO].branches[branch].items()}

    def here(self) -> dict[str, str]:
        return {path: sha256_file(self.folder / path) for path in self.there()}

    def is_whole(self) -> bool:
        """Whether the Hub has the card and all kept files, as they are here."""
        return {"README.md", "record.json", *self.kept} <= set(self.there()) and self.there() == self.here()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    record = write_report_folder(tmp_path / "sample")
    hub = WritableHub()
    with writable(hub):
        yield Desk(folder=tmp_path / "sample", hub=hub, kept=kept_files(record))


def test_a_dry_run_prints_exactly_what_goes_and_asks_nobody(desk: Desk) -> None:
    dry = desk.publish("--dry-run", token=None)
    assert dry.code == 0, dry.error
    assert not desk.hub.asked
    lines = [line.split() for line in dry.out.splitlines()[1:-2]]
    told = {line[0]: (line[-2], line[-1]) for line in lines}
    assert desk.publish().code == 0
    assert {path: sha256 for path, (_, sha256) in told.items()} == desk.there()
    assert {p: int(n.replace(",", "")) for p, (n, _) in told.items()} == {
        p: f.n_bytes for p, f in desk.hub.repos[REPO].branches["main"].items()
    }
    assert dry.out.splitlines()[-1].startswith(f"{len(told)} files, ")


@both_ways
def test_what_was_published_is_not_sent_again(desk: Desk, way: dict[str, str]) -> None:
    done = desk.publish(**way)
    assert done.code == 0, done.error
    assert desk.is_whole()
    assert f"published: {desk.hub.address}/{REPO}, commit " in done.out
    assert desk.hub.repos[REPO].n_commits == 1
    desk.hub.n_received = 0
    again = desk.publish(**way)
    assert (again.code, desk.hub.repos[REPO].n_commits) == (0, 1), again.error
    if way:
        assert desk.hub.n_received == 0


def test_a_private_repository_and_a_branch_are_made(desk: Desk) -> None:
    assert desk.publish("--private", "--revision", "v2").code == 0
    assert desk.hub.repos[REPO].private
    assert not desk.there()
    assert set(desk.kept) < set(desk.there("v2"))


def test_a_public_repository_is_not_filled_where_a_private_one_is_asked_for(desk: Desk) -> None:
    desk.hub.repos[REPO] = Repo(private=False)
    said = desk.publish("--private")
    assert (said.code, "is there already and public; nothing was sent" in said.error) == (1, True)
    assert not desk.there()


def test_files_of_others_stay_and_are_named(desk: Desk) -> None:
    desk.hub.repos[REPO] = Repo(private=False)
    desk.hub.put(REPO, "notes.md", b"mine")
    done = desk.publish()
    assert done.code == 0, done.error
    assert "also has files that are not of this run: notes.md" in done.error
    assert "notes.md" in desk.there()


@pytest.mark.parametrize(
    ("way", "at", "answer"),
    [
        (LFS, "/preupload/", 429),
        (LFS, "/info/lfs/", 500),
        (LFS, "/lfs/", "cut"),
        (LFS, "/commit/", 500),
        (LFS, "/whoami", "cut"),
        (CHUNKS, "/preupload/", "cut"),
        (CHUNKS, "/v1/xorbs", 500),
        (CHUNKS, "/v1/shards", 429),
        (CHUNKS, "/commit/", 500),
    ],
)
def test_a_fault_that_passes_is_waited_for(desk: Desk, way: dict[str, str], answer: int | str, at: str) -> None:
    desk.hub.faults = [Fault(at=at, answer=answer)]
    done = desk.publish(**way)
    assert done.code == 0, done.error
    assert not desk.hub.faults[0].times
    assert desk.is_whole()


@pytest.mark.parametrize(
    ("way", "answer", "told", "hint"),
    [
        (LFS, 429, "the Hub takes no more requests for now (429)", "wait some minutes; the same command goes on"),
        (LFS, 500, "the Hub itself failed (500)", "wait some minutes; the same command goes on"),
        (LFS, "cut", "Server disconnected", "check the network; the same command goes on"),
        (LFS, 401, "does not take the token (401)", "hf auth login"),
        (LFS, 403, "may not write there (403)", "name another owner"),
        (CHUNKS, 429, "the Hub takes no more requests for now (429)", "the same command goes on"),
        (CHUNKS, 401, "does not take the token (401)", "hf auth login"),
    ],
)
def test_a_fault_that_stays_is_explained_and_the_same_command_goes_on(
    desk: Desk, way: dict[str, str], answer: int | str, told: str, hint: str
) -> None:
    """The last step fails: all large files have arrived, none of it is to be seen, nothing is sent twice."""
    desk.hub.faults = [Fault(at="/commit/", answer=answer, times=40)]
    said = desk.publish(**way)
    assert said.code == 1
    assert f"lwq: {REPO}: could not be published: " in said.error
    assert told in said.error
    assert hint in said.error.split("hint: ")[1]
    assert "Traceback" not in said.error
    assert not desk.there()
    desk.hub.faults, desk.hub.n_received = [], 0
    assert desk.publish(**way).code == 0
    assert desk.is_whole()
    if way:
        assert desk.hub.n_received == 0


def test_a_commit_whose_answer_is_lost_is_not_made_twice(desk: Desk) -> None:
    desk.hub.faults = [Fault(at="/commit/", answer="lost")]
    said = desk.publish(**LFS)
    assert said.code == 0, said.error
    assert (desk.is_whole(), desk.hub.repos[REPO].n_commits) == (True, 1)


@pytest.mark.parametrize(
    ("at", "answer", "told"),
    [
        ("/whoami", 500, "failed (500)"),
        ("/repos/create", "cut", "Server disconnected"),
        ("/branch/", 429, "no more requests"),
        ("/tree/", 500, "failed (500)"),
    ],
)
def test_every_question_of_the_hub_can_fail(desk: Desk, at: str, answer: int | str, told: str) -> None:
    desk.hub.faults = [Fault(at=at, answer=answer, times=40)]
    said = desk.publish("--revision", "v2", **LFS)
    assert (said.code, told in said.error, "hint: " in said.error) == (1, True, True), said.error
    desk.hub.faults = []
    assert desk.publish("--revision", "v2", **LFS).code == 0


def test_a_transfer_that_is_cut_goes_on_with_what_is_missing(desk: Desk) -> None:
    """Files go one beside the other; what arrived before the cut is not sent again."""
    last = sha256_file(desk.folder / desk.kept[-1])
    desk.hub.faults = [Fault(at=f"/lfs/{last}", answer=403, times=40)]
    assert desk.publish(**LFS).code == 1
    have = sum(len(data) for data in desk.hub.objects.values())
    desk.hub.faults, desk.hub.n_received = [], 0
    assert desk.publish(**LFS).code == 0
    assert desk.is_whole()
    assert desk.hub.n_received == sum(map(len, desk.hub.objects.values())) - have


def test_an_expired_token_in_the_middle_is_told_whichever_way(desk: Desk) -> None:
    for way, at in ((LFS, "/info/lfs/"), (CHUNKS, "/xet-write-token/")):
        desk.hub.faults = [Fault(at=at, answer=401, times=40)]
        said = desk.publish(**way)
        assert (said.code, "does not take the token (401)" in said.error) == (1, True), said.error


@pytest.mark.parametrize(
    ("token", "told"),
    [
        (None, "without an access token"),
        ("hf_" + "x" * 30, "does not take the token (401)"),
        (READER, "may not write there (403)"),
    ],
)
def test_a_token_that_will_not_do_is_told_before_anything_is_sent(desk: Desk, token: str | None, told: str) -> None:
    said = desk.publish(token=token)
    assert (said.code, told in said.error, "hint: " in said.error) == (1, True, True), said.error
    assert not desk.hub.repos
    assert not desk.hub.n_received


def test_offline_means_offline(desk: Desk) -> None:
    said = desk.publish(HF_HUB_OFFLINE="1")
    assert (said.code, "HF_HUB_OFFLINE is set" in said.error) == (1, True)
    assert not desk.hub.asked


def _other_card(desk: Desk) -> None:
    (desk.folder / "README.md").write_text("another card", encoding="utf-8")


def _other_model(desk: Desk) -> None:
    path = desk.folder / desk.kept[0]
    path.write_bytes(path.read_bytes()[:-4] + b"edit")


def _longer_model(desk: Desk) -> None:
    path = desk.folder / desk.kept[0]
    path.write_bytes(path.read_bytes() + b"more")


@pytest.mark.parametrize(
    ("way", "change"), [(LFS, _other_card), (LFS, _other_model), (LFS, _longer_model), (CHUNKS, _other_model)]
)
def test_a_file_that_changes_while_it_is_sent_is_found(
    desk: Desk, way: dict[str, str], change: Callable[[Desk], None]
) -> None:
    """It changes after all was read and compared with the record, before it goes."""
    desk.hub.faults = [Fault(at="/repos/create", answer=lambda: change(desk))]
    said = desk.publish(**way)
    assert said.code == 1, said.out
    assert "has other files than this folder had when it was read" in said.error
    assert "leave the folder as it is" in said.error
    assert ("README.md" if change is _other_card else desk.kept[0]) in said.error


def test_what_the_folder_lacks_is_told_before_the_hub_is_asked(desk: Desk) -> None:
    (desk.folder / desk.kept[0]).unlink()
    said = desk.publish()
    assert (said.code, "is missing (model)" in said.error) == (1, True)
    (desk.folder / "DETAILS.md").write_text(f"made with {TOKEN} in /home/me/x", encoding="utf-8")
    write_report_folder(desk.folder)
    with (desk.folder / "DETAILS.md").open("a", encoding="utf-8") as file:
        file.write(f"\nmade with {TOKEN} in /home/me/x\n")
    said = desk.publish()
    assert (said.code, "DETAILS.md: line " in said.error, "an access token" in said.error) == (1, True, True)
    assert not desk.hub.asked


def test_a_place_that_is_none_is_wrong_usage(desk: Desk) -> None:
    said = desk.publish("--to", "no-owner")
    assert (said.code, "is no repository of the Hub" in said.error) == (2, True)
