"""All mistakes of a recipe are told at once, each with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from lwq.errors import RecipeError
from lwq.recipe.parse import is_family, parse_recipe, values_in
from tests.recipe.test_schema import GOOD, faults

ROOT = Path(__file__).parents[2]


def test_two_mistakes_are_told_as_two_with_path_and_value() -> None:
    message = faults(GOOD.replace("Q4_K_M", "Q4_K_X").replace('"x.gguf"', '""'))
    assert message.startswith("r.toml: 2 mistakes")
    assert "targets #1.ftype: 'Q4_K_X' is not an ftype of llama-quantize; perhaps you meant 'Q4_K_" in message
    assert "model: ''" in message


def test_a_mistake_between_tables_is_told_beside_one_inside() -> None:
    message = faults(GOOD.replace('"b.txt"', '"a.txt"').replace("model =", "modell ="))
    assert "modell: unknown key; perhaps you meant 'model'" in message
    assert "calibration, evaluation: both use the text 'a.txt'" in message


def test_recipe_that_makes_nothing_compares_files_or_is_refused() -> None:
    compared = GOOD[: GOOD.index("[[targets]]")] + '[[third_party]]\nname = "o"\nmodel = "o.gguf"\n'
    assert parse_recipe(compared, "r.toml").targets == ()
    assert "targets: missing" in faults(GOOD[: GOOD.index("[[targets]]")])


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_committed_recipes_have_no_mistake(path: Path) -> None:
    assert parse_recipe(path.read_text(encoding="utf-8"), str(path)).name == path.stem


DOMAINS = '[[evaluation]]\ntext = "b.txt"\n[[evaluation]]\ntext = "packaged:code"\nweight = 2.0\n'


def several(further: str = "") -> str:
    start = GOOD.index("[evaluation]")
    return GOOD[:start] + DOMAINS + further + GOOD[GOOD.index("[[targets]]") :]


def test_domains_of_one_name_are_told() -> None:
    again = '[[evaluation]]\ntext = "x/Code.txt"\n'
    assert faults(several(again)).splitlines()[1:] == [
        "  evaluation: 2 texts are of the domain 'code', or 'Code': one file where capitals do not count; give each a"
        " domain of its own"
    ]


def test_texts_of_evaluation_are_domains_named_after_themselves() -> None:
    recipe = parse_recipe(several('[[evaluation]]\ntext = "c/long.txt"\ndomain = "novels"\n'), "r.toml")
    assert [t.domain for t in (recipe.evaluation, *recipe.domains)] == ["b", "code", "novels"]
    assert list(recipe.texts())[-3:] == ["evaluation", "evaluation:code", "evaluation:novels"]
    assert [t.weight for t in recipe.domains] == [2.0, 1.0]


def test_mistakes_in_domains_have_the_place_in_which_they_stand() -> None:
    assert "evaluation #2.weight: -1.0" in faults(several().replace("2.0", "-1.0"))
    assert "evaluation #3.wheight: unknown key; perhaps you meant 'weight'" in faults(
        several('[[evaluation]]\ntext = "d.txt"\nwheight = 1.0\n')
    )
    again = '[[evaluation]]\ntext = "b.txt"\n'
    assert "evaluation #1, evaluation #3: both use the text 'b.txt'" in faults(several(again))
    assert "2 texts are of the domain 'code'" in faults(several('[[evaluation]]\ntext = "x/code.txt"\n'))
    both = several() + '[[domains]]\ntext = "e.txt"\n'
    assert faults(both).endswith("recipe: states domains; further texts of evaluation are [[evaluation]] tables")


def mistakes(toml: str) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(toml, "r.toml")
    assert "lwq recipe schema" in caught.value.hint
    return caught.value.faults


def test_keys_of_every_table_are_offered_where_one_is_misspelt() -> None:
    misspelt = {
        "calibration": ("parst", "parts"), "selection": ("tex", "text"), "evaluation": ("domian", "domain"),
        "targets": ("ftpye", "ftype"), "third_party": ("modle", "model"), "tasks": ("n_itmes", "n_items"),
        "bench": ("repetition", "repetitions"), "sensitivity": ("minuets", "minutes"), "pruning": ("beem", "beam"),
        "select": ("ovre", "over"), "card": ("licens", "licence"),
    }  # fmt: skip
    values = values_in(GOOD, "r.toml")
    for table, (wrong, right) in misspelt.items():
        toml = GOOD
        if table in values:
            head = f"[[{table}]]\n" if table == "targets" else f"[{table}]\n"
            toml = GOOD.replace(head, f"{head}{wrong} = 1\n")
        else:
            toml += (f"[[{table}]]\n" if table in ("third_party", "tasks") else f"[{table}]\n") + f"{wrong} = 1\n"
        found = [f for f in mistakes(toml) if "unknown key" in f]
        at = f"{table} #1" if table in ("targets", "third_party", "tasks") else table
        assert found == [f"{at}.{wrong}: unknown key; perhaps you meant {right!r}"]
    assert mistakes("xyz = 1\n" + GOOD) == ("xyz: unknown key",)


def test_a_mistake_has_its_place_and_its_value_in_a_sentence() -> None:
    assert mistakes(GOOD.replace("[5, 4]", "[5, -4]")) == (
        "targets #1.prune_layers #2: -4 input should be greater than or equal to 0",
    )
    assert mistakes(GOOD.replace('[calibration]\ntext = "a.txt"\n', "")) == ("calibration: missing",)
    assert mistakes(GOOD.replace("[calibration]\n", "[calibration]\nn_chunks = {}\n")) == (
        "calibration.n_chunks: input should be a valid integer",
    )
    assert mistakes(GOOD + "[bench]\ntests = ['x']\n") == (
        "bench.tests: ['x'] 'x' is not like pp512, tg128 or pp1024+tg1024",
    )


def test_a_list_that_is_wrong_within_is_not_told_to_be_too_short() -> None:
    (fault,) = mistakes(GOOD + "[select]\nover = []\n")
    assert fault.startswith("select.over: ")
    assert "at least 1 item" in fault
    items = '[[tasks]]\nname = "A"\nfile = []\n[[tasks]]\nname = "B"\nfile = "b"\nn_ctx = 1\n'
    assert [f.split(":")[0] for f in mistakes(GOOD + items)] == ["tasks #1.file", "tasks #2.n_ctx"]
    found = mistakes(GOOD + '[select]\nover = ["beauty"]\n')
    assert [f.split(":")[0] for f in found] == ["select.over #1"]


@pytest.mark.parametrize("nothing", ["targets = []\n", "third_party = []\n", "targets = []\nthird_party = []\n"])
def test_a_list_of_no_files_is_as_none(nothing: str) -> None:
    assert mistakes(nothing + GOOD[: GOOD.index("[[targets]]")]) == (
        "targets: missing; name the files to make, or in third_party those of others to compare",
    )


def test_what_is_no_toml_says_so_with_its_place() -> None:
    with pytest.raises(RecipeError, match=r"not TOML: Invalid value .at end of document") as caught:
        values_in("a = ", "r.toml")
    assert "toml.io" in caught.value.hint
    with pytest.raises(RecipeError, match="not TOML"):
        values_in(f"a = {'[' * 5000}", "r.toml")
    assert values_in("a = 1", "r.toml") == {"a": 1}


def test_families_are_known_by_either_key() -> None:
    assert [is_family(v) for v in ({"models": []}, {"recipe": ""}, {"model": ""})] == [True, True, False]
    with pytest.raises(RecipeError) as caught:
        parse_recipe('recipe = "r"\n', "f.toml")
    assert caught.value.faults == ("is a family file, of several models, not a recipe",)
    assert "lwq run" in caught.value.hint


def rows(*tables: str) -> str:
    return GOOD[: GOOD.index("[[targets]]")] + "".join(tables)


def row(name: str = "", ftype: str = "Q4_K_M", more: str = "", table: str = "targets") -> str:
    named = f'name = "{name}"\n' if name else ""
    return f"[[{table}]]\n{named}" + (f'ftype = "{ftype}"\n' if table == "targets" else 'model = "o.gguf"\n') + more


def test_names_of_rows_are_told_once_each_with_every_spelling() -> None:
    assert mistakes(rows(row("a"), row("A"), row("a", table="third_party"))) == (
        "targets, third_party: 3 rows are named 'a', or 'A': one file where capitals do not count; give each a name of"
        " its own",
    )
    assert mistakes(rows(row(), row("Q4_K_M", "Q8_0"))) == (
        "targets, third_party: 2 rows are named 'Q4_K_M'; give each a name of its own",
    )
    budgets = (row(more='budget = "4 bpw"\n'), row(more="bpw = 5\n"), row(more='size = "1 GiB"\n'))
    named = parse_recipe(rows(*budgets, row(more='ram = "2 GiB"\n'), row(more="prune = 1\n"), row()), "r.toml").targets
    assert len({t.name for t in named}) == 6  # what a budget names later is no clash of ftypes


def test_the_bases_own_row_has_a_name_that_no_other_has() -> None:
    told = "targets: 'F16' is the name of the base's own row, which every card has"
    assert mistakes(rows(row("f16"))) == (told,)
    assert mistakes('base_type = "bf16"\n' + rows(row("bf16"))) == (told.replace("F16", "BF16"),)
    assert parse_recipe('base_type = "bf16"\n' + rows(row("F16")), "r.toml").targets[0].name == "F16"


def test_the_same_text_twice_is_told_for_each_pair() -> None:
    selection = '[selection]\ntext = "a.txt"\n'
    assert mistakes(GOOD + selection) == ("calibration, selection: both use the text 'a.txt'; they must be disjoint",)
    assert mistakes(GOOD.replace("b.txt", "a.txt") + selection) == tuple(
        f"{pair}: both use the text 'a.txt'; they must be disjoint"
        for pair in ("calibration, selection", "calibration, evaluation", "selection, evaluation")
    )


def test_a_choice_by_what_nothing_measures_is_told() -> None:
    assert mistakes(GOOD + '[select]\nover = ["bytes", "tg", "tasks"]\n[bench]\ntests = ["pp512", "pp16+tg16"]\n') == (
        "select.over: 'tg' chooses by speed of generation; [bench] has no test like tg128",
        "select.over: 'tasks' chooses by task scores; the recipe has no [[tasks]]",
    )
    measured = '[select]\nover = ["tg", "tasks"]\n[bench]\ntests = ["tg16"]\n[[tasks]]\nname = "A"\nfile = "a"\n'
    assert parse_recipe(GOOD + measured, "r.toml").select.over == ("tg", "tasks")


def test_what_is_stated_at_odd_places_is_a_mistake_and_no_crash() -> None:
    for toml in ("targets = 5\n", "targets = [5]\n", "tasks = 5\n", "evaluation = 5\n", "calibration = [1]\n"):
        plain = "\n".join(line for line in GOOD.splitlines()[:3]) + "\n" + toml
        assert any(f.startswith(toml.split(" ")[0]) for f in mistakes(plain))
