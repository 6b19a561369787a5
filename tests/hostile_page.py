"""A record in which everything that a page could trip over is as long, as odd or as empty as it can be."""

from __future__ import annotations

from dataclasses import replace

from lwq.record.record import Record
from tests.sample_record import sample_record

_MARKUP = (
    "</svg></table></details></main><script>fetch('https://evil.example/')</script><img src=https://evil.example/x.png>"
)
_NAMES = (
    "W" * 160, _MARKUP, "模型" * 40, "a\x00b\u202eright to left\u2028line", "$\\frac{1}{2}$ _x_ `y`", "[x](https://evil.example)",
    "![x](https://evil.example/x.png)", "-", "&lt;b&gt;", "https://evil.example/" + "q" * 120,
)  # fmt: skip


def hostile_record() -> Record:
    """The sample with such names, texts and recipe; whatever it says is to be shown and not obeyed."""
    record = sample_record()
    names = dict(zip((row.name for row in record.rows), _NAMES, strict=True))
    rows = tuple(replace(row, name=names[row.name], file=f"{names[row.name]}.gguf") for row in record.rows)
    verdicts = tuple(replace(v, row=names[v.row], reason=_MARKUP * 2) for v in record.selection.verdicts)
    unbroken = f"{_MARKUP}\n\n{'x' * 500}\n\n![logo](https://evil.example/logo.png)"
    return replace(
        record,
        rows=rows,
        selection=replace(record.selection, verdicts=verdicts),
        recipe=f"{'y' * 900}\n```\n{_MARKUP}\n",
        card=replace(record.card, title=_MARKUP + "T" * 90, description=unbroken, author=_MARKUP),
        model=replace(record.model, notes=(_MARKUP, "z" * 300)),
    )
