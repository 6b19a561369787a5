"""What the converter says at last becomes a sentence with a way out."""

from __future__ import annotations

import pytest

from lwq.errors import ToolError
from lwq.llama.converter import complaint_of

_TRACE = """INFO:hf-to-gguf:Set model parameters
Traceback (most recent call last):
  File "convert_hf_to_gguf.py", line 306, in main
    model_instance.write()
    ~~~~~~~~~~~~~~~~~~~~^^
  File "conversion/deepseek.py", line 442, in modify_tensors
    assert data_torch.shape[0] == n_head_kv * (v_head_dim + qk_nope_head_dim)
           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
"""


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ("AssertionError\n", "at `assert data_torch.shape[0] == n_head_kv * (v_head_dim + qk_nope_head_dim)`"),
        ("AssertionError: Didn't find attn_layer_indices", "the converter: AssertionError: Didn't find attn_layer"),
        ("KeyError: 'rotary_pct'\n", "the converter misses 'rotary_pct', in config.json"),
        ("ValueError: Can not map tensor 'lora_A.weight'", "the converter knows no tensor 'lora_A.weight'"),
        ("FileNotFoundError: File not found: /some/where/tokenizer.model", "lacks tokenizer.model, which"),
        ("NotImplementedError: BPE pre-tokenizer was not recognized - update get_vocab_base_pre()", "its tokenizer"),
        ("struct.error: required argument is not a float", "is of another type than the converter expects"),
        ("ValueError: Tokenizer class Foo does not exist or is not currently imported.", "its tokenizer class Foo is"),
        ("AttributeError: GPT2TokenizerFast has no attribute mergeable_ranks", "with ranks of tiktoken"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
    ],
)
def test_the_last_line_is_told_in_words(last: str, told: str) -> None:
    said, hint = complaint_of(ToolError(f"{_TRACE}{last}"))
    assert told in said
    assert "/some/where" not in said
    assert hint


def test_a_model_that_is_refused_without_a_traceback_is_told_by_its_last_line() -> None:
    said, _ = complaint_of(ToolError("INFO:hf-to-gguf:x\nERROR:hf-to-gguf:Model PhimoeForCausalLM is not supported"))
    assert said.endswith("Model PhimoeForCausalLM is not supported")
