"""What the card says of layers: scores, sets and healing."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from lwq.record.command import Command
from lwq.record.record import Record, Row
from lwq.record.search import Search
from lwq.report import prune_section, search_section
from lwq.report.card import card
from lwq.report.figures import figure_texts
from lwq.report.plots import drawings
from lwq.report.remarks import remarks
from lwq.report.rows import healed_on, how_made
from lwq.report.tables import label
from tests.documents import whole, whole_page
from tests.sample_pruning import STAYS, healed_set, parts, pruning, weighed
from tests.sample_record import sample_record
from tests.sample_search import search

TITLE = "## Layers"
ODD = "a *b* | <script>x</script> [c](d) `e"
SHOWN = r"a \*b\* \| \<script\>x\</script\> \[c\](d) \`e"


def row(name: str) -> Row:
    return next(r for r in sample_record().rows if r.name == name)


def changed(name: str, **changes: Any) -> Record:
    """The sample with one row changed."""
    record = sample_record()
    return replace(record, rows=tuple(replace(r, **changes) if r.name == name else r for r in record.rows))


def facts(**changes: Any) -> Record:
    """The sample with what was measured of its layers changed."""
    return replace(sample_record(), pruning=replace(pruning(), **changes))


def without_selection(record: Record) -> Record:
    return replace(record, texts=tuple(t for t in record.texts if t.role != "selection"))


def section(record: Record) -> str:
    return whole(record).split(f"{TITLE}\n")[1].split("\n## ")[0]


def said(record: Record) -> str:
    return "\n".join(remarks(record))


def test_record_without_pruning_says_nothing_of_it() -> None:
    record = sample_record(pruned=False)
    for text in (whole(record), whole_page(record)):
        assert not re.search(r"## Layers|>Layers</h2>", text)
        told = text.replace("it holds for pruned files too", "")
        assert not re.search(r"[Pp]run|[Hh]eal|[Rr]epair|Block Influence|without layer", told)
    assert "layers" not in {f.name for f in figure_texts(record)}
    assert "layers" not in drawings(record)


def test_every_layer_stands_with_its_measured_damage_beside_the_scores() -> None:
    table = prune_section.scores(pruning())
    assert [r[0] for r in table.rows] == ["0 (barred)", *map(str, range(1, 29)), "29 (barred)"]
    assert table.rows[20] == (
        "20", "0.164060 ±0.004001", "24.8050", "0.055780 ±0.001727", "0.095155 ±0.002734",
        "0.0238", "-0.9762", "14.49", "0.9506", "0.0695",
    )  # fmt: skip
    assert table.rows[0][8] == "–"
    bare = replace(pruning(), layers=tuple(replace(s, angular=()) for s in pruning().layers))
    assert prune_section.scores(bare).rows[3][-1] == "–"


def test_section_says_text_windows_tokens_and_what_decides_nothing() -> None:
    text = section(sample_record())
    assert "on 512 scored tokens in 4 windows of 512 tokens of `calibration.txt`" in text
    assert "whole model's PPL on these tokens is 21.4119" in text
    assert "llama-quantize removes whole layers only" in text
    assert "what decides is the measured KLD" in text


def test_barred_layers_are_named_once_for_each_reason() -> None:
    assert prune_section.barred(pruning()) == (
        "Barred, so in no set: layers 0, 29 (the first and the last layer are barred)."
    )
    kinds = ((4, "layers 4 of 'gemma3' cannot go: no other layer is of their kind"), (9, "something else"))
    told = prune_section.barred(replace(pruning(), barred=(*pruning().barred, *kinds)))
    assert "layer 4 (no other layer is of their kind); layer 9 (something else)." in told
    assert prune_section.barred(replace(pruning(), barred=())) == "Every layer may go."


def test_sets_stand_with_their_damage_on_both_texts_and_what_healing_changed() -> None:
    table = prune_section.sets(sample_record(), pruning())
    assert table
    assert table.rows[1] == (
        "2", "20, 23", "0.590071 ±0.016612", "37.2208", "0.612408 ±0.014903", "0.338217 ±0.009018",
        "-0.274191 ±0.010377", "3", "refit, transform", "–",
    )  # fmt: skip
    assert table.rows[2][-3:] == ("0", "–", "no repair lowered the KLD")
    assert "KLD before healing (selection, nats)" in {c.title for c in table.columns}


def test_sets_that_were_not_healed_and_scores_alone_are_told_as_such() -> None:
    record = facts(healed=())
    table = prune_section.sets(record, replace(pruning(), healed=()))
    assert table
    assert {r[4:] for r in table.rows} == {("not healed", "–", "–", "–", "–", "–")}
    assert prune_section.sets(record, replace(pruning(), healed=(), sets=())) is None
    assert "Healing was judged" not in section(replace(facts(sets=(), healed=()), rows=()))


def test_every_repair_is_listed_once_also_where_pruning_was_by_hand_alone() -> None:
    table = prune_section.repairs(sample_record())
    assert table
    assert len(table.rows) == 4
    assert table.rows[3] == (
        "20, 23", "blk.24.ffn_down.weight", "transform", "0.05000", "0.338217 ±0.008455", "-0.013897 ±0.001544",
    )  # fmt: skip
    by_hand = replace(sample_record(), pruning=None)
    body = whole(by_hand)
    assert TITLE not in body
    assert body.count("<summary>Repaired tensors</summary>") == 1
    assert "Healing was judged on the selection text (`selection.txt`)" in body


def test_card_says_that_healing_was_judged_on_the_selection_text() -> None:
    assert section(sample_record()).rstrip().endswith("The evaluation text judged no repair.")
    assert "Healing was judged on the selection text (`selection.txt`)" in section(sample_record())
    assert "judged on the evaluation text" not in said(sample_record())
    assert "and so are healed files in the verdicts on that text" in section(sample_record())
    every = replace(sample_record(), selection=replace(sample_record().selection, rule="all"))
    assert "in the verdicts" not in section(every)


def test_healing_judged_on_the_evaluation_text_is_warned_of() -> None:
    record = without_selection(sample_record())
    assert healed_on(record) == "evaluation"
    assert "all figures of Q4_K_M-healed are a little flattered" in section(record)
    assert "The evaluation text judged no repair" not in whole(record)
    assert "**Repairs were judged on the evaluation text**" in said(record)


def test_remark_on_a_pruned_row_tells_its_parts_apart_where_they_were_measured() -> None:
    text = said(sample_record())
    assert "Q4_K_M-healed lacks layers 20, 23 of 30" in text
    assert "KLD 0.328 ±0.009 nats for its pruned base against the original" in text
    assert "0.0402 ±0.0012 nats for the file against its pruned base" in text
    assert "holds what pruning and what quantization cost." in said(changed("Q4_K_M-pruned", parts=None))
    assert "0.452" not in said(changed("Q4_K_M-pruned", parts=None))


def test_healed_row_says_so_wherever_removed_layers_are_named() -> None:
    assert label(row("Q4_K_M-healed")) == "Q4_K_M-healed (layers 20, 23 removed, healed)"
    assert how_made(row("Q4_K_M-healed")) == "Q4_K_M, imatrix, layers 20, 23 removed, healed"
    assert label(row("Q4_K_M-pruned")) == "Q4_K_M-pruned (layer 20 removed)"
    assert "| 20, 23; healed |" in whole(sample_record())


def test_method_names_the_files_that_were_made_from_a_pruned_base_and_no_others() -> None:
    assert "from the base (Q4_K_M-healed from a base without some layers, which lwq wrote)" in card(sample_record())
    assert "without some layers, which lwq wrote" not in card(changed("Q4_K_M-healed", commands=()))


def test_sentence_that_every_layer_stays_is_shown() -> None:
    assert STAYS in whole(sample_record())
    assert search_section.outcome(row("Q4_K_M-lwq"), weighed(search())).endswith(STAYS)
    assert "layer stays" not in search_section.outcome(row("Q4_K_M-lwq"), search())


def pays(**changes: Any) -> Search:
    """A search in which a removal won; reason and difference are those of the best mix with all layers."""
    found = weighed(search())
    candidates = tuple(
        replace(c, verdict="chosen") if c.name == "without layer 20" else c for c in found.candidates
    )  # fmt: skip
    won = replace(found, candidates=candidates, chosen="without layer 20", pruned_layers=(20,), pruning="Pruning pays.")
    return replace(won, **changes)


def test_removal_that_won_leaves_one_candidate_chosen_and_no_claim_of_another() -> None:
    found = replace(row("Q4_K_M-lwq"), search=pays(), pruned_layers=(20,), parts=parts("Q4_K_M-healed"))
    text = search_section.outcome(found, pays())
    assert "Chosen: without layer 20. Of the candidates with all layers: On 12 windows" in text
    assert "Pruning pays. It is made of the pruned base `SmolLM2-135M-Instruct-pruned2-F16.gguf`" in text
    table = search_section.candidates(sample_record(), found, pays())
    verdicts = {r[0]: r[-1] for r in table.rows}
    assert [name for name, verdict in verdicts.items() if verdict == "chosen"] == ["without layer 20"]
    assert verdicts["after 3 swaps"] == "best with all layers"
    assert "KLD of the best candidate with all layers less that of the stock mix" in table.caption
    caption = {f.name: f.caption for f in figure_texts(replace(sample_record(), rows=(found,)))}["allocation_1"]
    assert "Layers have the numbers of the file, without those removed." in caption


def test_search_that_no_whole_model_fits_claims_no_fit() -> None:
    alone = pays(candidates=pays().candidates[-2:], reason="All layers together do not fit.", scale=1.0, exponent=1.0)
    record = changed("Q4_K_M-lwq", search=alone)
    assert "sum^1.000" not in search_section.prediction(record)
    assert "Of the candidates with all layers" not in search_section.outcome(row("Q4_K_M-lwq"), alone)
    assert "plain sum of the damages of types" in search_section.prediction(record)
    assert "plain sum" not in search_section.prediction(sample_record(pruned=False))


def test_steps_that_remove_layers_have_their_purpose_and_unknown_ones_break_nothing() -> None:
    text = whole(sample_record())
    assert "**Cut.** Remove layers and put the repaired tensors in." in text
    assert "lwq prune SmolLM2-135M-Instruct-F16.gguf --layers 20,23 --repairs healed-2.gguf" in text
    odd = Command(step="never heard of", argv=("lwq", "x y"))
    assert "lwq 'x y'" in whole(replace(sample_record(), commands=(odd,)))


def test_markup_in_notes_reasons_and_names_is_shown_and_never_obeyed() -> None:
    vain = replace(healed_set(), note=ODD, tensors=())
    method = replace(healed_set(), tensors=tuple(replace(t, method=ODD, tensor=ODD) for t in healed_set().tensors[:1]))
    record = facts(healed=(vain, replace(method, layers=(14, 20, 23))), barred=((0, ODD),))
    text = section(record)
    assert text.count(SHOWN) == 3
    rows = tuple(
        replace(r, search=replace(r.search, pruning=ODD)) if r.search else replace(r, name=f"{r.name} {ODD}")
        for r in record.rows
    )
    assert whole_page(replace(record, rows=rows)).count("<script>") == 1
    assert SHOWN in whole(replace(record, rows=rows))
