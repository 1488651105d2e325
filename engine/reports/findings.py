"""What the report tells: what was done, what it is worth, and how to do it again.

One function for each section; `engine.reports.rendering` writes them.
"""

from __future__ import annotations

import dataclasses
import math
import platform
import shlex
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from engine.answers import custom_rules
from engine.answers.custom_rules import active_reviews, reader_name
from engine.evaluation import acceptance, accuracy, calibration
from engine.importing import contamination
from engine.reports import svg_charts
from engine.reports.rendering import Block, Code, Document, Plot, Section, Table
from engine.review import audit
from engine.sampling import early_stop_replay, runs
from engine.statistics import intervals
from engine.statistics.confidence_sequence import CONFIDENCE
from engine.voting.majority import reaches_threshold
from store import (
    evaluations,
    examples,
    inference_sessions,
    jobs,
    models,
    paths,
    questions,
    rounds,
    votes,
)
from store.connection import SCHEMA_VERSION
from store.enums import (
    AnswerType,
    EarlyStop,
    JobKind,
    JobState,
    Method,
    Outcome,
    Queue,
    Split,
    Stage,
    Verdict,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.evaluation.accuracy import Comparison
    from engine.project.folder import Project
    from engine.statistics.intervals import Paired
    from store.records import Job, Model, Run, Vote


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

FLIPS_SHOWN = 5
"""Questions that are shown of those which a model lost."""


def build(project: Project, conn: sqlite3.Connection) -> Document:
    """The report of a project; nothing is written.

    Takes scipy and datasketch: for the command line and the worker, not for the app.
    """
    teacher = models.by_name(conn, project.settings.model.teacher)
    run = runs.pool_run(conn, project)
    sections = [_gains(conn), _rounds(conn), _guard(conn), _accuracies(conn), _counts(conn)]
    if run is not None:
        counted = votes.for_run(conn, run.id)
        sections += [
            _votes(conn, run, counted),
            _audit(project, conn, run),
            _left_out(project, conn, run, counted),
        ]
    if teacher is not None:
        sections.append(_calibration(project, conn, teacher))
    sections += [_training_sets(conn), _versions(conn), _again(project, conn)]
    return Document(
        f"LMSI report: {project.folder.resolve().name}",
        tuple(section for section in sections if section.blocks),
    )


def no_gain(found: Paired) -> str | None:
    """The sentence for a comparison that shows no gain; None where one is shown."""
    if found.low > 0:
        return None
    if found.high < 0:
        return f"worse by {-100 * found.gain:.1f} points"
    seen = intervals.detectable_by(found)
    if seen is None:
        return "no gain shown; so few questions could not have shown any"
    return (
        "no gain shown; with this many questions only a gain above "
        f"{100 * seen:.1f} points could have been seen"
    )


# Sections.


def _gains(conn: sqlite3.Connection) -> Section:
    """Each trained model with its base, apart for label-free and human-assisted sets."""
    found = accuracy.comparisons(conn)
    known = {one.name: one for one in models.all_of(conn)}
    if not found:
        return Section("What it was worth", ("No two models were measured on the same questions.",))
    blocks: list[Block] = []
    main = [
        one
        for one in found
        if one.split is Split.EVAL
        and one.method is Method.COT
        and known[one.before].id == known[one.after].base_id
    ]
    for one in main:
        shown = no_gain(one.result)
        said = shown or f"better by {100 * one.result.gain:.1f} points"
        blocks.append(
            f"{one.after} against {one.before}, greedy chain of thought, n = {one.result.n:,} "
            f"(trained {_labels(conn, known[one.after])}): {said}."
        )
    rows = tuple(
        (
            one.before,
            one.after,
            _labels(conn, known[one.after]),
            one.split,
            one.method,
            f"{one.result.n:,}",
            _points(one.result),
            _p(one.result.p),
            f"{one.result.won:,} / {one.result.lost:,}",
            no_gain(one.result) or "gain shown",
        )
        for one in found
    )
    headers = (
        *("before", "after", "trained", "on", "asked", "n", "gain in points (95 %)", "p"),
        *("flips to right / to wrong", "verdict"),
    )
    blocks.append(Table(headers, rows))
    bars = [
        svg_charts.Bar(
            f"{one.after} ({one.method}, {one.split})",
            100 * one.result.gain,
            100 * one.result.low,
            100 * one.result.high,
        )
        for one in found
        if known[one.before].id == known[one.after].base_id
    ]
    if bars:
        blocks.append(Plot(svg_charts.intervals("Gain over the own base", bars, x="points, 95 %")))
    blocks += [block for one in main for block in _flips(conn, one)]
    return Section("What it was worth", tuple(blocks))


def _rounds(conn: sqlite3.Connection) -> Section:
    """What the guard decided of each round, on what test, and which model is in use."""
    decided = acceptance.decided(conn)
    if not decided:
        return Section("Rounds", ())
    number = acceptance.best_round({one.number: one.verdict for one in decided})
    in_use = next((one.trained for one in decided if one.number == number), "the base model")
    blocks: list[Block] = [
        "Every round trains from the base model. It is accepted when McNemar's exact test and the "
        "95 % interval both show it better than the last accepted one on the evaluation questions "
        "and not worse out of domain; rejected when they show it worse on either; else undecided.",
        Table(
            (
                *("round", "sampled", "trained", "verdict", "against", "n"),
                *("gain in points (95 %)", "p", "out of domain", "could have seen"),
            ),
            tuple(_round_row(one) for one in decided),
        ),
    ]
    for one in decided:
        found = one.judgement
        by = f" A person decided otherwise: {one.verdict}." if one.by_person else ""
        blocks.append(" ".join((f"Round {one.number}. {found.reason}{by}", *found.notes)))
        if found.alarms:
            blocks.append(f"Round {one.number}, alarms without labels: {' '.join(found.alarms)}")
        if found.evaluation is not None:
            blocks.append(
                f"Round {one.number} was measured on the evaluation set "
                f"{found.evaluation.key[:12]} ({found.evaluation.n:,} questions)."
            )
    blocks.append(f"In use: {in_use}.")
    return Section("Rounds", tuple(blocks))


def _round_row(one: acceptance.Decided) -> tuple[str, ...]:
    found = one.judgement
    seen = f"{100 * found.detectable:.1f}" if found.detectable is not None else "nothing"
    return (
        str(one.number),
        one.sampled,
        one.trained,
        f"{one.verdict} (a person)" if one.by_person else str(one.verdict),
        found.before,
        f"{found.gain.n:,}" if found.gain else "0",
        _points(found.gain) if found.gain else "not measured",
        _p(found.gain.p) if found.gain else "",
        _points(found.out_of_domain) if found.out_of_domain else "not measured",
        seen,
    )


def _guard(conn: sqlite3.Connection) -> Section:
    """What the guard says of models that were trained outside of rounds."""
    trained = acceptance.of_store(conn)
    blocks: list[Block] = []
    if trained:
        blocks.append(
            "A model is accepted when it is surely better than its own base on the evaluation "
            "questions and not surely worse out of domain; it is rejected when it is surely worse "
            "on either (exact test and 95 % interval of the paired difference, greedy chain of "
            "thought)."
        )
        rows = tuple(
            (
                one.model,
                str(one.outcome),
                _points(one.gain),
                _points(one.out_of_domain) if one.out_of_domain else "not measured",
                " ".join(one.alarms) or "none",
            )
            for one in trained
        )
        headers = ("model", "guard", "gain in points", "out of domain", "alarms without labels")
        blocks.append(Table(headers, rows))
    return Section("The guard", tuple(blocks))


def _labels(conn: sqlite3.Connection, model: Model) -> str:
    frozen = examples.get_set(conn, model.training_set) if model.training_set else None
    if model.stage is Stage.CONTROL:
        return "control"
    if frozen is None:
        return "untrained"
    return "label-free" if frozen.label_free else "human-assisted"


def _flips(conn: sqlite3.Connection, one: Comparison) -> list[Block]:
    """The first questions that training lost."""
    before = evaluations.answers(conn, one.before_id)
    after = evaluations.answers(conn, one.after_id)
    lost = [id_ for id_ in sorted(before) if before[id_] and after.get(id_) is False]
    if not lost:
        return []
    asked = questions.by_ids(conn, lost[:FLIPS_SHOWN])
    rows = tuple((asked[id_].key, _short(asked[id_].text)) for id_ in lost[:FLIPS_SHOWN])
    return [
        f"{one.after} lost {len(lost):,} questions that {one.before} had right; the first are:",
        Table(("question", "text"), rows),
    ]


def _accuracies(conn: sqlite3.Connection) -> Section:
    rows = []
    for one in evaluations.newest(conn).values():
        counts = paths.counts(conn, one.run_id)
        run = paths.run_by_id(conn, one.run_id)
        rows.append(
            (
                models.by_id(conn, one.model_id).name,
                str(one.split),
                f"{one.method} @{one.k}" if one.k > 1 else str(one.method),
                f"{one.n:,}",
                f"{100 * one.accuracy:.1f} ({100 * one.low:.1f} to {100 * one.high:.1f})",
                f"{one.abstained:,}",
                f"{100 * (1 - counts.ended / max(1, counts.paths)):.1f}",
                f"{run.temperature:g}",
            )
        )
    if not rows:
        return Section("Accuracy", ("Nothing was measured yet.",))
    headers = (
        *("model", "on", "asked", "n", "right in % (95 %)", "without an answer", "paths cut in %"),
        "temperature",
    )
    return Section("Accuracy", (Table(headers, tuple(rows)),))


def _counts(conn: sqlite3.Connection) -> Section:
    rows = tuple(
        (str(one.split), one.source, one.task, f"{one.count:,}") for one in questions.counts(conn)
    )
    return Section("Questions", (Table(("split", "set", "task", "questions"), rows),))


def _votes(conn: sqlite3.Connection, run: Run, counted: Sequence[Vote]) -> Section:
    counts = paths.counts(conn, run.id)
    kept = [one for one in counted if audit.accepts(one, run.threshold)]
    ties = sum(one.winner is None and bool(one.tally) for one in counted)
    blocks: list[Block] = [
        f"{counts.paths:,} paths with {counts.tokens:,} tokens for {len(counted):,} questions; "
        f"{counts.paths - counts.ended:,} were cut and {counts.abstained:,} had no answer, those "
        f"included. At m = {run.m} and a threshold of {run.threshold} the vote keeps "
        f"{len(kept):,} questions; {ties:,} are ties.",
        _early_stop(conn, run),
    ]
    if counted:
        tenths = Counter(math.ceil(10 * one.top / one.m) for one in counted)
        columns = [(f"{place / 10:.1f}", tenths[place]) for place in range(11)]
        blocks.append(
            Plot(
                svg_charts.histogram(
                    "Agreement of the pool (lower bound where a vote stopped early)",
                    columns,
                    x="agreement, up to",
                    y="questions",
                )
            )
        )
        blocks.append(
            Table(("agreement up to", "questions"), tuple((a, f"{n:,}") for a, n in columns))
        )
    return Section("Votes", tuple(blocks))


def _early_stop(conn: sqlite3.Connection, run: Run) -> str:
    told = early_stop_replay.early_stop(conn, run)
    if run.early_stop is EarlyStop.OFF:
        return "No vote was stopped early."
    saved = told["saved_share"]
    share = f"{saved:.0%}" if isinstance(saved, float) else "no"
    words = f"Early stop `{run.early_stop}` did without {share} of the paths of full votes"
    if run.early_stop is EarlyStop.EXACT:
        return f"{words}, and changes no decision."
    return (
        f"{words} (ε {run.epsilon:g}); "
        f"the share of decisions that it changed: {told['change_rate']}."
    )


def _audit(project: Project, conn: sqlite3.Connection, run: Run) -> Section:
    sample = project.settings.sample
    found = audit.of_store(conn, run, threshold=sample.threshold)
    precision = found.precision
    if precision is None or precision.estimate is None or precision.expected_wrong is None:
        return Section(
            "Audit",
            ("Nobody audited the accepted labels, so their precision is not known.",),
        )
    middle, fewest, most = precision.expected_wrong
    steady = found.consistency
    blocks: list[Block] = [
        f"{precision.audited:,} of {precision.size:,} accepted questions were drawn at random and "
        f"judged blind: {precision.wrong:,} wrong, {precision.skipped:,} skipped. Precision "
        f"{100 * precision.estimate:.1f} % ({100 * precision.low:.1f} to "
        f"{100 * precision.high:.1f} %, a 95 % confidence sequence, so it holds whenever the audit "
        f"stopped). Expected wrong labels: {middle:,.0f} ({fewest:,.0f} to {most:,.0f}).",
        Table(
            ("threshold", "questions", "audited", "wrong", "precision ≥ 0.95 at 95 %"),
            tuple(
                (
                    f"{float(one.threshold):.2f}",
                    f"{one.precision.size:,}",
                    f"{one.precision.audited:,}",
                    f"{one.precision.wrong:,}",
                    "certified" if one.certified else "not certified",
                )
                for one in found.certificates(CONFIDENCE)
            ),
        ),
    ]
    if found.outdated:
        blocks.append(
            f"{found.outdated:,} audits were about another answer than the one that leads now: "
            "they do not count, and their questions are asked again."
        )
    if steady.repeated:
        blocks.append(
            f"Of {steady.repeated:,} questions that were shown twice, {steady.same:,} were judged "
            "the same."
        )
    return Section("Audit", tuple(blocks))


def _left_out(
    project: Project, conn: sqlite3.Connection, run: Run, counted: Sequence[Vote]
) -> Section:
    """Why pool questions are not trained on, each counted under its first reason."""
    told = contamination.of_store(conn)
    leaked = {one.pool.id for one in told.found}
    held = active_reviews(conn, run.id)
    by_id = {one.question_id: one for one in counted}
    sample = project.settings.sample
    audited = audit.of_store(conn, run, threshold=sample.threshold)
    rejected = {
        one.question_id for one in held if one.queue is Queue.TRIAGE and one.verdict is Verdict.NONE
    }
    decided = {
        one.question_id
        for one in held
        if one.queue is Queue.TRIAGE and one.verdict not in (Verdict.SKIP, Verdict.SAME)
    }
    reasons = Counter[str]()
    for question in questions.by_split(conn, Split.POOL):
        vote = by_id.get(question.id)
        if question.id in leaked:
            reasons["nearly an evaluation question"] += 1
        elif question.id in rejected:
            reasons["a person found no answer right"] += 1
        elif audited.judged.get(question.id) is False:
            reasons["an audit found the winner wrong"] += 1
        elif question.id in decided:
            continue
        elif vote is None:
            reasons["not sampled"] += 1
        elif not vote.tally:
            reasons["no path had an answer"] += 1
        elif vote.winner is None:
            reasons["a tie"] += 1
        elif not reaches_threshold(vote, vote.top, vote.second, run.threshold):
            reasons[f"agreement under {run.threshold}"] += 1
    blocks: list[Block] = [
        Table(
            ("why", "pool questions"),
            tuple((reason, f"{count:,}") for reason, count in reasons.most_common()),
        )
        if reasons
        else "No pool question was left out."
    ]
    if told.found:
        rows = tuple(
            (f"{100 * one.overlap:.0f} %", one.pool.key, one.measured.key, _short(one.pool.text))
            for one in told.found
        )
        blocks.append(Table(("overlap", "pool", "evaluation", "text"), rows))
    return Section("What was left out of training, and why", tuple(blocks))


def _calibration(project: Project, conn: sqlite3.Connection, teacher: Model) -> Section:
    blocks: list[Block] = []
    for one in calibration.of_store(conn, project, teacher):
        if one.error:
            blocks.append(
                f"From {one.source}: expected calibration error {100 * one.error.value:.1f} points "
                f"({100 * one.error.low:.1f} to {100 * one.error.high:.1f}), n = {one.error.n:,}."
            )
        if one.agreement:
            blocks.append(
                f"Mean agreement is {100 * one.agreement.counted:.1f} % as counted on "
                f"{one.agreement.paths} paths. Without the winner's curse (each path left out in "
                f"turn) the winner's true share is {100 * one.agreement.corrected:.1f} % "
                f"({100 * one.agreement.low:.1f} to {100 * one.agreement.high:.1f}), "
                f"n = {one.agreement.questions:,}."
            )
        blocks += [Plot(reliability(one)), Plot(yield_curve(one))]
        blocks.append(
            Table(
                ("agreement", "n", "right in % (95 %)"),
                tuple(
                    (
                        f"{bin_.low:.1f} to {bin_.high:.1f}",
                        f"{bin_.n:,}",
                        f"{100 * bin_.accuracy:.1f} ({100 * bin_.accuracy_low:.1f} to "
                        f"{100 * bin_.accuracy_high:.1f})",
                    )
                    for bin_ in one.bins
                ),
            )
        )
    return Section("What an agreement is worth", tuple(blocks))


def reliability(one: calibration.Calibration) -> str:
    """Agreement against accuracy: the paper's Fig. 2 with intervals."""
    points = tuple(
        svg_charts.Point(
            bin_.agreement, bin_.accuracy, bin_.accuracy_low, bin_.accuracy_high, bin_.n
        )
        for bin_ in one.bins
    )
    return svg_charts.chart(
        f"Agreement and accuracy ({one.source})",
        [svg_charts.Series("winners", points, joined=False)],
        x="agreement",
        y="winners that are right, %",
        x_range=(0.0, 1.0),
        diagonal=True,
    )


def yield_curve(one: calibration.Calibration) -> str:
    """Yield and expected precision over the threshold, on one picture."""
    kept = tuple(
        svg_charts.Point(t.needed / t.m, t.kept_share, t.kept_share, t.kept_share)
        for t in one.curve
    )
    right = tuple(
        svg_charts.Point(t.needed / t.m, t.precision, t.low, t.high)
        for t in one.curve
        if t.precision is not None
    )
    return svg_charts.chart(
        f"What a threshold keeps, and how much of it is right ({one.source})",
        [svg_charts.Series("yield", kept), svg_charts.Series("precision", right)],
        x="threshold",
        y="%",
        x_range=(0.0, 1.0),
    )


def _training_sets(conn: sqlite3.Connection) -> Section:
    rows = tuple(
        (
            one.key[:12],
            f"{one.questions:,}",
            f"{one.examples:,}",
            one.threshold,
            str(one.cap),
            "" if one.m is None else str(one.m),
            "" if one.validation_share is None else f"{100 * one.validation_share:g} %",
            ", ".join(one.formats),
            str(one.weighting),
            "label-free" if one.label_free else "human-assisted",
        )
        for one in examples.sets(conn)
    )
    headers = (
        *("set", "questions", "examples", "threshold", "cap", "m", "held out", "formats"),
        *("weights", "labels"),
    )
    return Section("Training sets", (Table(headers, rows),) if rows else ())


def _versions(conn: sqlite3.Connection) -> Section:
    installed = [(name, _version(name)) for name in PACKAGES]
    in_force = custom_rules.in_force(conn)
    packages = [
        ("Python", platform.python_version()),
        *((name, found) for name, found in installed if found),
        ("database schema", str(SCHEMA_VERSION)),
        *(
            (f"reader {one}", reader_name(one, in_force[one]).rpartition("/")[2])
            for one in AnswerType
        ),
    ]
    known = tuple(
        (one.name, str(one.stage), one.sha256, one.tokenizer_sha256, (one.training_set or "")[:12])
        for one in models.all_of(conn)
    )
    drawn = tuple(
        (
            one.key[:12],
            models.by_id(conn, one.model_id).name,
            str(one.split),
            f"{one.prompt_format} ({one.prompt_style})",
            one.prompt_sha256[:12],
            f"{one.m} at {one.temperature:g}, top-p {one.top_p:g}, top-k {one.top_k}, "
            f"min-p {one.min_p:g}, {one.max_tokens} tokens, {one.early_stop}",
            str(one.seed),
            inference_sessions.engines_of(conn, one),
        )
        for one in paths.runs(conn)
    )
    blocks: list[Block] = [
        Table(("what", "version"), tuple(packages)),
        Table(("model", "stage", "weights (SHA-256)", "tokenizer", "training set"), known),
    ]
    if drawn:
        blocks.append(
            Table(
                ("run", "model", "on", "asked", "prompts", "paths", "seed", "engine"),
                drawn,
            )
        )
    return Section("Versions and hashes", tuple(blocks))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _again(project: Project, conn: sqlite3.Connection) -> Section:
    done = [one for one in jobs.all_of(conn) if one.state is JobState.DONE]
    # The same stage again finds everything there, but another round is another round.
    first = {command_of(one): one.id for one in reversed(done)}
    asked = [
        (one.created_at, command_of(one))
        for one in done
        if one.kind is JobKind.ROUND or first[command_of(one)] == one.id
    ]
    asked += [
        (one.decided_at, f"lmsi-tui round --{one.verdict} {one.number}")
        for one in rounds.decisions(conn)
        if one.verdict is not Outcome.UNDECIDED
    ]
    commands = [command for _, command in sorted(asked)]
    settings = "\n".join(
        f"{section}.{name} = {_value(value)}"
        for section, values in dataclasses.asdict(project.settings).items()
        for name, value in values.items()
    )
    blocks: list[Block] = []
    if commands:
        blocks += ["In the project's folder, in this order:", Code("\n".join(commands))]
    blocks += ["With these settings:", Code(settings)]
    return Section("How to do it again", tuple(blocks))


def command_of(job: Job) -> str:
    """The command that asks for this job."""
    words = ["lmsi-tui", str(job.kind)]
    if job.kind is JobKind.EXPORT:
        words.append(str(job.params.get("what")))
    if job.params.get("rounds"):
        words += ["--rounds", str(job.params["rounds"])]
    if job.params.get("past_undecided"):
        words.append("--past-undecided")
    named = job.params.get("models")
    if isinstance(named, list):
        words += [part for name in named for part in ("--model", str(name))]
    changes = job.params.get("settings")
    if isinstance(changes, dict):
        for section, values in changes.items():
            for name, value in values.items():
                words += ["--set", f"{section}.{name}={_value(value)}"]
    return shlex.join(words)


def _value(value: object) -> str:
    """A setting as `--set` and TOML read it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(f'"{one}"' for one in value) + "]"
    return str(value)


def _short(text: str) -> str:
    line = " ".join(text[:400].split())
    return line if len(line) <= 100 else line[:99] + "…"


def _points(found: Paired) -> str:
    return f"{100 * found.gain:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
