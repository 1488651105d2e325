"""The engine of a model in two formats is the faster one, measured once per machine."""

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
def model_in_both_formats(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Model]:
    """A model that exists as a folder and as GGUF."""
    folder = tiny_model(tmp_path_factory.mktemp("tiny"))
    convert_base(folder, folder / "model.gguf")
    project = create_project(
        tmp_path_factory.mktemp("projects") / "p", replace(Settings(), model=SETTINGS)
    )
    return project, base_model(project, "tiny/base", folder, folder / "model.gguf")


def session(
    engine: str, details: dict[str, object], at: SequenceLengths = LENGTHS
) -> InferenceSession:
    later = engine_selection.measurement_key(engine_selection.machine_key(SETTINGS), at)
    return InferenceSession(1, engine, "1", {**details, **later}, 0.0)


def test_a_model_in_one_format_has_one_engine(model_in_both_formats: tuple[Project, Model]) -> None:
    _, model = model_in_both_formats
    assert chosen_engine(model, SETTINGS) is Engine.AUTO
    assert chosen_engine(replace(model, gguf=None), SETTINGS) is Engine.TRANSFORMERS
    assert chosen_engine(replace(model, location="a.gguf"), SETTINGS) is Engine.LLAMA_CPP
    # An adapter that exists for one engine only.
    tuned = replace(model, adapter="adapters/a")
    assert chosen_engine(tuned, SETTINGS) is Engine.TRANSFORMERS


def test_both_engines_are_measured_and_the_faster_one_is_used(
    model_in_both_formats: tuple[Project, Model],
) -> None:
    project, model = model_in_both_formats
    selected = engine_selection.open_fastest(project, model, SETTINGS, LENGTHS)
    with closing(selected.backend):
        rates = selected.details["engines"]
        assert set(rates) == {"llama.cpp", "transformers"}
        assert min(rates.values()) > 0
        assert selected.backend.name == max(rates, key=lambda name: rates[name])


@pytest.mark.parametrize("faster", ["llama.cpp", "transformers"])
def test_stored_measurements_are_not_repeated(
    model_in_both_formats: tuple[Project, Model], monkeypatch: pytest.MonkeyPatch, faster: str
) -> None:
    project, model = model_in_both_formats
    rates = {"llama.cpp": 1.0, "transformers": 1.0} | {faster: 2.0}
    earlier = [session(faster, {"engines": rates})]
    past = engine_selection.past_measurements(
        earlier, engine_selection.machine_key(SETTINGS), LENGTHS
    )
    monkeypatch.setattr(engine_selection._Search, "_compare", None)
    selected = engine_selection.open_fastest(project, model, SETTINGS, LENGTHS, past)
    with closing(selected.backend):
        assert selected.backend.name == faster
        assert selected.details["engines"] == rates


def test_measurements_count_for_equal_machines_and_lengths_only() -> None:
    stored = session("llama.cpp", {"engines": {"llama.cpp": 1.0}, "width": 8})
    here = engine_selection.machine_key(SETTINGS)
    assert engine_selection.past_measurements([stored], here, LENGTHS).rates
    assert engine_selection.past_measurements([stored], here, LENGTHS).config == stored.details
    nothing = engine_selection.PastMeasurements()
    assert (
        engine_selection.past_measurements([stored], here, replace(LENGTHS, prompt=800)) == nothing
    )
    other = engine_selection.machine_key(replace(SETTINGS, threads=7))
    assert engine_selection.past_measurements([stored], other, LENGTHS) == nothing


def test_the_settings_override_measurements(model_in_both_formats: tuple[Project, Model]) -> None:
    project, model = model_in_both_formats
    settings = replace(SETTINGS, engine=Engine.LLAMA_CPP)
    past = engine_selection.PastMeasurements({"llama.cpp": 1.0, "transformers": 2.0})
    with closing(
        engine_selection.open_fastest(project, model, settings, LENGTHS, past).backend
    ) as backend:
        assert backend.name == "llama.cpp"


def test_if_one_engine_fails_the_other_is_used(
    model_in_both_formats: tuple[Project, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.inference import loading

    project, model = model_in_both_formats
    load = loading.open_engine

    def failing(
        project: Project, model: Model, settings: ModelSettings, engine: Engine, *rest: Any
    ) -> Backend:
        if engine is Engine.TRANSFORMERS:
            raise WorkFailed("no memory")
        return load(project, model, settings, engine, *rest)

    monkeypatch.setattr(loading, "open_engine", failing)
    selected = engine_selection.open_fastest(project, model, SETTINGS, LENGTHS)
    with closing(selected.backend):
        assert selected.backend.name == "llama.cpp"
        assert selected.details["engines"]["transformers"] == 0


class SimulatedEngine:
    """An engine with a fixed rate, whose waves are slowed down at random."""

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
def test_noise_cannot_make_an_engine_look_several_times_as_fast(
    rate: float, prompts: float, chances: list[float], path: int
) -> None:
    engine = SimulatedEngine(rate, prompts, itertools.cycle(chances))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            engine_selection,
            "_time_wave",
            lambda backend, *given: backend.wave(given[-1].max_tokens),
        )
        measured = engine_selection.measure_rate(
            cast("Backend", engine), SequenceLengths(100, path, 0), is_tiny=True
        )
    assert measured <= 2.01 * rate
    if prompts == 0:
        assert measured >= rate / 2.01
