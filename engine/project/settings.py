"""A project: one folder with its settings, its database and the models it made.

    my-project/
      lmsi.toml     settings, written by a person or by the program
      lmsi.db       everything that is known
      models/ adapters/ exports/ logs/

Settings are read here and nowhere else; every field says what it means and what it may be, and a
wrong one is refused with its name before any work starts.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from store.connection import DATABASE
from store.enums import EarlyStop, PromptFormat, PromptStyle, Weighting
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = "lmsi.toml"
FOLDERS = ("models", "adapters", "exports", "logs")


class Engine(StrEnum):
    """What turns prompts into paths."""

    AUTO = "auto"
    TRANSFORMERS = "transformers"
    LLAMA_CPP = "llama.cpp"
    SERVER = "server"
    SCRIPTED = "scripted"


class Precision(StrEnum):
    """In which numbers a training computes; what is learnt is always float32."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


METHODS = ("lora", "qlora", "full")
"""How weights are learnt: an adapter, an adapter on a base in 4 bits, or all of them."""


class PathChoice(StrEnum):
    """Which of the teacher's kept paths a student learns from."""

    ALL = "all"
    FIRST = "first"
    SHORTEST = "shortest"


class TooLong(StrEnum):
    """What becomes of examples that do not fit into the model's context; none is ever cut."""

    LEAVE_OUT = "leave-out"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """`[model]`: what is sampled and trained."""

    teacher: str = ""
    """Name of the model that samples, votes and is fine-tuned first."""
    students: tuple[str, ...] = ()
    """Names of smaller models that learn from the teacher's kept paths."""
    engine: Engine = Engine.AUTO
    """`auto` takes transformers for a Hugging Face folder, llama.cpp for a GGUF alone, the faster
    of the two where both are there (measured once on a machine), and a server for an address.
    `server` sends the teacher and its adapters, which lie here, to `servers`."""
    servers: tuple[str, ...] = ()
    """Base URLs that serve the teacher, such as `http://node1:8000/v1`, each with the model's name
    behind `#` where a server has several; empty takes the address that `init` was given."""
    batch: int = 0
    """Paths decoded at once (at each server); 0 lets the engine choose."""
    threads: int = 0
    """Processor threads; 0 is all of them."""


@dataclass(frozen=True, slots=True)
class SampleSettings:
    """`[sample]`: how paths are drawn and when a vote stands."""

    m: int = 32
    """Paths per question, 1 to 1024 (the paper: 32)."""
    temperature: float = 0.7
    """Above 0 (the paper: 0.7)."""
    max_tokens: int = 0
    """Longest path in tokens; longer ones are cut and abstain. 0 takes what the task needs."""
    seed: int = 0
    """Where the paths come from: the same seed draws the same paths again."""
    threshold: str = "0.6"
    """Share of the m paths that must agree; 0 keeps every plurality answer, as the paper does."""
    cap: int = 8
    """Kept paths per question, in index order; 0 keeps all, as the paper does."""
    early_stop: EarlyStop = EarlyStop.EXACT
    """`exact` keeps decision, label and kept paths of the full m; `fast` risks `epsilon` a look."""
    epsilon: float = 0.01
    """Chance of another decision that `fast` accepts at one look, in (0, 0.5)."""
    format: PromptFormat = PromptFormat.FEW_SHOT_COT
    """How the model is asked; the paper samples with `few-shot-cot`."""
    style: PromptStyle = PromptStyle.BASE
    """`base` continues plain text, `chat` fills the model's own chat template."""
    top_p: float = 1.0
    """1 is off, as in the paper; in (0, 1]."""
    top_k: int = 0
    """0 is off."""
    min_p: float = 0.0
    """0 is off; in [0, 1)."""
    exemplars: str = ""
    """TOML file of your own worked examples, relative to the project; empty takes the preset's."""


@dataclass(frozen=True, slots=True)
class CurateSettings:
    """`[curate]`: what becomes training data."""

    formats: tuple[PromptFormat, ...] = tuple(PromptFormat)
    """In which ways each kept path is taught; the paper mixes all four."""
    weighting: Weighting = Weighting.PER_PATH
    """`per-path` (the paper) counts every kept path, `per-question` every question once."""
    validation_share: float = 0.05
    """Share of the kept questions held out to choose the checkpoint, in [0, 0.5]."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """`[finetune]` and `[distill]`: how weights are learnt."""

    method: str = "lora"
    """`lora`, `full`, or `qlora`: LoRA on a base in 4 bits, on a CUDA device with bitsandbytes."""
    rank: int = 16
    """Width of the LoRA adapter, ≥ 1; more learns more and takes more memory."""
    alpha: int = 32
    """Scale of the LoRA adapter; it is multiplied by alpha / rank."""
    learning_rate: float = 2e-4
    """LoRA wants about ten times the rate of full fine-tuning (the paper: 5e-5, full)."""
    epochs: float = 3.0
    """Times that the training set is gone through, above 0; a fraction takes that part of it."""
    examples_per_step: int = 32
    """Weighted examples behind one optimizer step (the paper: 32)."""
    seed: int = 0
    """Of the order of the examples and of the first LoRA weights."""
    patience: int = 4
    """Validations in a row (of ten in a run) without a lower loss after which training ends early;
    0 never does. The best weights are written either way."""
    precision: Precision = Precision.AUTO
    """`auto` computes in bfloat16 on a CUDA device that has it, in float32 elsewhere."""
    processes: int = 1
    """Processes that share each step, one for each GPU; 0 takes every GPU of this machine. The
    result is the same but for the rounding of sums."""
    machines: str = ""
    """File that `accelerate config` wrote, relative to the project, for several machines; it says
    how many processes there are."""
    sharded: bool = False
    """Divide the frozen weights of the layers among the processes (FSDP), for a model that does not
    fit one GPU; only with method `lora`."""
    tensorboard: bool = False
    """Write metrics as TensorBoard event files too, under logs/tensorboard."""
    paths: PathChoice = PathChoice.ALL
    """Which kept paths are learnt from (`distill` only)."""
    paths_per_question: int = 0
    """At most this many of them; 0 is no limit (`distill` only)."""
    top_k_logits: int = 0
    """Learn from the teacher's k likeliest tokens at each place of a path, too, such as 16; the
    tokenizers must be the same; 0 is off (`distill` only)."""
    mix: float = 0.5
    """Share of the loss that these tokens have, in [0, 1]; the path itself has the rest."""
    too_long: TooLong = TooLong.LEAVE_OUT
    """Examples that do not fit into the model's context: `leave-out` trains without them and counts
    them, `refuse` starts no training; none is ever cut. `--plan` lists them."""

    @property
    def adapts(self) -> bool:
        """Whether an adapter is learnt, and the base is left as it is."""
        return self.method != "full"

    def deciding(self) -> dict[str, object]:
        """What decides the result, by name: what names a training and its checkpoints.

        Settings that only say where and how fast are not in it. Those that came later are not
        either while they are as trainings were before them, so that what was trained is found.
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

    k: int = 8
    """Paths per question of self-consistency, ≥ 1."""
    temperature: float = 0.7
    """Of the single path and of self-consistency, the same for every model."""
    limit: int = 0
    """Evaluation questions to use, in their order; 0 is all."""
    seed: int = 1000003
    """Of the paths that are measured; another than the one that is trained on."""
    ood: bool = True
    """Measure out-of-domain questions too, where there are some."""


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


PAPER = SampleSettings(threshold="0", cap=0, early_stop=EarlyStop.OFF)
"""The preset `paper`: every path that reached the plurality answer, at any agreement."""


@dataclass(frozen=True, slots=True)
class Project:
    """A folder and its settings."""

    folder: Path
    settings: Settings

    @property
    def database(self) -> Path:
        """Where everything that is known lies."""
        return self.folder / DATABASE

    def inside(self, location: str) -> Path:
        """A stored location as a path: relative ones are relative to the project."""
        return self.folder / location

    def stored(self, path: Path) -> str:
        """A path as it is stored: relative when it lies in the project."""
        absolute = path.resolve()
        folder = self.folder.resolve()
        return (
            str(absolute.relative_to(folder)) if absolute.is_relative_to(folder) else str(absolute)
        )


def open_project(folder: Path) -> Project:
    """Read a project's settings.

    Raises:
        BadInput: no such folder, no settings in it, or a setting that cannot be.
    """
    path = folder / SETTINGS
    if not folder.exists():
        raise BadInput(f"There is no project at {folder}: make one with `lmsi-tui init {folder}`.")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(
            f"{folder} is not a project, it has no {SETTINGS}: "
            f"make one with `lmsi-tui init {folder} --model PATH`."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}.") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not valid TOML: {error}; mend that line.") from None
    settings = _build(Settings, values, f"{path}:", Settings())
    _check(settings, path)
    return Project(folder, settings)


def create_project(folder: Path, settings: Settings) -> Project:
    """Make the folder and its settings; an existing project's settings are left alone."""
    _check(settings, folder / SETTINGS)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FOLDERS:
            (folder / name).mkdir(exist_ok=True)
        if not (folder / SETTINGS).exists():
            save_settings(folder, settings)
    except (FileExistsError, NotADirectoryError):
        raise BadInput(f"{folder} is a file: give a folder for the project.") from None
    except OSError as error:
        raise BadInput(f"The project folder {folder} cannot be made: {error.strerror}.") from None
    return open_project(folder)


def save_settings(folder: Path, settings: Settings) -> None:
    """Write the settings, keeping comments that a person put into the file."""
    import tomlkit

    path = folder / SETTINGS
    document = tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else None
    if document is None:
        document = tomlkit.document()
        document.add(tomlkit.comment("Settings of this project; every one is explained by"))
        document.add(tomlkit.comment("`lmsi-tui settings`."))
    for section, values in dataclasses.asdict(settings).items():
        table = document.setdefault(section, tomlkit.table())
        for name, value in values.items():
            table[name] = list(value) if isinstance(value, tuple) else _plain(value)
    temporary = path.with_suffix(".toml.new")
    temporary.write_text(tomlkit.dumps(document), encoding="utf-8")
    temporary.replace(path)


def changed(settings: Settings, changes: dict[str, dict[str, object]]) -> Settings:
    """Settings with some fields of some sections replaced, read and checked like the file's.

    Raises:
        BadInput: an unknown name or a value that cannot be.
    """
    result = _build(Settings, changes, "", settings)
    _check(result, None)
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


T = TypeVar("T")


def _build(kind: type[T], values: dict[str, Any], where: str, default: T) -> T:
    """A dataclass from TOML values, each checked against its annotation."""
    hints = get_type_hints(kind)
    found: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            known = ", ".join(hints)
            raise BadInput(f"{where} {name!r} is not a setting; there are {known}.".strip())
        hint = hints[name]
        label = f"{where} {name}".strip()
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            if not isinstance(value, dict):
                raise BadInput(f"{label} must be a section, such as [{name}].")
            found[name] = _build(hint, value, f"{where} {name}.".strip(), getattr(default, name))
        else:
            found[name] = _convert(hint, value, label.replace(". ", "."))
    return dataclasses.replace(default, **found)  # type: ignore[type-var]


def _convert(hint: Any, value: Any, label: str) -> Any:
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise BadInput(f"{label} must be a list.")
        return tuple(_convert(get_args(hint)[0], one, label) for one in value)
    if isinstance(hint, UnionType):
        hint = get_args(hint)[0]
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        try:
            return hint(value)
        except ValueError:
            raise BadInput(f"{label} is {value!r}: it must be one of {', '.join(hint)}.") from None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise BadInput(f"{label} is {value!r}: it must be {_name(hint)}.")
    return value


def _name(hint: type) -> str:
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return names.get(hint, hint.__name__)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, StrEnum) else value


def _check(settings: Settings, path: Path | None) -> None:
    """Ranges that types cannot say."""
    where = f"{path}: " if path else ""
    sample, evaluate = settings.sample, settings.evaluate
    rules: list[tuple[bool, str]] = [
        (1 <= sample.m <= 1024, f"sample.m is {sample.m}: it must lie between 1 and 1024"),
        (
            sample.temperature > 0 or sample.m == 1,
            f"sample.temperature is {sample.temperature}: paths differ only above 0",
        ),
        (sample.temperature <= 5, f"sample.temperature is {sample.temperature}: at most 5"),
        (sample.max_tokens >= 0, f"sample.max_tokens is {sample.max_tokens}: 0 or more"),
        (sample.cap >= 0, f"sample.cap is {sample.cap}: 0 (no cap) or more"),
        (0 < sample.epsilon < 0.5, f"sample.epsilon is {sample.epsilon}: between 0 and 0.5"),
        (0 < sample.top_p <= 1, f"sample.top_p is {sample.top_p}: above 0, at most 1"),
        (sample.top_k >= 0, f"sample.top_k is {sample.top_k}: 0 (off) or more"),
        (0 <= sample.min_p < 1, f"sample.min_p is {sample.min_p}: from 0 to below 1"),
        (bool(settings.curate.formats), "curate.formats is empty: name at least one format"),
        (
            0 <= settings.curate.validation_share <= 0.5,
            f"curate.validation_share is {settings.curate.validation_share}: from 0 to 0.5",
        ),
        (
            settings.curate.weighting is not Weighting.BY_AGREEMENT
            or sample.early_stop is EarlyStop.OFF,
            "curate.weighting by-agreement needs every path: set sample.early_stop to off",
        ),
        (
            settings.model.engine is not Engine.SERVER or bool(settings.model.servers),
            "model.engine is server but model.servers is empty: give the servers' addresses",
        ),
        (evaluate.k >= 1, f"evaluate.k is {evaluate.k}: at least 1"),
        (evaluate.temperature > 0, f"evaluate.temperature is {evaluate.temperature}: above 0"),
        (evaluate.limit >= 0, f"evaluate.limit is {evaluate.limit}: 0 (all) or more"),
    ]
    for name, train in (("finetune", settings.finetune), ("distill", settings.distill)):
        rules += [
            (
                train.method in METHODS,
                f"{name}.method is {train.method!r}: it must be one of {', '.join(METHODS)}",
            ),
            (train.rank >= 1, f"{name}.rank is {train.rank}: at least 1"),
            (train.learning_rate > 0, f"{name}.learning_rate is {train.learning_rate}: above 0"),
            (train.epochs > 0, f"{name}.epochs is {train.epochs}: above 0"),
            (train.patience >= 0, f"{name}.patience is {train.patience}: 0 (off) or more"),
            (train.processes >= 0, f"{name}.processes is {train.processes}: 0 (all GPUs) or more"),
            (
                train.examples_per_step >= 1,
                f"{name}.examples_per_step is {train.examples_per_step}: at least 1",
            ),
            (
                0 <= train.top_k_logits <= 1024,
                f"{name}.top_k_logits is {train.top_k_logits}: from 0 (off) to 1024",
            ),
            (0 <= train.mix <= 1, f"{name}.mix is {train.mix}: from 0 to 1"),
            (
                train.paths_per_question >= 0,
                f"{name}.paths_per_question is {train.paths_per_question}: 0 (no limit) or more",
            ),
        ]
    rules.append(
        (
            settings.finetune.top_k_logits == 0,
            "finetune.top_k_logits is set, but a model is not its own teacher: "
            "it belongs under [distill]",
        )
    )
    try:
        exact_share(sample.threshold)
    except BadInput as failure:
        raise BadInput(f"{where}{failure}") from None
    for holds, sentence in rules:
        if not holds:
            raise BadInput(f"{where}{sentence}.")
