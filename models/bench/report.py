"""Records to tables: `docs/results.md` between two marks, and every figure as JSON. Nothing is typed in by hand."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_agent.errors import InputError
from mer_agent.models.bench import imputation
from mer_agent.models.bench.accuracy import is_of
from mer_agent.models.bench.figures import PROTOCOLS, by_kind, compare, mean_and_deviation, measures, summary
from mer_agent.models.bench.plan import Plan, Row
from mer_agent.models.bench.plans import PLANS
from mer_agent.models.training.recipe import MODALITY_OF

BEGIN = "<!-- written by `mer-agent bench report` from docs/results/records; don't edit by hand -->"
END = "<!-- end of what `mer-agent bench report` wrote -->"

Runs = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Measured:
    """A plan and the runs of each of its rows, by seed; a row without runs has an empty list."""

    name: str
    plan: Plan
    runs: dict[str, Runs]

    @property
    def found(self) -> list[tuple[Row, Runs]]:
        """The rows that were measured."""
        return [(row, self.runs[row.name]) for row in self.plan.rows if self.runs[row.name]]


def gather(records: Sequence[dict[str, Any]], plans: dict[str, Plan] | None = None) -> list[Measured]:
    """Gives each plan with the records that its rows' recipes made, without plans of which nothing was measured."""
    found = []
    for name, plan in (PLANS if plans is None else plans).items():
        runs = {row.name: _of(row, records) for row in plan.rows}
        if any(runs.values()):
            found.append(Measured(name, plan, runs))
    return found


def _of(row: Row, records: Sequence[dict[str, Any]]) -> Runs:
    recipe = row.recipe
    own = [record for record in records if record["data"] == row.data and is_of(record, recipe)]
    return sorted(own, key=lambda record: int(record["seed"]))


def figures(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Gives every figure on the test split: what was trained, by which protocol, which seeds, mean and deviation."""
    found = []
    for each in measured:
        for row, runs in each.found:
            for protocol in PROTOCOLS:
                spread = summary(runs, protocol)
                for measure, value in spread.items():
                    entry = {**_what(each.name, row, runs), "protocol": protocol, "measure": measure, **value}
                    if protocol == "clean" and measure == "weighted_f1":
                        entry["against"] = _against(each, row)
                    found.append(entry)
    return found


def _what(plan: str, row: Row, runs: Runs) -> dict[str, Any]:
    features = runs[0]["recipe"]["features"]
    return {
        "plan": plan,
        "row": row.name,
        "model": row.model,
        "data": row.data,
        "modalities": sorted({MODALITY_OF[feature.partition("/")[0]] for feature in features}),
        "causal": not row.bidirectional,
        "features": features,
        "parameters": runs[0]["parameters"],
        "seeds": [run["seed"] for run in runs],
    }


def _against(each: Measured, row: Row) -> dict[str, Any] | None:
    """Gives the comparison of a row with its plan's baseline, None for the baseline itself or where it is missing.

    Only seeds that both have are compared: a lucky seed that one row lacks would pass for a difference.
    """
    base = each.plan.baseline
    if base in (None, row.name):
        return None
    own, theirs = ({run["seed"]: run for run in each.runs[name]} for name in (row.name, base))
    common = sorted(own.keys() & theirs.keys())
    if not common:
        return None
    compared = compare([own[seed] for seed in common], [theirs[seed] for seed in common])
    return {"baseline": base, "seeds": common, **compared}


def markdown(measured: Sequence[Measured], pictures: dict[str, str], imputed: Sequence[Mapping[str, Any]] = ()) -> str:
    """Gives the generated part of docs/results.md, its marks included.

    Args:
        measured: what `gather` gave.
        pictures: plan name -> picture file, relative to docs/.
        imputed: records of missing modalities, what `imputation.read_all` gave.
    """
    parts = [BEGIN, _PREFACE]
    for each in measured:
        parts.append(f"### {each.plan.title}")
        parts.append(_targets(each) if each.name == "targets" else _table(each))
        if each.name in pictures:
            parts.append(f"![{each.plan.title}]({pictures[each.name]})")
        if each.name in ("peers", "meld"):
            parts.append(_classes(each))
        confused = [pictures[name] for name in pictures if name.startswith(f"{each.name}-confusion")]
        parts += [f"![Confusions]({picture})" for picture in confused]
        if each.name == "peers":
            parts.append(_kinds(each))
        if each.name == "joint-speech":
            parts.append(_corpora(each))
    if imputed:
        parts += ["### A missing modality: left out, or generated", _IMPUTED, *map(imputation.table, imputed)]
    parts += ["### Protocol paper: the best test epoch", _PAPER, _paper(measured), END]
    return "\n\n".join(parts) + "\n"


_PREFACE = """\
Protocol `clean`: validation chose the epoch, or none was chosen. Weighted F1 in percent, mean ± sample deviation over
the seeds (their number is n). Accuracy is also what the papers print as weighted average accuracy (WAA); ECE is the
calibration error. "gain" is against the row marked *baseline*, over the seeds that both have: its 95 % interval is a
paired bootstrap over the test dialogues, p is Welch's t-test over the seeds; many rows are compared, so a single small
p means little. "published" is what the paper prints for its own features, which no one else has: it is not a figure of
this project."""

_IMPUTED = """\
AR-IIGCN with modalities taken away from all utterances. *left out*: no generators, a learned vector says that it is
absent. *after*: trained beside the adversarial stage (with a paired loss), generators stand in when the model is used;
*switched off*, they don't. *throughout*: they stand in while it trains, too. Each cell: weighted F1 on validation, by
which a way is chosen, then on test."""

_PAPER = """\
What the papers' practice would report for the very same runs: the epoch with the best *test* score. Nobody could choose
it without the answers, so these figures stand apart and nothing else uses them."""


def _table(each: Measured) -> str:
    lines = ["| | n | validation | test | accuracy | macro F1 | ECE | gain | parameters | published |"]
    lines.append("|---" * 10 + "|")
    for row in each.plan.rows:
        runs = each.runs[row.name]
        published = "" if row.published is None else f"{row.published:.1f}"
        if not runs:
            lines.append(f"| {row.name} | 0 | | not measured | | | | | | {published} |")
            continue
        clean = summary(runs, "clean")
        lines.append(
            f"| {row.name} | {len(runs)} | {_spread(clean['valid_weighted_f1'])} | {_spread(clean['weighted_f1'])} "
            f"| {_spread(clean['accuracy'])} | {_spread(clean['macro_f1'])} | {clean['ece']['mean']:.1f} "
            f"| {_gain(each, row)} | {runs[0]['parameters'] / 1e6:.2f} M | {published} |"
        )
    return "\n".join(lines)


def _targets(each: Measured) -> str:
    lines = ["| weighted F1 | n | must | aim | test | validation | |", "|---" * 7 + "|"]
    for row in each.plan.rows:
        runs, must, aim = each.runs[row.name], row.must or 0.0, row.aim or 0.0
        if not runs:
            lines.append(f"| {row.name} | 0 | {must} | {aim} | not measured | | |")
            continue
        clean = summary(runs, "clean")
        reached = clean["weighted_f1"]["mean"] or 0.0
        verdict = "aim met" if reached >= aim else "must met" if reached >= must else f"{must - reached:.2f} short"
        test, valid = _spread(clean["weighted_f1"]), _spread(clean["valid_weighted_f1"])
        lines.append(f"| {row.name} | {len(runs)} | {must} | {aim} | **{test}** | {valid} | {verdict} |")
    return "\n".join(lines)


def _spread(value: dict[str, float | None]) -> str:
    mean, deviation = value["mean"], value["deviation"]
    return f"{mean:.2f}" if deviation is None else f"{mean:.2f} ± {deviation:.2f}"


def _gain(each: Measured, row: Row) -> str:
    if row.name == each.plan.baseline:
        return "*baseline*"
    found = _against(each, row)
    if found is None:
        return ""
    low, high = found["interval"]
    p = "" if found["p"] is None else ", p < 0.001" if found["p"] < 0.001 else f", p = {found['p']:.3f}"
    return f"{found['difference']:+.2f} [{low:+.2f}, {high:+.2f}]{p}"


def _classes(each: Measured) -> str:
    labels = each.found[0][1][0]["labels"]
    lines = ["F1 of each class:", "", f"| | {' | '.join(labels)} |", "|---" * (len(labels) + 1) + "|"]
    for row, runs in each.found:
        scores = [measures(run)["per_class"] for run in runs]
        means = [statistics.mean(score[label] for score in scores) for label in labels]
        lines.append(f"| {row.name} | {' | '.join(f'{mean:.1f}' for mean in means)} |")
    return "\n".join(lines)


def _kinds(each: Measured) -> str:
    lines = ["Improvised and scripted dialogues apart, since scripts recur across sessions:", ""]
    lines += ["| weighted F1 | improvised | scripted |", "|---|---|---|"]
    for row, runs in each.found:
        scores = [by_kind(run) for run in runs]
        means = [statistics.mean(score[kind] for score in scores) for kind in ("improvised", "scripted")]
        lines.append(f"| {row.name} | {means[0]:.1f} | {means[1]:.1f} |")
    return "\n".join(lines)


def _corpora(each: Measured) -> str:
    """Gives what all folds of a way to hear say of each corpus; a row of the plan is called by fold and way."""
    lines = [
        "Weighted F1 on each corpus, mean ± sample deviation over the folds, labels of both corpora to choose from:",
        "",
    ]
    lines += ["| | folds | RAVDESS | EmoDB |", "|---" * 4 + "|"]
    scores: dict[str, list[dict[str, float]]] = {}
    for row, runs in each.found:
        scores.setdefault(row.name.partition(", ")[2], []).append(by_kind(runs[0]))
    for way, folds in scores.items():
        spreads = [_spread(mean_and_deviation([fold[corpus] for fold in folds])) for corpus in ("ravdess", "emodb")]
        lines.append(f"| {way} | {len(folds)} | {' | '.join(spreads)} |")
    return "\n".join(lines)


def _paper(measured: Sequence[Measured]) -> str:
    lines = ["| | n | weighted F1 | accuracy | published |", "|---" * 5 + "|"]
    for each in measured:
        if each.name not in ("targets", "peers", "meld", "bidirectional", "mosi"):
            continue
        lines.append(f"| *{each.plan.title}* | | | | |")
        for row, runs in each.found:
            best = summary(runs, "paper")
            published = "" if row.published is None else f"{row.published:.1f}"
            lines.append(
                f"| {row.name} | {len(runs)} | {_spread(best['weighted_f1'])} | {_spread(best['accuracy'])} "
                f"| {published} |"
            )
    return "\n".join(lines)


def insert(page: str, generated: str) -> str:
    """Gives a page with what stands between the marks replaced.

    Raises:
        InputError: the page has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"the page has no line {BEGIN} followed by {END}")
    return before + generated.rstrip("\n") + after


def rewrite(page: Path, generated: str) -> None:
    """Replaces what stands between a page's marks.

    Raises:
        InputError: the page can't be read or written, or has no marks.
    """
    try:
        page.write_text(insert(page.read_text(encoding="utf-8"), generated), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{page}: {error.strerror}") from error
