"""What the Hub takes as a language and a repository."""

from __future__ import annotations

import pytest

from lwq.record.hub_terms import (
    hub_label,
    is_language,
    language_of,
    licence_of,
    licences_in,
    repository_of,
    stated_languages,
    stated_licence,
)


@pytest.mark.parametrize(
    ("stated", "code"),
    [("en", "en"), ("English", "en"), ("zh-CN", "zh"), ("pt_BR", "pt"), ("no", "no"), ("yue", "yue"), (" DE ", "de"),
     ("Klingonese tongue", ""), ("xq", ""), ("", ""), ("e", "")],
)  # fmt: skip
def test_languages_are_codes_or_mapped_to_them(stated: str, code: str) -> None:
    assert language_of(stated) == code
    assert not code or is_language(code)


def test_what_is_no_language_is_told_apart_and_codes_stand_once() -> None:
    assert stated_languages(("English", "en", "zh-CN", "??")) == (("en", "zh"), ("??",))


@pytest.mark.parametrize(
    ("stated", "repository"),
    [
        ("a/b", "a/b"),
        ("https://huggingface.co/HuggingFaceTB/SmolLM2-135M/", "HuggingFaceTB/SmolLM2-135M"),
        ("https://huggingface.co/a/b/tree/main", "a/b"),
        ("http://hf.co/a/b?x=1", "a/b"),
        ("huggingface.co/a/b.git", "a/b"),
        ("https://example.com/a/b", ""),
        ("a/b/c", ""),
        ("b", ""),
        ("a--b/c", ""),
        ("a/b..c", ""),
        ("-a/b", ""),
        ("a-/b", ""),
        ("a/b.", ""),
        ("ä/b", ""),
        ("a/" + "b" * 96, "a/" + "b" * 96),
        ("a/" + "b" * 97, ""),
        ("", ""),
    ],
)
def test_addresses_are_cut_to_owner_and_name(stated: str, repository: str) -> None:
    assert repository_of(stated) == repository


@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("M-7B-Q4_K_M.gguf", "Q4_K_M"),
        ("M-7B-Q4_K_M_LWQ.gguf", "Q4_K_M_LWQ"),
        ("M-7B-Q4_K_M_LWQPRUNED2.gguf", "Q4_K_M_LWQPRUNED"),
        ("m-7b-q4_k_m-by-hand.gguf", "Q4_K_M"),
        ("M-F32-IQ3_XXS_LWQ-00001-of-00002.gguf", "IQ3_XXS_LWQ"),
        ("M-UD-Q2_K_XL.gguf", "UD-Q2_K_XL"),
        ("M-Q2_K_S_LWQ.gguf", "Q2_K_S"),
        ("M-lwq-12GiB.gguf", ""),
    ],
)
def test_a_label_is_the_last_ftype_of_a_name_with_the_word_tied_to_it(file: str, label: str) -> None:
    assert hub_label(file) == label


@pytest.mark.parametrize(
    ("stated", "licence"),
    [
        ("apache-2.0", "apache-2.0"),
        ("Apache 2.0", "apache-2.0"),
        ("Apache License, Version 2.0", "apache-2.0"),
        ("The MIT License", "mit"),
        ("MIT Licence", "mit"),
        ("CC-BY-SA-4.0", "cc-by-sa-4.0"),
        ("GPL v3.0", "gpl-3.0"),
        ("openrail++", "openrail++"),
        ("My own licence", ""),
        ("", ""),
    ],
)
def test_licences_are_known_as_they_are_spoken_of(stated: str, licence: str) -> None:
    assert licence_of(stated) == licence


def test_one_licence_is_one_and_several_are_none() -> None:
    assert licences_in("GPL-2.0 or later") == ("GPL-2.0 or later",)
    assert licences_in("mit, Apache 2.0") == ("mit", "apache-2.0")
    assert stated_licence(("MIT License", "mit")) == ("mit", ())
    assert stated_licence(("mit", "apache-2.0")) == ("", ("mit", "apache-2.0"))
    assert stated_licence(("MIT or Apache-2.0",)) == ("", ("mit", "apache-2.0"))
    assert stated_licence(("My own",)) == ("My own", ())
    assert stated_licence(()) == stated_licence(("",)) == ("", ())
