"""What the Hugging Face Hub takes as a language and as a repository, and what others write for it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
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
