"""What a llama.cpp tool complains of, in a sentence with a way out; several of these exit with 0."""

from __future__ import annotations

import re
from typing import Final

USED_UP: Final = "the text has no two further windows"
_KNOWN: Final = (
    (
        r"there will be not enough tokens left after removing (\d+) chunks",
        USED_UP + " behind its first {0}",
        "give a longer text",
    ),
    (
        r"you need at least (\d+) tokens to evaluate perplexity with a context of (\d+)",
        "the text is too short: at least {0} tokens are needed for windows of {1}",
        "give a longer text, or lower n_ctx",
    ),
    (
        r"you need at least (\d+) tokens for a context of (\d+) tokens",
        "the text is too short: at least {0} tokens are needed for windows of {1}",
        "give a longer text, or lower n_ctx",
    ),
    (
        r"inconsistent vocabulary \((\d+) vs (\d+)\)",
        "the model's vocabulary of {1} tokens is not the base's of {0}",
        "only files of one model can be compared",
    ),
    (
        r"does not look like a file containing log-probabilities"
        r"|failed reading (?:log-probs|n_vocab|evaluation tokens)",
        "the stored log-probabilities are damaged",
        "`lwq cache gc` and run again",
    ),
    (
        r"has been computed with (\d+), while the current context is (\d+)",
        "the log-probabilities were stored in windows of {0} tokens, more than the context of {1}",
        "use the n_ctx that they were stored with",
    ),
    (
        r"unknown (?:model )?architecture: '([^']*)'",
        "llama.cpp does not know the architecture {0!r}",
        "only architectures of the pinned llama.cpp can be run; `lwq toolchain show` names its commit",
    ),
    (
        r"requantizing from type (\S+) is disabled",
        "the base is already quantized ({0})",
        "convert it to F16 first; `lwq run` does that by itself",
    ),
    (
        r"this quantization requires an imatrix",
        "the mixture needs an importance matrix",
        "set imatrix = true, or choose a type of more bits",
    ),
    (
        r"Missing importance matrix for tensor (\S+)",
        "the mixture needs an importance matrix with data for {0}",
        "set imatrix = true, collect on more text, or choose a type of more bits",
    ),
    (
        r"missing imatrix metadata in file (\S+)",
        "{0} is no importance matrix",
        "name the file that llama-imatrix wrote",
    ),
    (
        r"imatrix size (\d+) is different from tensor size (\d+) for (\S+)",
        "the importance matrix is of another model: {0} values for {2}, which has {1} channels",
        "collect it on this model",
    ),
    (
        r"imatrix mapping error for (\S+)",
        "the importance matrix has no entry for {0} after pruning",
        "collect it on this model",
    ),
    (
        r"non-finite values detected in (\S+)",
        "activations of {0} are not finite",
        'the model overflows F16; set base_type = "bf16"',
    ),
    (
        r"\[\d+\]-?nan,|Mean PPL\(Q\)\s*:\s*nan",
        "the model's predictions are not numbers (nan)",
        'activations beyond the range of F16, most likely: set base_type = "bf16"; or a damaged file',
    ),
    (
        r"GGML_ASSERT\(!llama_vocab_get_add_eos\(vocab\)\) failed",
        "the model's tokenizer adds an end token to every text (tokenizer.ggml.add_eos_token)",
        "set that key to false: python -m gguf.scripts.gguf_set_metadata FILE tokenizer.ggml.add_eos_token 0",
    ),
    (
        r"GGML_ASSERT\(id_to_token\.size\(\) == token_to_id\.size\(\)\) failed",
        "the model's vocabulary has a token twice",
        "mend the tokenizer in the model's Hugging Face folder and convert it anew",
    ),
    (
        r"key not found in model: (\S+)",
        "the model has no {0}, which llama.cpp reads of its architecture",
        "convert it anew; llama.cpp tells some models by how many layers they have, and no others are theirs",
    ),
    (
        r"error loading model vocabulary: unordered_map::at",
        "the vocabulary lacks a token that llama.cpp expects of a model of this name",
        "convert it anew with the tokenizer as its publisher ships it, or give it another general.name",
    ),
    (
        r"what\(\):\s+unordered_map::at",
        "the model's vocabulary has no token for a byte of the text",
        "convert it anew with the tokenizer as its publisher ships it",
    ),
    (
        r"(?:binary_op|unary_op): unsupported types:? (.*)",
        "the model has a tensor in a type that llama.cpp does not compute with ({0})",
        "convert it anew from its Hugging Face folder: norms and biases must be F32",
    ),
    (
        r"failed to (?:decode|eval)",
        "the model could not be computed",
        "too little memory? lower n_ctx, or use a machine with more",
    ),
    (
        r"task \d+ does not fit in the context window \(requires (\d+) tokens\)",
        "a task needs a context of {0} tokens",
        "raise n_ctx of the task set",
    ),
    (
        r"requires a higher -np\|--parallel value \(at least (\d+)\)",
        "a task has {0} choices, more than were prepared for",
        "report it: lwq sets -np from the items",
    ),
    (
        r"tensor '([^']*)' data is not within the file bounds",
        "the model is cut short: {0} reaches past the end of the file",
        "fetch or copy the model again",
    ),
    (
        r"basic_ios::clear: iostream error",
        "the file could not be written",
        "is the disk full? free some room (`lwq cache gc`), or set LWQ_HOME to a larger disk",
    ),
    (
        r"No space left on device",
        "the disk is full",
        "free some room (`lwq cache gc`), or set LWQ_HOME to a larger disk",
    ),
    (
        r"unable to allocate|failed to allocate|cannot allocate memory|out of memory",
        "too little memory",
        "close other programs, lower n_ctx, or use a machine with more",
    ),
    (
        r"(?:failed to load model|unable to load model|error loading model: (.*))",
        "llama.cpp cannot load the model {0}",
        "`lwq inspect` says what the file holds",
    ),
    (r"failed to open ([^\n]+)", "cannot open {0}", "report it: lwq gives every input a name in its folder"),
)


_METADATA: Final = re.compile(r"^llama_model_loader: - kv .*$", re.MULTILINE)


def complaint(text: str) -> tuple[str, str] | None:
    """(message, hint) of the first known complaint in a tool's output, or None.

    The model's own metadata, which llama-quantize prints, is not searched.
    """
    text = _METADATA.sub("", text)
    for pattern, message, hint in _KNOWN:
        if match := re.search(pattern, text, re.MULTILINE):
            return message.format(*(group or "" for group in match.groups())).rstrip(), hint
    return None
