"""Several runs side by side on one page: final numbers, what their recipes differ in, curves. It loads nothing."""

import json
import os
from collections.abc import Sequence
from typing import Any

from allmlp.files import write_text_atomically
from allmlp.report.compare_runs import Group, Run, differences, mean_and_spread
from allmlp.report.curves import Line, diagram, points
from allmlp.report.markup import Child, Html, breakable, tag
from allmlp.report.numbers import NOTHING, SPACE, count, duration, large, percent, small
from allmlp.report.page import document, section
from allmlp.report.style import STYLE
from allmlp.report.tables import table

# One colour for each group, light and dark, in an order in which neighbours differ for the colour-blind too; more
# groups than colours begin again, dashed.
COLOURS = (("47 92 220", "122 158 255"), ("214 90 20", "255 160 94"), ("22 138 94", "84 207 156"),
           ("150 60 170", "214 138 232"), ("176 128 0", "232 190 70"), ("200 40 80", "255 128 152"),
           ("20 130 160", "92 204 230"), ("96 104 120", "170 178 194"))


def write_comparison(groups: Sequence[Group], path: str | os.PathLike) -> None:
    """Write the page as one HTML file, atomically. Raises `CannotWrite`."""
    write_text_atomically(path, render_comparison(groups))


def render_comparison(groups: Sequence[Group]) -> str:
    runs = [run for group in groups for run in group.runs]
    data = list(dict.fromkeys(os.path.basename(run.source) or run.source for run in runs))
    title = f"{_number(len(runs), 'run')} of {_number(len(groups), 'recipe')}"
    named = ", ".join([*data[:3], *(["…"] if len(data) > 3 else [])])
    header = tag("header", tag("h1", title, tag("span", " on "), named))
    content = [_results(groups), _differences(groups), _curves(groups), _runs(groups)]
    return document(title, header, content, style=STYLE + colours(len(groups)))


def colours(groups: int) -> str:
    """The style sheet's classes g0, g1, … of the groups' lines, points and keys."""
    def rules(which: int) -> str:
        return "".join(f"--g{i}: {pair[which]}; " for i, pair in enumerate(COLOURS))

    lines = [f":root {{ {rules(0)}}}", f"@media (prefers-color-scheme: dark) {{ :root {{ {rules(1)}}} }}",
             f"@media print {{ :root {{ {rules(0)}}} }}",
             "p .key { margin-right: 20px; white-space: nowrap; } td .key { white-space: nowrap; }",
             ".differ td, .differ th { max-width: 260px; overflow-wrap: anywhere; }"]
    for group in range(groups):
        colour = f"rgb(var(--g{group % len(COLOURS)}))"
        dashes = "; stroke-dasharray: 5 4" if group >= len(COLOURS) else ""
        lines.append(f".line.g{group} {{ stroke: {colour}{dashes}; }} circle.g{group} {{ fill: {colour}; }} "
                     f".key i.g{group} {{ background: {colour}; }}")
    return "\n".join(lines) + "\n"


def splits_of(groups: Sequence[Group]) -> list[str]:
    """All splits that any run was measured on; the test split last."""
    names = dict.fromkeys(split for group in groups for run in group.runs for split in run.scores)
    return sorted(names, key=lambda name: name == "test")


def _results(groups: Sequence[Group]) -> Html:
    splits = splits_of(groups)
    scores = list(dict.fromkeys(run.score_name for group in groups for run in group.runs))
    score = scores[0] if len(scores) == 1 else "score"
    titles = ["", "seeds", *(f"{split} {score}" for split in splits), "training loss", "time", "parameters",
              "multiply-adds"]
    best = {split: max((mean for group in groups if (mean := mean_and_spread(group.numbers(split))[0]) is not None),
                       default=None) for split in splits}
    rows = [[_key(index, group.label), count(len(group.runs)),
             *(_score(group.numbers(split), best[split] if len(groups) > 1 else None) for split in splits),
             *_costs(group.runs)] for index, group in enumerate(groups)]
    several = any(len(group.runs) > 1 for group in groups)
    lead = ("Runs that differ in the seed only stand in one row: mean ± standard deviation over the seeds. " * several
            + "The numbers are those of the kept weights; the highest of a column is bold. A difference smaller than "
              "the spread over seeds says nothing.")
    return section("Results", lead, table(titles, rows, numbers=range(1, len(titles))))


def _score(values: Sequence[float], best: float | None) -> Child:
    mean, spread = mean_and_spread(values)
    text = percent(mean, 2) if spread is None else f"{mean:.2f} ± {spread:.2f}{SPACE}%"
    return tag("b", text) if mean is not None and mean == best else text


def _costs(runs: Sequence[Run]) -> list[str]:
    """Loss and time (means), parameters and multiply-adds."""
    loss = mean_and_spread([value for run in runs if (value := run.last("train_loss")) is not None])[0]
    seconds = mean_and_spread([run.seconds for run in runs if run.seconds is not None])[0]
    sizes = [next((value for value in values if value is not None), None)
             for values in ([run.parameters for run in runs], [run.macs for run in runs])]
    return [NOTHING if loss is None else small(loss), NOTHING if seconds is None else duration(seconds),
            *(NOTHING if size is None else large(size) for size in sizes)]


def _differences(groups: Sequence[Group]) -> Html | None:
    if len(groups) < 2:
        return None
    found = differences(groups)
    titles = ["", *(_key(index, group.label) for index, group in enumerate(groups))]
    head = tag("tr", [tag("th", title) for title in titles])
    body = [tag("tr", tag("th", breakable(name)), [tag("td", breakable(written(value))) for value in values])
            for name, values in found.items()]
    return section("What differs", "The settings in which the recipes differ; all others are the same.",
                   tag("div", tag("table", tag("thead", head), tag("tbody", body), class_="differ"), class_="wide"))


def _curves(groups: Sequence[Group]) -> Html | None:
    def lines(key: str) -> list[Line]:
        return [Line(run.name, points(run.history, key), f"g{index}")
                for index, group in enumerate(groups) for run in group.runs]

    found = [
        diagram("Training loss", lines("train_loss"), small, legend=False),
        diagram("Evaluation loss", lines("eval_loss"), small, legend=False),
        diagram("Evaluation score", lines("eval_score"), lambda value: percent(value, 2), top=100, unit="%",
                legend=False),
        diagram("Images per second", lines("images_per_second"), lambda value: count(round(value)), from_zero=True,
                legend=False),
    ]
    shown = [each for each in found if each is not None]
    if not shown:
        return None
    keys = tag("p", [_key(index, group.label) for index, group in enumerate(groups)], class_="lead")
    lead = ("A line for each run, a colour for each recipe. Point at an epoch for the numbers. Training losses of "
            "recipes with other augmentation, smoothing or loss are not comparable.")
    return section("Curves", lead, keys, tag("div", shown, class_="pair"))


def _runs(groups: Sequence[Group]) -> Html:
    splits = splits_of(groups)
    titles = ["", "seed", *splits, "epochs", "time", "state", "machine", "commit"]
    rows = [[_key(index, run.name), NOTHING if run.seed is None else str(run.seed),
             *(percent(run.scores.get(split), 2) for split in splits), count(len(run.history)),
             NOTHING if run.seconds is None else duration(run.seconds), run.state, run.machine, run.commit]
            for index, group in enumerate(groups) for run in group.runs]
    return section("Runs", "Each run by itself.", table(titles, rows, numbers=range(1, 4 + len(splits))))


def _key(index: int, label: str) -> Html:
    return tag("span", tag("i", class_=f"g{index}"), label, class_="key")


def written(value: Any) -> str:
    """A setting as a person would write it."""
    if value is None:
        return NOTHING
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(number: int, what: str) -> str:
    return f"{count(number)} {what}{'' if number == 1 else 's'}"
