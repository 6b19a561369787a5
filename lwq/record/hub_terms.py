"""What the Hugging Face Hub takes as a language and as a repository, and what others write for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

REPOSITORY: Final = re.compile(
    r"(?!.*(?:--|\.\.|[.-]/|[.-]$|\.git$))(?=[^/]{1,96}/[^/]{1,96}$)[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII
)
"""As huggingface_hub's ``validate_repo_id``, with an owner."""
_TWO_LETTERS: Final = frozenset(
    re.findall(
        "[a-z]{2}",
        "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz "
        "ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik "
        "io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml "
        "mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd "
        "se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi "
        "vo wa wo xh yi yo za zh zu",
    )
)
"""ISO 639-1."""
_NAMES: Final = {
    "arabic": "ar", "bengali": "bn", "bulgarian": "bg", "catalan": "ca", "chinese": "zh", "croatian": "hr",
    "czech": "cs", "danish": "da", "dutch": "nl", "english": "en", "finnish": "fi", "french": "fr", "german": "de",
    "greek": "el", "hebrew": "he", "hindi": "hi", "hungarian": "hu", "indonesian": "id", "italian": "it",
    "japanese": "ja",
    "korean": "ko", "malay": "ms", "norwegian": "no", "persian": "fa", "polish": "pl", "portuguese": "pt",
    "romanian": "ro", "russian": "ru", "serbian": "sr", "slovak": "sk", "spanish": "es", "swahili": "sw",
    "swedish": "sv", "tamil": "ta", "telugu": "te", "thai": "th", "turkish": "tr", "ukrainian": "uk", "urdu": "ur",
    "vietnamese": "vi",
}  # fmt: skip
_LABEL: Final = re.compile(
    "(?:UD-)?(?:F32|F16|Q4_0|Q4_1_SOME_F16|Q4_1|Q4_2|Q4_3|Q8_0|Q5_0|Q5_1|Q2_K|Q3_K_[SML]|Q4_K_[SM]|Q5_K_[SM]|Q6_K"
    "|IQ2_XXS|IQ2_XS|IQ3_XS|IQ3_XXS|IQ1_S|IQ4_NL|IQ3_[SM]|IQ2_[SM]|IQ4_XS|IQ1_M|BF16|TQ[12]_0|MXFP4_MOE|NVFP4"
    "|Q[12]_0|Q[34568]_K_XL|MXFP4)(?:_[A-Z]+)?"
)
_LICENCES: Final = frozenset(
    re.findall(
        r"\S+",
        "afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m "
        "bigscience-bloom-rail-1.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 "
        "c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 "
        "cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 "
        "cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m "
        "deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 "
        "fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research "
        "intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 "
        "lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 open-mdw openrail openrail++ osl-3.0 other pddl "
        "postgresql unknown unlicense wtfpl zlib",
    )
)
"""Identifiers of the Hub."""
_SEVERAL: Final = re.compile(r"\s*(?:[,;/|&\n]|\b(?:and|or)\b)\s*", re.IGNORECASE)
_HUB: Final = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE)


def hub_label(file: str) -> str:
    """What the Hub calls a GGUF by its file name, and people ask for behind a colon; empty where it sees no type.

    The last name of an ftype counts, with the word of letters that an underscore ties to it.

    Source: ``parseGGUFQuantLabel`` of the npm package @huggingface/gguf.
    """
    found = _LABEL.findall(file.upper())
    return found[-1] if found else ""


def is_language(code: str) -> bool:
    """Whether the Hub takes it: two letters of ISO 639-1, or three of ISO 639-2 and -3."""
    return code in _TWO_LETTERS or re.fullmatch("[a-z]{3}", code) is not None


def language_of(stated: str) -> str:
    """The code of a language that is stated as a code, with a region (``zh-CN``) or by its English name; else empty."""
    plain = stated.strip().lower()
    code = _NAMES.get(plain) or re.split("[-_]", plain)[0]
    return code if is_language(code) else ""


def repository_of(stated: str) -> str:
    """``OWNER/NAME`` of a repository on the Hub, from that or an address of it; empty where it is neither."""
    parts = _HUB.sub("", stated.strip()).split("?")[0].strip("/").removesuffix(".git").split("/")
    named = "/".join(parts[:2])
    is_address = _HUB.match(stated.strip()) is not None
    return named if REPOSITORY.fullmatch(named) and (is_address or len(parts) == 2) else ""


def stated_languages(stated: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(codes, what is none) of what a model states."""
    codes = [(s, language_of(s)) for s in stated]
    return tuple(dict.fromkeys(c for _, c in codes if c)), tuple(s for s, c in codes if not c)


def licence_of(stated: str) -> str:
    """The Hub's identifier of a licence (``MIT License``, ``Apache 2.0``); empty where it has none for it."""
    plain = re.sub(r"[^a-z0-9.+]+", "-", stated.lower()).strip("-.")
    spoken = re.sub(r"-+", "-", re.sub(r"\b(?:the|licen[cs]e|version|v(?=\d))(?![a-z])", "", plain)).strip("-.")
    return next((name for name in (plain, spoken) if name in _LICENCES), "")


def licences_in(stated: str) -> tuple[str, ...]:
    """The licences that a text names: several only where the Hub knows more than one of its parts."""
    parts = tuple(dict.fromkeys(known for part in _SEVERAL.split(stated) if (known := licence_of(part))))
    return parts if len(parts) > 1 and not licence_of(stated) else (stated,)


def stated_licence(stated: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """(the licence, several that stand in its place) of what a model states."""
    named = (part.strip() for text in stated for part in licences_in(text))
    found = tuple(dict.fromkeys(licence_of(name) or name for name in named if name))
    return (found[0], ()) if len(found) == 1 else ("", found)
