"""The settings of a project: the sections of `lmsi.toml` with their defaults, ranges and meanings.

The text under each field is its help, which `lmsi-tui settings` prints. msgspec checks types and
ranges; `_check` checks rules that involve more than one setting.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from store.enums import EarlyStop, PromptFormat, PromptStyle, Weighting
from store.errors import BadInput

AtLeast0 = Annotated[int, Meta(ge=0)]
AtLeast1 = Annotated[int, Meta(ge=1)]
Above0 = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Engine(StrEnum):
    """Software that generates text with a model."""

    AUTO = "auto"
    TRANSFORMERS = "transformers"
    LLAMA_CPP = "llama.cpp"
    SERVER = "server"
    SCRIPTED = "scripted"


class Precision(StrEnum):
    """Number type of the forward and backward pass; trained weights are always float32."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


TrainingMethod = Literal["lora", "qlora", "full"]
"""What is trained: an adapter, an adapter on a 4-bit base, or all weights."""


class PathChoice(StrEnum):
    """Which of the teacher's kept paths a student is trained on."""

    ALL = "all"
    FIRST = "first"
    SHORTEST = "shortest"


class TooLong(StrEnum):
    """What happens to examples longer than the model's context; examples are never truncated."""

    LEAVE_OUT = "leave-out"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """`[model]`: which models are sampled and trained, and how they are run."""

    teacher: str = ""
    """Name of the model that samples, votes and is fine-tuned first."""
    students: tuple[str, ...] = ()
    """Names of smaller models that are trained on the teacher's kept paths."""
    engine: Engine = Engine.AUTO
    """`auto` uses transformers for a Hugging Face folder, llama.cpp for a GGUF file, the faster of
    the two if both exist (measured once per machine), and a server for an address. `server` sends
    the local teacher and its adapters to `servers`."""
    servers: tuple[str, ...] = ()
    """Base URLs that serve the teacher, such as `http://node1:8000/v1`. Append `#` and the model's
    name if a server has several models. Empty uses the address that was given to `init`."""
    batch: int = 0
    """Paths decoded at the same time (per server); 0 lets the engine choose."""
    threads: int = 0
    """Processor threads; 0 uses all."""


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """`[sample]`: how paths are sampled and when a vote is decided."""

    m: Annotated[int, Meta(ge=1, le=1024)] = 32
    """Paths per question, 1 to 1024 (the paper: 32)."""
    temperature: Annotated[float, Meta(le=5)] = 0.7
    """Sampling temperature, above 0 and at most 5 (the paper: 0.7)."""
    max_tokens: AtLeast0 = 0
    """Longest path in tokens; longer paths are cut and abstain. 0 uses the task's default."""
    seed: int = 0
    """Random seed; the same seed samples the same paths again."""
    threshold: str = "0.6"
    """Share of the m paths that must agree; 0 keeps every plurality answer, as the paper does."""
    cap: AtLeast0 = 8
    """Kept paths per question, in index order; 0 keeps all, as the paper does."""
    early_stop: EarlyStop = EarlyStop.EXACT
    """`exact` gives the decision, label and kept paths of the full m; `fast` risks `epsilon` at
    each look; `off` samples all m paths."""
    epsilon: Annotated[float, Meta(gt=0, lt=0.5)] = 0.01
    """Probability of a different decision that `fast` accepts at one look, in (0, 0.5)."""
    format: PromptFormat = PromptFormat.FEW_SHOT_COT
    """Prompt format; the paper samples with `few-shot-cot`."""
    style: PromptStyle = PromptStyle.BASE
    """`base` continues plain text, `chat` uses the model's own chat template."""
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Nucleus sampling, in (0, 1]; 1 is off, as in the paper."""
    top_k: AtLeast0 = 0
    """Sample from the k most likely tokens; 0 is off."""
    min_p: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """Smallest probability relative to the most likely token, in [0, 1); 0 is off."""
    exemplars: str = ""
    """TOML file of your own worked examples, relative to the project; empty uses the task's."""


@dataclass(frozen=True, slots=True)
class CurateSettings:
    """`[curate]`: how kept paths become training data."""

    formats: Annotated[tuple[PromptFormat, ...], Meta(min_length=1)] = tuple(PromptFormat)
    """Prompt formats in which each kept path is trained; the paper mixes all four."""
    weighting: Weighting = Weighting.PER_PATH
    """`per-path` (the paper) weights every kept path equally, `per-question` every question."""
    validation_share: Annotated[float, Meta(ge=0, le=0.5)] = 0.05
    """Share of the kept questions held out to choose the checkpoint, in [0, 0.5]."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """`[finetune]` and `[distill]`: how weights are trained."""

    method: TrainingMethod = "lora"
    """`lora`, `full`, or `qlora`: LoRA on a 4-bit base, on a CUDA device with bitsandbytes."""
    rank: AtLeast1 = 16
    """Rank of the LoRA adapter, ≥ 1; a higher rank learns more and needs more memory."""
    alpha: int = 32
    """Scale of the LoRA adapter; its output is multiplied by alpha / rank."""
    learning_rate: Above0 = 2e-4
    """LoRA needs about ten times the rate of full fine-tuning (the paper: 5e-5, full)."""
    epochs: Above0 = 3.0
    """Passes over the training set, above 0; a fraction uses that part of it."""
    examples_per_step: AtLeast1 = 32
    """Weighted examples per optimizer step (the paper: 32)."""
    seed: int = 0
    """Random seed of the order of the examples and of the initial LoRA weights."""
    patience: AtLeast0 = 4
    """Validations in a row (of ten in a run) without a lower loss after which training stops early;
    0 never stops early. The best weights are kept either way."""
    precision: Precision = Precision.AUTO
    """`auto` computes in bfloat16 on a CUDA device that supports it, in float32 elsewhere."""
    processes: AtLeast0 = 1
    """Processes that share each step, one per GPU; 0 uses every GPU of this machine. The result is
    the same except for floating-point rounding."""
    machines: str = ""
    """File written by `accelerate config`, relative to the project, to train on several machines;
    it also sets the number of processes."""
    sharded: bool = False
    """Shard the frozen weights across the processes (FSDP), for a model that does not fit one GPU;
    only with method `lora`."""
    tensorboard: bool = False
    """Also write metrics as TensorBoard event files, under logs/tensorboard."""
    paths: PathChoice = PathChoice.ALL
    """Which kept paths to train on (`distill` only)."""
    paths_per_question: AtLeast0 = 0
    """Maximum number of them per question; 0 is no limit (`distill` only)."""
    top_k_logits: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Also train on the teacher's k most likely tokens at each position of a path, such as 16; the
    tokenizers must be the same; 0 is off (`distill` only)."""
    mix: Share = 0.5
    """Weight of these tokens in the loss, in [0, 1]; the path itself has the rest."""
    too_long: TooLong = TooLong.LEAVE_OUT
    """Examples longer than the model's context: `leave-out` skips and counts them, `refuse` stops
    before training; examples are never truncated. `--plan` lists them."""

    @property
    def adapts(self) -> bool:
        """Whether an adapter is trained and the base stays unchanged."""
        return self.method != "full"

    def deciding(self) -> dict[str, object]:
        """The settings that decide the result, by name: they identify a training run.

        Settings of speed and place are left out. Newer settings are left out, too, while they have
        the value that training used before they existed, so that older runs are still recognized.
        """
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if name not in _WITHOUT_EFFECT
            and value != _BEFORE.get(name, _NOTHING)
            and (name != "mix" or self.top_k_logits)
        }


_WITHOUT_EFFECT = ("processes", "machines", "sharded", "tensorboard", "too_long")
_BEFORE: dict[str, object] = {
    "patience": 0,
    "precision": Precision.AUTO,
    "top_k_logits": 0,
    "mix": 0.5,
}
_NOTHING = object()


@dataclass(frozen=True, slots=True)
class EvaluateSettings:
    """`[evaluate]`: how models are measured."""

    k: AtLeast1 = 8
    """Paths per question of self-consistency, ≥ 1."""
    temperature: Above0 = 0.7
    """Temperature of the single path and of self-consistency, the same for every model."""
    limit: AtLeast0 = 0
    """Number of evaluation questions to use, in order; 0 uses all."""
    seed: int = 1000003
    """Random seed of the measured paths; different from the seed of the training paths."""
    ood: bool = True
    """Also measure out-of-domain questions, if there are any."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything in `lmsi.toml`."""

    model: ModelSettings = field(default_factory=ModelSettings)
    sample: SampleSettings = field(default_factory=SampleSettings)
    curate: CurateSettings = field(default_factory=CurateSettings)
    finetune: TrainSettings = field(default_factory=TrainSettings)
    distill: TrainSettings = field(
        default_factory=lambda: TrainSettings(method="full", learning_rate=5e-4)
    )
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)


Changes = Mapping[str, Mapping[str, object]]
"""Some settings, by section and name, with values as TOML has them."""

PRESETS: Mapping[str, Changes] = {
    "paper": {
        "sample": {
            "m": 32,
            "temperature": 0.7,
            "threshold": "0",
            "cap": 0,
            "early_stop": "off",
            "format": "few-shot-cot",
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
        },
        "curate": {
            "formats": ["few-shot-cot", "few-shot-direct", "zero-shot-cot", "zero-shot-direct"],
            "weighting": "per-path",
        },
    },
}
"""Settings that can be chosen together, by name.

`paper` samples and selects as the paper does: 32 paths at temperature 0.7, of which
every path with the plurality answer is kept, at any agreement, and trained in all four formats.
"""


def changed(settings: Settings, changes: Changes, where: str = "") -> Settings:
    """Replace some settings and check the result.

    Args:
        settings: where `changes` does not name a setting, it keeps its value.
        changes: the new values.
        where: start of an error message, such as `my-project/lmsi.toml: `.

    Raises:
        BadInput: an unknown section or name, or a value of the wrong type or out of range.
    """
    sections = get_type_hints(Settings)
    replaced = {}
    for section, values in changes.items():
        if section not in sections:
            raise BadInput(f"{where}{section!r} is not a section; there are {', '.join(sections)}.")
        if not isinstance(values, Mapping):
            raise BadInput(f"{where}{section} must be a section, such as [{section}].")
        hints = get_type_hints(sections[section], include_extras=True)
        converted = {}
        for name, value in values.items():
            if name not in hints:
                raise BadInput(
                    f"{where}{section}.{name} is not a setting; [{section}] has {', '.join(hints)}."
                )
            converted[name] = _convert(value, hints[name], f"{where}{section}.{name}")
        replaced[section] = dataclasses.replace(getattr(settings, section), **converted)
    result = dataclasses.replace(settings, **replaced)
    _check(result, where)
    return result


def exact_share(text: str) -> Fraction:
    """A threshold as an exact fraction: `ceil(0.28 * 25)` in floats is wrong.

    Raises:
        BadInput: not a number in [0, 1].
    """
    try:
        share = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise BadInput(f"sample.threshold is {text!r}: give a share such as 0.6 or 3/5.") from None
    if not 0 <= share <= 1:
        raise BadInput(f"sample.threshold is {text}: it must lie between 0 and 1.")
    return share


def choices(hint: Any) -> tuple[str, ...]:
    """The values that a setting of this type can have, if they can be listed."""
    if hint is bool:
        return ("true", "false")
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(hint) if isinstance(hint, type) and issubclass(hint, StrEnum) else ()


_IN_WORDS = {
    "Expected ": "must be ",
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "text",
    "`bool`": "true or false",
    "`array`": "a list",
    " of length >= 1": " that is not empty",
}


def _convert(value: object, hint: Any, label: str) -> Any:
    """Convert a TOML value to a setting's type; numbers become text where text is expected."""
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    item = get_args(plain)[0] if get_origin(plain) is tuple else plain
    given = value
    if item is str:
        value = [_text(part) for part in value] if isinstance(value, list) else _text(value)
    try:
        return msgspec.convert(value, hint)
    except UnicodeEncodeError:
        raise BadInput(f"{label} is {given!r}: it is not Unicode text.") from None
    except msgspec.ValidationError as error:
        reason = str(error).partition(" - at ")[0].partition(", got ")[0]
        if item is not bool and choices(item) and not reason.startswith("Expected `array`"):
            reason = f"must be one of {', '.join(choices(item))}"
        for technical, words in _IN_WORDS.items():
            reason = reason.replace(technical, words)
        raise BadInput(f"{label} is {given!r}: it {reason}.") from None


def _text(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if number else value


def _check(settings: Settings, where: str) -> None:
    """Check the rules that involve more than one setting."""
    sample, model = settings.sample, settings.model
    try:
        exact_share(sample.threshold)
    except BadInput as failure:
        raise BadInput(f"{where}{failure}") from None
    if sample.temperature <= 0 and sample.m != 1:
        raise BadInput(
            f"{where}sample.temperature is {sample.temperature}: paths differ only above 0."
        )
    if (
        settings.curate.weighting is Weighting.BY_AGREEMENT
        and sample.early_stop is not EarlyStop.OFF
    ):
        raise BadInput(
            f"{where}curate.weighting by-agreement needs every path: set sample.early_stop to off."
        )
    if model.engine is Engine.SERVER and not model.servers:
        raise BadInput(
            f"{where}model.engine is server but model.servers is empty: "
            "give the servers' addresses."
        )
    if settings.finetune.top_k_logits:
        raise BadInput(
            f"{where}finetune.top_k_logits is set, but a model cannot be its own teacher: "
            "set it under [distill]."
        )
