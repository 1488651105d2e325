"""The settings of a project: the sections of `lmsi.toml` with their defaults, ranges and meanings.

The text under each field is its help, which `lmsi-tui settings` prints. Types and ranges are those
of the fields; `_conflicts` has the rules that involve more than one setting.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal, get_type_hints

from msgspec import Meta

from engine.project.objectives import ContrastLoss, Objective
from engine.project.setting_values import (
    SHOWN,
    Fault,
    converted,
    exact_share,
    sentences,
    suggestion,
)
from store.enums import Counting, EarlyStop, PromptFormat, Weighting
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANY = 1_000_000_000
"""Limit of counts without a smaller one."""
Count = Annotated[int, Meta(ge=0, le=MANY)]
CountFrom1 = Annotated[int, Meta(ge=1, le=MANY)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Engine(StrEnum):
    """Software that generates text with a model."""

    AUTO = "auto"
    TRANSFORMERS = "transformers"
    LLAMA_CPP = "llama.cpp"
    SERVER = "server"
    SCRIPTED = "scripted"


class StyleChoice(StrEnum):
    """How questions are put to a model. The values are those of `PromptStyle`, and `auto`."""

    AUTO = "auto"
    BASE = "base"
    CHAT = "chat"


class Products(StrEnum):
    """How transformers computes the matrix products of sampling on a processor."""

    FLOAT = "float"
    INT8 = "int8"


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
    """`auto` uses transformers for a Hugging Face folder, the faster of transformers and llama.cpp
    for a GGUF file (measured once per machine; transformers needs a converted copy, which is made
    if there is much to sample), and a server for an address. `server` sends the local teacher and
    its adapters to `servers`."""
    servers: tuple[str, ...] = ()
    """Base URLs that serve the teacher, such as `http://node1:8000/v1`. Append `#` and the model's
    name if a server has several models. Empty uses the address that was given to `init`."""
    batch: Annotated[int, Meta(ge=0, le=65536)] = 0
    """Paths decoded at the same time (per server); 0 lets the engine choose."""
    products: Products = Products.FLOAT
    """How transformers multiplies when it samples on a processor: `int8` rounds weights and
    activations to 8 bits, which takes less time and memory but changes probabilities slightly."""
    threads: Annotated[int, Meta(ge=0, le=4096)] = 0
    """Processor threads; 0 uses all."""


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """`[sample]`: how paths are sampled and when a vote is decided."""

    m: Annotated[int, Meta(ge=1, le=1024)] = 32
    """Paths per question, 1 to 1024 (the paper: 32)."""
    temperature: Annotated[float, Meta(ge=0, le=5)] = 0.7
    """Sampling temperature, above 0 and at most 5 (the paper: 0.7); 0 only for a single path."""
    max_tokens: Count = 0
    """Longest path in tokens; longer paths are cut and abstain. 0 uses the task's default."""
    seed: Seed = 0
    """Random seed; the same seed samples the same paths again."""
    threshold: str = "0.6"
    """Share of the m paths that must agree; 0 keeps every plurality answer, as the paper does."""
    later_thresholds: tuple[str, ...] = ()
    """Thresholds of rounds 2, 3 and so on, such as `["0.7"]`: the last one holds for all later
    rounds. Empty keeps `threshold` in every round."""
    cap: Count = 8
    """Kept paths per question, in index order; 0 keeps all, as the paper does."""
    early_stop: EarlyStop = EarlyStop.EXACT
    """`exact` gives the result of all m paths: decision, label and kept paths; `fast` risks
    `epsilon` at each look; `off` samples all m paths."""
    epsilon: Annotated[float, Meta(gt=0, lt=0.5)] = 0.01
    """Probability of a different decision that `fast` accepts at one look, in (0, 0.5)."""
    format: PromptFormat = PromptFormat.FEW_SHOT_COT
    """Prompt format; the paper samples with `few-shot-cot`."""
    style: StyleChoice = StyleChoice.AUTO
    """`chat` uses the model's own chat template, `base` continues plain text, as the paper does.
    `auto` is `chat` for a model whose template can show the questions, and `base` for others."""
    thinking: bool = False
    """Let a model think first, if its chat template can switch that (Qwen 3, SmolLM 3): its paths
    are much longer. Only in style `chat`, and only where the format asks for reasoning."""
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    """Nucleus sampling, in (0, 1]; 1 is off, as in the paper."""
    top_k: Count = 0
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
    counting: Counting = Counting.PLAIN
    """`plain` gives each path one vote (the paper), `weighted` counts it by how sure the model was
    of it, compared with other paths of the question; `soft` also replaces the threshold: a question
    weighs as much as the share of its answer."""
    confidence_temperature: Annotated[float, Meta(gt=0, le=100)] = 0.1
    """Nats per token by which a path must be surer than another to count 2.7 times as much; only
    with `counting` weighted or soft."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """`[finetune]` and `[distill]`: how weights are trained."""

    method: TrainingMethod = "lora"
    """`lora`, `full`, or `qlora`: LoRA on a 4-bit base, on a CUDA device with bitsandbytes."""
    rank: Annotated[int, Meta(ge=1, le=65536)] = 16
    """Rank of the LoRA adapter, ≥ 1; a higher rank learns more and needs more memory."""
    alpha: Annotated[int, Meta(ge=1, le=65536)] = 32
    """Scale of the LoRA adapter; its output is multiplied by alpha / rank."""
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 2e-4
    """LoRA needs about ten times the rate of full fine-tuning (the paper: 5e-5, full)."""
    epochs: Annotated[float, Meta(gt=0, le=10_000)] = 3.0
    """Passes over the training set, above 0; a fraction uses that part of it."""
    examples_per_step: CountFrom1 = 32
    """Weighted examples per optimizer step (the paper: 32)."""
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    """Random seed of the order of the examples and of the initial LoRA weights."""
    patience: Count = 4
    """Validations in a row (of ten in a run) without a lower loss after which training stops early;
    0 never stops early. The best weights are kept either way."""
    precision: Precision = Precision.AUTO
    """`auto` computes in bfloat16 on a CUDA device that supports it, in float32 elsewhere."""
    processes: Annotated[int, Meta(ge=0, le=1024)] = 1
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
    paths_per_question: Count = 0
    """Maximum number of them per question; 0 is no limit (`distill` only)."""
    top_k_logits: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Also train on the teacher's k most likely tokens at each position of a path, such as 16; the
    tokenizers must be the same; 0 is off (`distill` only)."""
    mix: Share = 0.5
    """Weight of these tokens in the loss, in [0, 1]; the path itself has the rest."""
    objective: Objective = Objective.MAJORITY
    """`majority` learns the kept paths (the paper); `contrast` also makes the paths of losing
    answers less likely, each question weighted by the margin of its vote; `teach` learns along the
    losing paths what the model itself predicts with a kept path before it (`finetune` only)."""
    contrast_loss: ContrastLoss = ContrastLoss.AUTO
    """`kto` compares each path with the model before training, `dpo` each winning path with each
    losing one; `auto` is `kto` below 3 billion weights and `dpo` from there on."""
    beta: Annotated[float, Meta(gt=0, le=100)] = 0.1
    """How soon a contrast is satisfied: the larger, the closer the model stays to what it was."""
    likelihood_weight: Annotated[float, Meta(ge=0, le=1000)] = 1.0
    """Weight of the winning paths' own loss beside `dpo`, so that they do not become less
    likely."""
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
            and (name not in _OF_CONTRAST or self.objective is Objective.CONTRAST)
        }


_WITHOUT_EFFECT = ("processes", "machines", "sharded", "tensorboard", "too_long")
_BEFORE: dict[str, object] = {
    "patience": 0,
    "precision": Precision.AUTO,
    "top_k_logits": 0,
    "mix": 0.5,
    "objective": Objective.MAJORITY,
}
_OF_CONTRAST = ("contrast_loss", "beta", "likelihood_weight")
_NOTHING = object()


@dataclass(frozen=True, slots=True)
class EvaluateSettings:
    """`[evaluate]`: how models are measured."""

    k: Annotated[int, Meta(ge=1, le=1024)] = 8
    """Paths per question of self-consistency, ≥ 1."""
    temperature: Annotated[float, Meta(gt=0, le=10)] = 0.7
    """Temperature of the single path and of self-consistency, the same for every model."""
    limit: Count = 0
    """Number of evaluation questions to use, in order; 0 uses all."""
    seed: Seed = 1000003
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


def changed(
    settings: Settings,
    changes: Changes,
    file: Path | None = None,
) -> Settings:
    """Replace some settings and check the result.

    Args:
        settings: where `changes` does not name a setting, it keeps its value.
        changes: the new values.
        file: that the new values are from, for messages; None if they are from no file.

    Raises:
        BadInput: unknown sections or names, values of the wrong type or out of range, or values
            that do not fit together. All of them are named.
    """
    faults: list[Fault] = []
    sections = get_type_hints(Settings)
    replaced = {}
    for section, values in changes.items():
        if section not in sections:
            offer = suggestion(section, sections) or _places(section)
            names = offer or f"; there are {', '.join(sections)}"
            faults.append(Fault(section, "", f"{section!r} is not a section{names}."))
            continue
        if not isinstance(values, Mapping):
            sentence = f"{section} must be a section, such as [{section}]."
            faults.append(Fault(section, "", sentence))
            continue
        hints = get_type_hints(sections[section], include_extras=True)
        valid = {}
        for name, value in values.items():
            if name not in hints:
                offer = suggestion(name, hints) or _places(name)
                names = offer or f"; [{section}] has {', '.join(hints)}"
                sentence = f"{section}.{name} is not a setting{names}."
                faults.append(Fault(section, name, sentence))
                continue
            try:
                valid[name] = converted(value, hints[name], f"{section}.{name}")
                if (section, name) == ("sample", "threshold"):
                    exact_share(valid[name])
                if (section, name) == ("sample", "later_thresholds"):
                    for threshold in valid[name]:
                        exact_share(threshold, "sample.later_thresholds")
            except BadInput as error:
                faults.append(Fault(section, name, str(error)))
        replaced[section] = dataclasses.replace(getattr(settings, section), **valid)
    result = dataclasses.replace(settings, **replaced)
    wrong = {f"{fault.section}.{fault.name}" for fault in faults}
    for involved, sentence in _conflicts(result):
        if not wrong.intersection(involved):
            section, _, name = involved[0].partition(".")
            faults.append(Fault(section, name, sentence))
    if faults:
        raise BadInput(sentences(faults, file))
    return result


def _places(name: str) -> str:
    """A question that offers the settings of this name in other sections; "" if there are none."""
    places = [
        f"{section}.{name}"
        for section, hint in get_type_hints(Settings).items()
        if name in get_type_hints(hint)
    ]
    return f" (did you mean {' or '.join(places)}?)" if places else ""


def _conflicts(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Rules that involve more than one setting, which these settings break.

    Yields:
        The settings involved, the one to blame first, and a sentence.
    """
    sample, model = settings.sample, settings.model
    if sample.temperature == 0 and sample.m != 1:
        yield (
            ("sample.temperature", "sample.m"),
            "sample.temperature is 0: it must be above 0 unless sample.m is 1, since all paths "
            "would be the same.",
        )
    if (
        settings.curate.weighting is Weighting.BY_AGREEMENT
        and sample.early_stop is not EarlyStop.OFF
    ):
        yield (
            ("curate.weighting", "sample.early_stop"),
            "curate.weighting by-agreement needs every path: set sample.early_stop to off.",
        )
    counting = settings.curate.counting
    if counting is not Counting.PLAIN and sample.early_stop is not EarlyStop.OFF:
        yield (
            ("curate.counting", "sample.early_stop"),
            f"curate.counting {counting} needs every path: set sample.early_stop to off.",
        )
    if model.engine is Engine.SERVER and not model.servers:
        yield (
            ("model.engine", "model.servers"),
            "model.engine is server but model.servers is empty: give the servers' addresses.",
        )
    for address in model.servers:
        if "@" in address.partition("#")[0] or "?" in address.partition("#")[0]:
            # Not quoted: it may hold a password.
            yield (
                ("model.servers",),
                "model.servers has an address with a user, a password or a query: put the key into "
                "the environment variable LMSI_API_KEY.",
            )
        elif not address.startswith(("http://", "https://")):
            yield (
                ("model.servers",),
                f"model.servers has {address[:SHOWN]!r}: write an address like "
                "http://host:port/v1.",
            )
    if settings.finetune.top_k_logits:
        yield (
            ("finetune.top_k_logits",),
            "finetune.top_k_logits is set, but a model cannot be its own teacher: "
            "set it under [distill].",
        )
    if settings.distill.objective is not Objective.MAJORITY:
        yield (
            ("distill.objective",),
            f"distill.objective is {settings.distill.objective}, but students learn the teacher's "
            "kept paths only: set it under [finetune].",
        )
    for section in ("finetune", "distill"):
        train: TrainSettings = getattr(settings, section)
        if train.sharded and train.method != "lora":
            yield (
                (f"{section}.sharded", f"{section}.method"),
                f"{section}.sharded is true, but weights are sharded with method lora only: "
                f"{section}.method is {train.method}.",
            )
