"""Versions of the software, and hashes and settings of models and runs."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from engine.answers import custom_rules
from engine.answers.custom_rules import reader_name
from engine.reports.document import Block, ReportSection, Table
from engine.sampling.runs import ends_after_answer, sampler_of, strength_of
from store import inference_sessions, models, paths
from store.connection import SCHEMA_VERSION
from store.counted import counted
from store.enums import AnswerType

if TYPE_CHECKING:
    import sqlite3

PACKAGES = (
    "lmsi-tui",
    "torch",
    "transformers",
    "peft",
    "llama-cpp-python",
    "math-verify",
    "scipy",
    "datasketch",
)


def section(conn: sqlite3.Connection) -> ReportSection:
    """Software, models and runs."""
    in_force = custom_rules.in_force(conn)
    installed = [(package, _installed_version(package)) for package in PACKAGES]
    components = (
        ("Python", platform.python_version()),
        *((package, number) for package, number in installed if number),
        ("database schema", str(SCHEMA_VERSION)),
        *(
            (
                f"reader {answer_type}",
                reader_name(answer_type, in_force[answer_type]).rpartition("/")[2],
            )
            for answer_type in AnswerType
        ),
    )
    model_rows = tuple(
        (
            model.name,
            str(model.stage),
            model.sha256,
            model.tokenizer_sha256,
            (model.training_set or "")[:12],
        )
        for model in models.all_of(conn)
    )
    run_rows = tuple(
        (
            run.key[:12],
            sampler.name,
            str(run.split),
            f"{run.prompt_format} ({run.prompt_style})"
            + (", ended after the answer" if ends_after_answer(run, sampler) else "")
            + (f", adapter at {strength:g}" if (strength := strength_of(conn, run)) != 1 else ""),
            run.prompt_sha256[:12],
            f"{run.m} at {run.temperature:g}, top-p {run.top_p:g}, top-k {run.top_k}, "
            f"min-p {run.min_p:g}, {counted(run.max_tokens, 'token')}, {run.early_stop}",
            str(run.seed),
            inference_sessions.engines_of(conn, run),
        )
        for run in paths.runs(conn)
        for sampler in [sampler_of(conn, run)]
    )
    blocks: list[Block] = [
        Table(("component", "version"), components),
        Table(("model", "stage", "weights (SHA-256)", "tokenizer", "training set"), model_rows),
    ]
    if run_rows:
        headers = ("run", "model", "on", "prompt", "prompts", "paths", "seed", "engine")
        blocks.append(Table(headers, run_rows))
    return ReportSection("Versions and hashes", tuple(blocks))


def _installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
