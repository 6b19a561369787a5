"""Targets with a budget: what is asked is what is understood, and mistakes are named."""

from __future__ import annotations

import re

import pytest

from lwq.errors import RecipeError
from lwq.recipe.budget import Budget
from lwq.recipe.constraints import TYPE_SETS, Constraints
from lwq.recipe.parse import parse_recipe
from lwq.recipe.target import Target, expanded

HEAD = """
name = "q"
model = "x.gguf"
[calibration]
text = "a.txt"
[evaluation]
text = "b.txt"
"""


def targets(*tables: str) -> tuple[Target, ...]:
    return parse_recipe(HEAD + "".join(f"[[targets]]\n{table}\n" for table in tables), "r.toml").targets


def faults(*tables: str) -> tuple[str, ...]:
    with pytest.raises(RecipeError) as caught:
        targets(*tables)
    return caught.value.faults


@pytest.mark.parametrize(
    ("toml", "budget"),
    [
        ('budget = "Q4_K_M"', Budget(kind="stock", ftype="Q4_K_M")),
        ('budget = "4.25 bpw"', Budget(kind="bpw", amount=4.25)),
        ("bpw = 4.25", Budget(kind="bpw", amount=4.25)),
        ("bpw = 4", Budget(kind="bpw", amount=4.0)),
        ('budget = "12 GiB"', Budget(kind="file", amount=12 * 2**30)),
        ('size = "700 MB"', Budget(kind="file", amount=7e8)),
        ('ram = "8 GiB"', Budget(kind="ram", amount=8 * 2**30, n_ctx=4096)),
        ('ram = "8 GiB"\nram_n_ctx = 512', Budget(kind="ram", amount=8 * 2**30, n_ctx=512)),
        ('ftype = "Q4_K_M"', None),
    ],
)
def test_a_budget_is_understood_however_it_is_stated(toml: str, budget: Budget | None) -> None:
    (target,) = targets(toml)
    assert target.wanted() == budget
    assert target.name == (budget.label if budget else "Q4_K_M")


def test_a_list_of_budgets_is_a_target_for_each() -> None:
    found = targets('budget = ["Q4_K_M", "4.25 bpw", "12 GiB"]\ntypes = ["k"]', 'ftype = "Q8_0"')
    assert [t.name for t in found] == ["Q4_K_M_LWQ", "lwq-4.25bpw", "lwq-12GiB", "Q8_0"]
    assert [t.types for t in found[:3]] == [TYPE_SETS["k"]] * 3


def test_a_name_is_joined_by_each_budget_of_a_list() -> None:
    found = targets('name = "mine"\nbudget = ["Q4_K_M", "4.25 bpw"]')
    assert [(t.name, t.budget) for t in found] == [("mine-Q4_K_M", "Q4_K_M"), ("mine-4.25bpw", "4.25 bpw")]


@pytest.mark.parametrize("name", ["a{x}", "a{", "{0.__class__}"])
def test_a_name_with_braces_is_a_mistake_and_no_crash(name: str) -> None:
    (fault,) = faults(f'name = "{name}"\nbudget = ["Q4_K_M"]')
    assert f"name '{name}-Q4_K_M' may hold letters" in fault


def test_an_empty_list_of_budgets_does_not_vanish() -> None:
    (fault,) = faults("budget = []", 'ftype = "Q8_0"')
    assert fault.startswith("targets #1.budget: ")


def test_what_is_no_table_is_left_to_be_told() -> None:
    assert expanded(7) == 7
    assert expanded(["x", {"ftype": "Q8_0"}]) == ("x", {"ftype": "Q8_0"})


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ('budget = "Q4_K_M"\nbpw = 4.5', "states budget and bpw; one is enough"),
        ('size = "1 GiB"\nram = "2 GiB"', "states size and ram; one is enough"),
        ('budget = "q4_k_m"', "perhaps you meant 'Q4_K_M'"),
        ('budget = "lots"', "budget: 'lots' is no budget: an ftype (Q4_K_M), 4.25 bpw or 12 GiB"),
        ('size = "Q4_K_M"', "size: 'Q4_K_M' is not a size like 12 GiB"),
        ('ram = "4.25 bpw"', "ram: '4.25 bpw' is not a size like 12 GiB"),
        ('budget = "F16"', "budget: F16 is not a quantized mix"),
        ("bpw = 0.5", "greater than or equal to 1"),
        ('budget = "Q4_K_M"\ntypes = ["no_iq"]', "perhaps you meant 'no-iq'"),
        ('budget = "Q4_K_M"\ntypes = ["q4k"]', "'q4k' is no type that lwq allocates"),
        ('budget = "Q4_K_M"\ntypes = ["q4k"]', "perhaps you meant 'q4_K'"),
        ('budget = "Q4_K_M"\ntypes = ["Q4K"]', "perhaps you meant 'q4_K'"),
        ('budget = "Q4_K_M"\ntypes = ["f16"]', "'f16' is no type that lwq allocates"),
        ('budget = "Q4_K_M"\nmin_types = ["attn_v"]', "'attn_v' is not PATTERN=TYPE"),
        ('budget = "Q4_K_M"\nmin_types = ["attn_v=q9_K"]', "unknown ggml type 'q9_K'"),
        ('ftype = "Q4_K_M"\nmin_types = ["attn_v=q5_K"]', "min_types needs a budget"),
        ('ftype = "Q4_K_M"\nties = [["ffn_up", "ffn_gate"]]', "ties needs a budget"),
        ('ftype = "Q4_K_M"\nprune = "auto"', 'prune = "auto" weighs layers against bits'),
        ('ftype = "Q4_K_M"\nheal = true', "heal needs prune or prune_layers"),
        ('ftype = "Q4_K_M"\nprune = 2\nprune_layers = [1]', "states prune and prune_layers"),
        ('budget = "Q4_K_M"\nprune = "auto"\nheal = false', "decides by measurement"),
        ('budget = "Q4_K_M"\nimatrix = false', "imatrix = false cannot stand beside a budget"),
        ('budget = "Q4_K_M"\nftype = "BF16"', "ignored by llama-quantize for ftype BF16"),
        ('types = ["k"]', "has neither an ftype nor a budget"),
        ('ftype = "Q4_K_N"', "is not an ftype of llama-quantize; perhaps you meant 'Q4_K_"),
    ],
)
def test_a_mistake_is_told_once_and_by_name(toml: str, told: str) -> None:
    (fault,) = faults(toml)
    assert re.match(r"targets #1[.:]", fault)
    assert told in fault


def test_names_that_come_out_the_same_are_told() -> None:
    (fault,) = faults('budget = "4.25 bpw"', "bpw = 4.25")
    assert fault.startswith("targets, third_party: 2 rows are named 'lwq-4.25bpw'")
    (fault,) = faults('budget = ["12 GiB", "12288 MiB"]')
    assert "2 rows are named 'lwq-12GiB'" in fault


def test_constraints_are_those_of_the_recipe() -> None:
    (target,) = targets(
        'budget = "Q4_K_M"\ntypes = ["legacy", "Q4_k", "q8_0"]\nmin_types = ["attn_v=Q5_k", "ffn=q4_k"]\n'
        'tensor_types = [\'token_embd\\.weight=q6_k\']\nties = [["ffn_up", "ffn_gate"]]'
    )
    assert target.constraints() == Constraints(
        types=("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_K"),
        min_types=(("attn_v", "q5_K"), ("ffn", "q4_K")),
        fixed=(("token_embd\\.weight", "q6_K"),),
        ties=(("ffn_up", "ffn_gate"),),
    )


def test_all_types_may_be_used_where_nothing_is_said() -> None:
    (target,) = targets('budget = "Q4_K_M"')
    assert target.constraints() == Constraints(types=TYPE_SETS["all"])


def test_a_mix_without_a_budget_has_no_size_to_change() -> None:
    with pytest.raises(RecipeError, match="min_tg needs a budget"):
        parse_recipe('name = "a"\nmodel = "b.gguf"\n[[targets]]\nftype = "Q8_0"\nmin_tg = 5.0\n', "a.toml")


@pytest.mark.parametrize(
    ("toml", "compensated"),
    [
        ('budget = "Q4_K_M"', True),
        ("bpw = 4.25", True),
        ('budget = "Q4_K_M"\nvalues = "stock"', False),
        ('budget = "Q4_K_M"\nprune = 2', True),
        ('budget = "Q4_K_M"\nprune_layers = [2]', True),
        ('budget = "Q4_K_M"\nprune = "auto"', False),
        ('ftype = "Q4_K_M"', False),
        ('ftype = "Q4_K_M"\ntensor_types = ["attn_v=q6_k"]', False),
        ('ftype = "Q4_K_M"\nimatrix = false', False),
        ('ftype = "Q4_K_M"\nvalues = "compensated"', True),
        ('ftype = "Q4_K_M"\ntensor_types = ["attn_v=q6_k"]\nvalues = "compensated"', True),
        ('ftype = "Q4_K_M"\nprune_layers = [2]\nheal = true\nvalues = "compensated"', True),
        ('ftype = "Q4_K_M"\nprune_layers = [2]\nvalues = "stock"', False),
    ],
)
def test_values_are_compensated_within_a_budget_or_where_it_is_said(toml: str, compensated: bool) -> None:
    (target,) = targets(toml)
    assert target.is_compensated() == compensated


@pytest.mark.parametrize(
    ("toml", "beside"),
    [
        ('budget = "Q4_K_M"\nprune = "auto"', 'prune = "auto"'),
        ('ftype = "Q4_K_M"\nimatrix = false', "imatrix = false"),
        (
            'ftype = "Q4_K_M"\nprune_layers = [2]',
            "prune_layers that llama-quantize removes (heal = true lets lwq do it)",
        ),
        ('ftype = "Q4_K_M"\nprune_layers = [2]\nheal = false', "prune_layers that llama-quantize removes"),
        ('ftype = "BF16"', "ftype BF16"),
    ],
)
def test_what_compensated_values_are_not_made_for_is_told_once(toml: str, beside: str) -> None:
    (fault,) = faults(f'{toml}\nvalues = "compensated"')
    assert fault.startswith(f'targets #1: values = "compensated" cannot stand beside {beside}')


def test_values_of_another_name_are_told_with_those_there_are() -> None:
    (fault,) = faults('budget = "Q4_K_M"\nvalues = "gptq"')
    assert "'compensated' or 'stock'" in fault


@pytest.mark.parametrize(
    ("toml", "name"),
    [
        ('ftype = "Q4_K_M"\nprune_layers = [3]', "Q4_K_M"),
        ('ftype = "Q4_K_M"\nprune = 2', "Q4_K_M_PRUNED2"),
        ('budget = "Q4_K_M"\nprune = 2', "Q4_K_M_LWQPRUNED2"),
        ('budget = "Q4_K_M"\nprune_layers = [3, 5, 6]', "Q4_K_M_LWQPRUNED3"),
        ('budget = "Q4_K_M"\nprune = "auto"', "Q4_K_M_LWQAUTO"),
        ('budget = "4.5 bpw"\nprune = "auto"', "lwq-4.5bpw_AUTO"),
        ('budget = "4.5 bpw"\nmin_tg = 12.5', "lwq-4.5bpw-12.5tps"),
        ('ram = "8 GiB"\nprune = 1\nmin_tg = 5', "lwq-8GiB-ram_PRUNED1-5tps"),
        ('name = "own"\nbudget = "Q4_K_M"\nprune = "auto"', "own"),
    ],
)
def test_names_say_the_size_what_is_removed_and_the_least_speed(toml: str, name: str) -> None:
    (target,) = targets(toml)
    assert target.name == name


@pytest.mark.parametrize(
    ("toml", "pruned", "cut", "healed"),
    [
        ('ftype = "Q4_K_M"', False, False, False),
        ('ftype = "Q4_K_M"\nprune_layers = [3]', True, False, False),
        ('ftype = "Q4_K_M"\nprune_layers = [3]\nheal = true', True, True, True),
        ('budget = "Q4_K_M"\nprune_layers = [3]', True, True, False),
        ('ftype = "Q4_K_M"\nprune = 2', True, True, True),
        ('ftype = "Q4_K_M"\nprune = 2\nheal = false', True, True, False),
        ('budget = "Q4_K_M"\nprune = "auto"', True, False, True),
        ('budget = "Q4_K_M"', False, False, False),
    ],
)
def test_who_removes_layers_and_whether_they_are_healed(toml: str, pruned: bool, cut: bool, healed: bool) -> None:
    (target,) = targets(toml)
    assert (target.is_pruned(), target.is_cut(), target.is_healed()) == (pruned, cut, healed)


def test_a_file_is_labelled_by_its_ftype_else_by_its_budget_else_by_what_comes_out() -> None:
    found = targets(
        'ftype = "Q5_K_S"\nbudget = "Q6_K"', 'budget = "Q4_K_M"', 'budget = "Q5_K_M"\nmin_tg = 5', "bpw = 4"
    )
    assert [t.label_of(t.wanted()) for t in found] == ["Q5_K_S", "Q4_K_M", "", ""]


def test_every_target_of_several_budgets_is_there_beside_all_others() -> None:
    found = targets('budget = ["4 bpw", "5 bpw"]', 'budget = ["Q4_K_M", "Q5_K_M"]', 'ftype = "Q8_0"')
    assert [t.name for t in found] == ["lwq-4bpw", "lwq-5bpw", "Q4_K_M_LWQ", "Q5_K_M_LWQ", "Q8_0"]
    assert expanded(({"budget": ["4 bpw"]},)) == ({"budget": "4 bpw", "name": ""},)


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        (
            'budget = "Q4_K_M"\ntypes = ["zzz"]',
            "'zzz' is no type that lwq allocates, nor one of the sets all, no-iq, k, legacy",
        ),
        ('ftype = "zzz"', "'zzz' is not an ftype of llama-quantize"),
        ('ftype = "q4_k_m"', "'q4_k_m' is not an ftype of llama-quantize; perhaps you meant 'Q4_K_M'"),
        ('ftype = "Q4_K_M"\ntensor_types = ["=q4_k"]', "'=q4_k' is not PATTERN=TYPE"),
        ('ftype = "Q4_K_M"\ntensor_types = ["a\tb=q4_k"]', "'a\\tb=q4_k' has white space, which ends an entry"),
        ('ftype = "Q4_K_M"\nprune_layers = [7, 2, 7, 2]', "names layer 2 twice"),
        ('ftype = "Q4_K_M"\nmin_tg = 5', "min_tg needs a budget; a mix without one is the ftype's"),
        ('size = "lots"', "size: 'lots' is no budget"),
        ('budget = "BF16"', "budget: BF16 is not a quantized mix"),
        (
            'ftype = "F32"\ntensor_types = ["a=q4_k"]',
            "tensor types are ignored by llama-quantize for ftype F32; use Q8_0 as ftype",
        ),
        ('ftype = "Q4_K_M"\nname = "a b"', "name 'a b' may hold letters, digits and . _ + - only"),
    ],
)
def test_a_mistake_ends_with_what_is_known(toml: str, told: str) -> None:
    (fault,) = faults(toml)
    assert told in fault
    if told.endswith(("legacy", "quantize", "'", "twice", "ftype", "only", "entry")):
        assert fault.endswith(told)


def test_lists_are_kept_and_what_is_none_is_told() -> None:
    (target,) = targets(
        'budget = "Q4_K_M"\nties = [["ffn_up", "ffn_gate"], ["attn_q"]]\ntypes = ["q6_K", "q4_K", "q6_K"]'
    )
    assert target.ties == (("ffn_up", "ffn_gate"), ("attn_q",))
    assert target.types == ("q6_K", "q4_K")
    (fault,) = faults('budget = "Q4_K_M"\nties = ["ffn_up"]')
    assert fault.startswith("targets #1.ties #1: 'ffn_up'")
    (fault,) = faults('budget = "Q4_K_M"\ntypes = "k"')
    assert fault.startswith("targets #1.types: 'k'")


@pytest.mark.parametrize("ftype", ["F32", "F16", "BF16"])
def test_an_unquantized_mix_is_made_as_it_is(ftype: str) -> None:
    (target,) = targets(f'ftype = "{ftype}"\nname = "x"')
    assert (target.wanted(), target.is_compensated()) == (None, False)
