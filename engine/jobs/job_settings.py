"""The settings that decide what each kind of job does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_type_hints

from engine.project.setting_help import help_texts
from engine.project.setting_values import choices
from store.enums import JobKind

if TYPE_CHECKING:
    from engine.project.settings import Settings

_SAMPLE = ("m", "threshold", "early_stop", "cap", "temperature", "max_tokens", "format", "seed")
_TRAIN = (
    *("method", "learning_rate", "epochs", "examples_per_step", "rank", "alpha", "seed"),
    *("patience", "precision", "processes", "too_long"),
)
_CONTRAST = ("objective", "contrast_loss", "beta", "likelihood_weight")
_CHOICE = ("paths", "paths_per_question", "top_k_logits", "mix")
_LOADING = ("model.engine", "model.batch", "model.products", "model.threads")
RELEVANT: dict[JobKind, tuple[str, ...]] = {
    JobKind.SAMPLE: (
        *(f"sample.{name}" for name in (*_SAMPLE, "epsilon", "style", "top_p", "top_k", "min_p")),
        *("sample.thinking", "sample.exemplars", "model.teacher", *_LOADING),
    ),
    JobKind.VOTE: ("sample.m", "sample.threshold", "sample.early_stop", "sample.cap"),
    JobKind.CURATE: (
        *("sample.threshold", "sample.cap"),
        *("curate.formats", "curate.weighting", "curate.counting"),
        *("curate.confidence_temperature", "curate.validation_share"),
    ),
    JobKind.FINETUNE: (
        *(f"finetune.{name}" for name in (*_TRAIN, *_CONTRAST)),
        *("model.teacher", "model.threads"),
    ),
    JobKind.DISTILL: (
        "model.students",
        *(f"distill.{name}" for name in (*_CHOICE, *_TRAIN)),
        "model.threads",
    ),
    JobKind.EVALUATE: (
        *(f"evaluate.{name}" for name in ("k", "temperature", "limit", "ood", "seed")),
        *_LOADING,
    ),
    JobKind.EXPORT: (),
    JobKind.ROUND: (
        *("sample.m", "sample.threshold", "sample.early_stop", "sample.temperature"),
        *("curate.weighting", "finetune.method", "finetune.learning_rate", "finetune.epochs"),
        *("model.students", "distill.method", "distill.learning_rate", "distill.epochs"),
        *("evaluate.k", "evaluate.limit", "evaluate.ood"),
    ),
}
"""The settings of each kind of job, the most often changed ones first."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting and its value."""

    section: str
    name: str
    value: Any
    meaning: str
    choices: tuple[str, ...] = ()
    """Its possible values, if there are few; else empty."""

    @property
    def path(self) -> str:
        """Section and name, such as `sample.m`."""
        return f"{self.section}.{self.name}"

    @property
    def label(self) -> str:
        """Its name on the screen: a setting of this job alone has no section."""
        return self.path if self.section else self.name


def settings_of(settings: Settings, kind: JobKind) -> tuple[Setting, ...]:
    """The settings that matter to a kind of job, each with its meaning."""
    shown = []
    for path in RELEVANT[kind]:
        section, name = path.split(".")
        values = getattr(settings, section)
        hint = get_type_hints(type(values))[name]
        value, meaning = getattr(values, name), help_texts()[section, name]
        shown.append(Setting(section, name, value, meaning, choices(hint)))
    return tuple(shown)
