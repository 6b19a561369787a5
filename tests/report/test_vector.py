"""A figure on the page: text is text, colours are the page's, nothing of it meets another's."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html import unescape

from lwq.record.record import Record
from lwq.report.figures import figure_texts
from lwq.report.plots import drawings, kld_against_size
from lwq.report.style import NARROW, ON_BRIGHT, ON_DARK, WIDE, styled
from lwq.report.vector import inline
from tests.sample_record import sample_record


def drawn(record: Record) -> dict[str, str]:
    return {name: drawing.html for name, drawing in drawings(record).items()}


def test_every_text_is_text_of_nine_units_or_more_in_a_colour_of_the_page_or_of_its_bar() -> None:
    texts = re.findall(r"<text ([^>]*)>([^<]+)</text>", "".join(drawn(sample_record()).values()))
    assert len(texts) > 400
    assert {"file size (MiB)", "Q4_K_M-by-hand", "attn_k"} <= {text for _, text in texts}
    assert min(float(size) for looks, _ in texts for size in re.findall(r'font-size="([\d.]+)"', looks)) >= 9
    fills = {re.findall(r'fill="([^"]+)"', looks)[0] for looks, _ in texts}
    assert fills == {"var(--ink)", "var(--quiet)", ON_BRIGHT, ON_DARK}


def test_drawings_are_well_formed_have_no_style_and_no_picture_and_their_ids_meet_no_others() -> None:
    whole = "".join(drawn(sample_record()).values())
    parsed = ElementTree.fromstring(f"<div>{whole}</div>")
    assert [e.attrib["class"] for e in parsed] == ["large", "small"] * 8
    assert {e.tag for e in parsed.iter()} == {"div", "svg", "g", "defs", "path", "use", "text", "clipPath", "rect"}
    assert not [e for e in parsed.iter() if "style" in e.attrib]
    ids = [e.attrib["id"] for e in parsed.iter() if "id" in e.attrib]
    assert len(ids) == len(set(ids))
    used = {name for e in parsed.iter() for v in e.attrib.values() for name in re.findall(r"#([a-z_0-9]+-[a-z]\d+)", v)}
    assert used == set(ids)


def test_markup_and_odd_characters_in_a_name_are_text() -> None:
    record = sample_record()
    odd = "</svg><script>x</script> \x00 模 $1"
    rows = tuple(replace(row, name=odd) if row.name == "IQ4_XS" else row for row in record.rows)
    whole = drawn(replace(record, rows=rows))["kld_against_size"]
    ElementTree.fromstring(f"<div>{whole}</div>")
    assert "&lt;/svg&gt;&lt;script&gt;x&lt;/script&gt; 模 $1</text>" in whole
    assert "<script" not in whole


def test_narrow_figure_cuts_long_names_and_both_keep_their_width() -> None:
    record = sample_record()
    rows = tuple(replace(row, name=row.name + "-long" * 20) for row in record.rows)
    text = figure_texts(record)[0]
    with styled():
        for frame in (WIDE, NARROW):
            svg = inline(kld_against_size(replace(record, rows=rows), frame), "large", text)
            assert f'viewBox="0 0 {72 * frame.width:g} 360"' in svg
            cut = re.findall(r">([^<]*…)</text>", svg)
            assert len(cut) == 9
            assert {round(len(unescape(name)) / frame.width) for name in cut} <= {4, 5, 6}
