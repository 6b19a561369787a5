"""Homes as people have them: names, locales, file systems and rights under which lwq runs, or says what to do."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from lwq.cli.main import _run
from lwq.errors import FileError, RecipeError, UsageError
from lwq.llama.toolchain import home
from lwq.plan.sources import _unlike
from lwq.recipe.parse import parse_recipe
from lwq.store.cache import Cache
from lwq.store.files import lock, lock_if_free, write_json
from tests.run_tiny import RECIPE
from tests.test_kill import outcome
from tests.tiny_models import write_tiny_llama, write_tiny_text

ROOT = Path(__file__).parents[1]
ODD = "Ünïcode 模型 🦙"
TEXTS = RECIPE[: RECIPE.index("[[targets]]")]
SMALL = TEXTS + '[[targets]]\nftype = "Q4_K_M"\n[bench]\ntests = []\n'
NO_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner,-chown") if os.geteuid() == 0 else ()
"""Root obeys the rights of files like anybody else."""
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""Names of files are ASCII for Python."""


def lwq(*arguments: str, cwd: Path, but: tuple[str, ...] = (), before: tuple[str, ...] = (), **environment: str) -> Any:
    """What ``lwq`` said, as it is started from a shell, in UTF-8."""
    environ = {"PYTHONPATH": str(ROOT), "LWQ_THREADS": "1", **os.environ, **environment}
    environ = {name: value for name, value in environ.items() if name not in but}
    command = (*before, sys.executable, "-m", "lwq", *arguments)
    done = subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, encoding="utf-8", check=False, timeout=300
    )
    assert "Traceback" not in done.stderr
    return done


def write_odd(folder: Path) -> Path:
    """The recipe of a run whose every name is odd."""
    folder.mkdir(parents=True)
    write_tiny_llama(folder / f"{ODD}.gguf")
    recipe = SMALL.replace("tiny.gguf", f"{ODD}.gguf")
    for seed, role in enumerate(("calibration", "selection", "evaluation")):
        write_tiny_text(folder / f"{role} {ODD}.txt", n_words=900, seed=seed)
        recipe = recipe.replace(f"{role}.txt", f"{role} {ODD}.txt")
    (folder / f"{ODD}.toml").write_text(recipe, encoding="utf-8")
    return folder / f"{ODD}.toml"


def empty_home(tools_home: Path, into: Path) -> Path:
    into.mkdir(parents=True)
    for name in ("toolchains", "compiled"):
        (into / name).symlink_to((tools_home / name).resolve())
    return into


# names


def test_rows_whose_files_are_one_where_capitals_do_not_count_are_refused() -> None:
    twice = SMALL + '[[targets]]\nname = "q4_k_m"\nftype = "Q5_K_M"\n'
    with pytest.raises(RecipeError, match=r"2 rows are named 'Q4_K_M', or 'q4_k_m': one file where capitals"):
        parse_recipe(twice, "r.toml")
    others = SMALL + '[[third_party]]\nname = "Q4_k_m"\nmodel = "x.gguf"\n'
    with pytest.raises(RecipeError, match=r"'Q4_K_M', or 'Q4_k_m'"):
        parse_recipe(others, "r.toml")
    with pytest.raises(RecipeError, match="the base's own row"):
        parse_recipe(SMALL.replace('ftype = "Q4_K_M"', 'ftype = "Q4_K_M"\nname = "f16"'), "r.toml")


def test_rows_that_a_budget_names_are_compared_so_too() -> None:
    with pytest.raises(RecipeError, match=r"'q4_k_m_lwq'"):
        parse_recipe(
            TEXTS + '[[targets]]\nbudget = "Q4_K_M"\n[[targets]]\nname = "q4_k_m_lwq"\nftype = "Q4_K_M"\n', "r.toml"
        )


def test_domains_and_task_sets_are_compared_so_too() -> None:
    head, rest = SMALL.split("[evaluation]")
    several = head + "".join(
        f'[[evaluation]]\ndomain = "{d}"\ntext = "{d}{i}.txt"\n' for i, d in enumerate(("Code", "code"))
    )
    with pytest.raises(RecipeError, match=r"2 texts are of the domain 'Code', or 'code'"):
        parse_recipe(several + "[[targets]]" + rest.split("[[targets]]")[1], "r.toml")
    sets = "".join(
        f'[[tasks]]\nname = "{name}"\nfile = "{name}.jsonl"\nkind = "multiple-choice"\n' for name in ("A", "a")
    )
    with pytest.raises(RecipeError, match=r"2 sets are named 'A', or 'a'"):
        parse_recipe(SMALL + sets, "r.toml")


def test_files_of_others_get_names_that_are_nobody_elses_on_any_file_system() -> None:
    decomposed = unicodedata.normalize("NFD", "modèle.gguf")
    assert _unlike("modèle.gguf", ("row.gguf",), {decomposed}) == "row.gguf"
    assert _unlike("MODEL.gguf", ("Row.gguf", "row-MODEL.gguf"), {"model.gguf", "row.gguf"}) == "row-MODEL.gguf"
    assert _unlike("free.gguf", ("row.gguf",), {"model.gguf"}) == "free.gguf"


# file systems


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_one_sentence_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As NFS answers whose lock daemon is not there."""

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(FileError, match="this file system has no locks") as caught, lock(tmp_path / "a.lock"):
        pass
    assert "LWQ_HOME" in caught.value.hint
    with pytest.raises(FileError, match="no locks"), lock_if_free(tmp_path / "a.lock"):
        pass
    with pytest.raises(FileError, match="no locks"):
        Cache(tmp_path).hold([("quantize", "0" * 64)])
    with pytest.raises(FileError, match="no locks"):
        Cache(tmp_path).build("quantize", {"a": 1}, lambda folder: {})
    assert not [p for p in tmp_path.rglob("*") if p.is_dir() and p.name.startswith("quantize")]


@pytest.mark.parametrize("name", ["x" * 300, "y/" * 3000 + "z"], ids=["component", "path"])
@pytest.mark.parametrize(
    "command",
    [("inspect", "{}.gguf"), ("stats", "{}.gguf"), ("plan", "{}.toml"), ("recipe", "check", "{}.toml"), ("card", "{}"),
     ("index", "{}"), ("verify", "{}.gguf"), ("diff", "{}", "{}")],
    ids=lambda command: command[0],
)  # fmt: skip
def test_names_that_are_too_long_are_told_as_that(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...], name: str
) -> None:
    assert _run([part.format(name) for part in command]) in (1, 2)
    told = capsys.readouterr().err
    assert "fault of lwq" not in told
    assert any(words in told for words in ("too long", "no such", "not exist"))


@pytest.mark.parametrize("name", ["x" * 300, "y" * 200 + "/" + "y/" * 3000], ids=["component", "path"])
def test_a_home_whose_name_is_too_long_is_told_as_that(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("LWQ_HOME", str(tmp_path / name))
    assert _run(["cache", "list"]) == 1
    assert "too long" in capsys.readouterr().err


def test_a_home_that_is_a_file_is_told_as_that(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LWQ_HOME", str(tmp_path / "file"))
    assert _run(["cache", "list"]) == 1
    assert "is no folder" in (told := capsys.readouterr().err)
    assert "LWQ_HOME" in told


def test_without_a_home_folder_nothing_is_written_to_one_named_tilde(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A user of a container may have neither ``HOME`` nor an entry in the list of users."""

    def nobody(_: Any) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.chdir(tmp_path)
    for name in ("LWQ_HOME", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(UsageError, match="whose home is that") as caught:
        home()
    assert "LWQ_HOME" in caught.value.hint
    monkeypatch.setenv("LWQ_HOME", "~nobody-of-that-name/cache")
    with pytest.raises(UsageError, match="~nobody-of-that-name"):
        home()
    monkeypatch.setenv("LWQ_HOME", "here")
    assert home() == tmp_path / "here"


def test_the_home_of_the_user_is_found_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LWQ_HOME", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert home().is_relative_to(pwd.getpwuid(os.getuid()).pw_dir)


def test_anothers_closed_cache_is_named_with_the_way_out(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(closed, 65534, 65534)
    else:
        closed.chmod(0)
    said = lwq("cache", "list", cwd=tmp_path, before=NO_RIGHTS, LWQ_HOME=str(closed))
    assert said.returncode == 1
    assert f"{closed}: the cache cannot be used: this user may not look into it" in said.stderr
    assert "LWQ_HOME" in said.stderr


# locales


def test_names_are_found_where_the_locale_says_that_names_are_ascii(tmp_path: Path) -> None:
    write_odd(tmp_path / ODD)
    said = lwq("inspect", f"{ODD}.gguf", "--json", cwd=tmp_path / ODD, **ASCII)
    assert json.loads(said.stdout)["layers"] == 4
    missing = lwq("inspect", f"{ODD} 2.gguf", cwd=tmp_path / ODD, **ASCII)
    assert missing.returncode == 1
    assert f"{ODD} 2.gguf" in missing.stderr
    checked = lwq("recipe", "check", f"{ODD}.toml", cwd=tmp_path / ODD, but=("LANG", "HOME"), LC_ALL="C")
    assert checked.returncode == 0, checked.stderr


def locale_of(name: str, folder: Path) -> dict[str, str]:
    """Variables of a locale, made here from its description; the patched name alone where there is none."""
    made = {"LC_ALL": name, "LANG": name}
    tool = shutil.which("localedef")
    if not tool or subprocess.run(
        (tool, "-i", name.partition(".")[0], "-f", "UTF-8", str(folder / name)), capture_output=True, check=False
    ).returncode not in (0, 1):
        return made
    return {**made, "LOCPATH": str(folder)}


@pytest.mark.slow
def test_a_run_is_the_same_in_every_home(tmp_path: Path, tools_home: Path) -> None:
    """Spaces, non-ASCII and emoji in all names; four locales; no ``HOME``; ``TMPDIR`` on another disk or missing."""
    there = write_odd(tmp_path / ODD / "one").parent
    shutil.copytree(there, tmp_path / ODD / "plain")
    plain = tmp_path / ODD / "plain"
    assert lwq("run", f"{ODD}.toml", cwd=plain, LWQ_HOME=str(tools_home), LC_ALL="C.UTF-8").returncode == 0
    whole = outcome(plain)
    assert whole[1]
    shared = Path("/dev/shm")
    other = tempfile.mkdtemp(dir=shared) if os.access(shared, os.W_OK) else str(tmp_path)
    (tmp_path / "locales").mkdir()
    homes = {
        "ascii": (ASCII, ("HOME", "LANG")),
        "turkish": ({**locale_of("tr_TR.UTF-8", tmp_path / "locales"), "TMPDIR": other}, ()),
        "german": ({**locale_of("de_DE.UTF-8", tmp_path / "locales"), "TMPDIR": "/nowhere/at/all"}, ("HOME",)),
    }
    try:
        for name, (environment, but) in homes.items():
            folder = tmp_path / ODD / f"{name} {ODD}"
            shutil.copytree(there, folder)
            into = empty_home(tools_home, tmp_path / ODD / f"home of {name}")
            said = lwq("run", f"{ODD}.toml", cwd=folder, but=but, **{**environment, "LWQ_HOME": str(into)})
            assert said.returncode == 0, (name, said.stderr)
            assert outcome(folder) == whole, name
        again = lwq("run", f"{ODD}.toml", cwd=plain, but=("HOME", "LANG"), **{**ASCII, "LWQ_HOME": str(tools_home)})
        assert "0 steps run" in again.stderr
    finally:
        if other != str(tmp_path):
            shutil.rmtree(other)


@pytest.mark.slow
def test_a_checkout_that_is_read_only_and_anothers_cache_do_what_they_can(tmp_path: Path, tools_home: Path) -> None:
    checkout, folder = tmp_path / "checkout", tmp_path / "work"
    shutil.copytree(ROOT / "lwq", checkout / "lwq", ignore=shutil.ignore_patterns("__pycache__"))
    folder.mkdir()
    write_tiny_llama(folder / "tiny.gguf")
    for seed, role in enumerate(("calibration", "selection", "evaluation")):
        write_tiny_text(folder / f"{role}.txt", n_words=900, seed=seed)
    (folder / "tiny.toml").write_text(SMALL, encoding="utf-8")
    before = sorted(checkout.rglob("*"))
    for path in (checkout, *before):
        path.chmod(path.stat().st_mode & ~0o222)
    ours = {"PYTHONPATH": str(checkout), "LWQ_HOME": str(tools_home)}
    said = lwq("run", "tiny.toml", cwd=folder, before=NO_RIGHTS, **ours)
    assert said.returncode == 0, said.stderr
    assert sorted(checkout.rglob("*")) == before
    write_json(tools_home / "of another", {})
    if os.geteuid() == 0:
        os.chown(tools_home, 65534, 65534)
    tools_home.chmod(0o555)
    try:
        plan = lwq("plan", "tiny.toml", cwd=folder, before=NO_RIGHTS, **ours)
        assert plan.returncode == 0, plan.stderr
        assert "nothing to do" in plan.stdout
        (folder / "tiny.toml").write_text(SMALL.replace("Q4_K_M", "Q5_K_M"), encoding="utf-8")
        refused = lwq("run", "tiny.toml", cwd=folder, before=NO_RIGHTS, **ours)
        assert refused.returncode == 1
        assert str(tools_home) in refused.stderr
        assert "LWQ_HOME" in refused.stderr
    finally:
        tools_home.chmod(0o755)
