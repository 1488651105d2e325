"""Which engine samples a model in two forms: the faster one, measured once on a machine."""

from __future__ import annotations

import itertools
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.conversion.hf_to_gguf import convert_base
from engine.inference import engine_selection
from engine.inference.loading import chosen_engine
from engine.inference.prompt_lengths import SequenceLengths
from engine.models.identity import base_model
from engine.project.folder import create_project
from engine.project.settings import Engine, ModelSettings, Settings
from store.errors import WorkFailed
from store.inference_sessions import InferenceSession
from tests.engine.tiny import tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.inference.backend import Backend
    from engine.project.folder import Project
    from store.records import Model

LENGTHS = SequenceLengths(20, 8, shared=5)
SETTINGS = ModelSettings(teacher="tiny/base")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Model]:
    """A model that is there as a folder and as GGUF."""
    folder = tiny_model(tmp_path_factory.mktemp("tiny"))
    convert_base(folder, folder / "model.gguf")
    project = create_project(
        tmp_path_factory.mktemp("projects") / "p", replace(Settings(), model=SETTINGS)
    )
    return project, base_model(project, "tiny/base", folder, folder / "model.gguf")


def sitting(
    engine: str, details: dict[str, object], at: SequenceLengths = LENGTHS
) -> InferenceSession:
    later = engine_selection.measurement_key(engine_selection.machine_key(SETTINGS), at)
    return InferenceSession(1, engine, "1", {**details, **later}, 0.0)


def test_one_form_is_sampled_as_it_is(both: tuple[Project, Model]) -> None:
    _, model = both
    assert chosen_engine(model, SETTINGS) is Engine.AUTO
    assert chosen_engine(replace(model, gguf=None), SETTINGS) is Engine.TRANSFORMERS
    assert chosen_engine(replace(model, location="a.gguf"), SETTINGS) is Engine.LLAMA_CPP
    # An adapter that is there for one engine only.
    tuned = replace(model, adapter="adapters/a")
    assert chosen_engine(tuned, SETTINGS) is Engine.TRANSFORMERS


def test_both_engines_draw_and_the_faster_one_stays(both: tuple[Project, Model]) -> None:
    project, model = both
    chosen = engine_selection.open_fastest(project, model, SETTINGS, LENGTHS)
    with closing(chosen.backend):
        rates = chosen.details["engines"]
        assert set(rates) == {"llama.cpp", "transformers"}
        assert min(rates.values()) > 0
        assert chosen.backend.name == max(rates, key=lambda name: rates[name])


@pytest.mark.parametrize("faster", ["llama.cpp", "transformers"])
def test_what_was_measured_here_is_not_measured_again(
    both: tuple[Project, Model], monkeypatch: pytest.MonkeyPatch, faster: str
) -> None:
    project, model = both
    rates = {"llama.cpp": 1.0, "transformers": 1.0} | {faster: 2.0}
    earlier = [sitting(faster, {"engines": rates})]
    known = engine_selection.past_measurements(
        earlier, engine_selection.machine_key(SETTINGS), LENGTHS
    )
    monkeypatch.setattr(engine_selection, "_compare", None)
    chosen = engine_selection.open_fastest(project, model, SETTINGS, LENGTHS, known)
    with closing(chosen.backend):
        assert chosen.backend.name == faster
        assert chosen.details["engines"] == rates


def test_other_machines_and_lengths_are_measured_anew() -> None:
    found = sitting("llama.cpp", {"engines": {"llama.cpp": 1.0}, "width": 8})
    here = engine_selection.machine_key(SETTINGS)
    assert engine_selection.past_measurements([found], here, LENGTHS).rates
    assert engine_selection.past_measurements([found], here, LENGTHS).config == found.details
    nothing = engine_selection.PastMeasurements()
    assert (
        engine_selection.past_measurements([found], here, replace(LENGTHS, prompt=800)) == nothing
    )
    other = engine_selection.machine_key(replace(SETTINGS, threads=7))
    assert engine_selection.past_measurements([found], other, LENGTHS) == nothing


def test_the_settings_overrule_what_was_measured(both: tuple[Project, Model]) -> None:
    project, model = both
    asked = replace(SETTINGS, engine=Engine.LLAMA_CPP)
    known = engine_selection.PastMeasurements({"llama.cpp": 1.0, "transformers": 2.0})
    with closing(
        engine_selection.open_fastest(project, model, asked, LENGTHS, known).backend
    ) as backend:
        assert backend.name == "llama.cpp"


def test_an_engine_that_fails_leaves_the_other(
    both: tuple[Project, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.inference import loading

    project, model = both
    load = loading.open_engine

    def failing(
        project: Project, model: Model, settings: ModelSettings, engine: Engine, *rest: Any
    ) -> Backend:
        if engine is Engine.TRANSFORMERS:
            raise WorkFailed("no memory")
        return load(project, model, settings, engine, *rest)

    monkeypatch.setattr(loading, "open_engine", failing)
    chosen = engine_selection.open_fastest(project, model, SETTINGS, LENGTHS)
    with closing(chosen.backend):
        assert chosen.backend.name == "llama.cpp"
        assert chosen.details["engines"]["transformers"] == 0


class Clocked:
    """An engine of so many tokens per second whose every wave takes longer by some chance."""

    context_length, batch_size = 400, 64

    def __init__(self, rate: float, prompts: float, chance: Iterator[float]) -> None:
        self.rate, self.prompts, self.chance = rate, prompts, chance

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def wave(self, length: int) -> tuple[float, int]:
        tokens = self.batch_size * length
        return (self.prompts + tokens / self.rate) * next(self.chance), tokens


@settings(max_examples=200)
@given(
    st.floats(10, 1e5),
    st.floats(0, 1),
    st.lists(st.floats(1, 1.5), min_size=20, max_size=20),
    st.integers(1, 200),
)
def test_a_busy_moment_cannot_make_an_engine_look_several_times_as_fast(
    rate: float, prompts: float, chances: list[float], path: int
) -> None:
    engine = Clocked(rate, prompts, itertools.cycle(chances))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            engine_selection,
            "_time_wave",
            lambda backend, *given: backend.wave(given[-1].max_tokens),
        )
        found = engine_selection.measure_rate(
            cast("Backend", engine), SequenceLengths(100, path, 0), is_tiny=True
        )
    assert found <= 2.01 * rate
    if prompts == 0:
        assert found >= rate / 2.01
