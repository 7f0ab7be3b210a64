"""The page of an experiment: what was claimed, what was found, at which scale, and how to make it again."""

import base64
from collections.abc import Sequence
from pathlib import Path

from allmlp.files import write_text_atomically
from allmlp.report.markup import Html, join, tag
from allmlp.report.numbers import duration
from allmlp.report.page import document, section
from allmlp.report.style import STYLE
from allmlp.report.tables import facts, table
from allmlp.reproduce.experiment import Experiment, Found, Row, Scale
from allmlp.reproduce.table import heading, summary

EXTRA = """
.banner { margin-bottom: 36px; padding: 12px 16px; border: 2px solid rgb(var(--accent)); border-radius: 10px;
  font-weight: 660; }
.verdict b { display: block; font-size: 40px; line-height: 1.15; letter-spacing: -.02em; font-weight: 660;
  color: rgb(var(--accent)); }
.verdict { margin-top: 36px; } .verdict p { margin-top: 12px; max-width: 74ch; }
.plate { margin-top: 44px; background: #fff; border-radius: 10px; padding: 10px; }
.plate img { display: block; width: 100%; height: auto; }
section > p { max-width: 74ch; } section > p + p { margin-top: 12px; }
td { white-space: pre-line; }
"""
# of "no result" there is none: a banner stands in its place
LEADS = {"as claimed": "What was claimed was found.", "in part": "What was claimed was found in part.",
         "not found": "What was claimed was not found.", "not claimed": "A question of ours; the papers claim nothing."}


def write_page(experiment: Experiment, scale: Scale, rows: Sequence[Row], found: Found, figure: Path,
               path: Path) -> None:
    """Write the page, with `figure` (SVG) in it, as one HTML file, atomically. Raises `CannotWrite`."""
    write_text_atomically(path, render(experiment, scale, rows, found, figure.read_bytes()))


def render(experiment: Experiment, scale: Scale, rows: Sequence[Row], found: Found, figure: bytes) -> str:
    header = tag("header", tag("h1", experiment.title), tag("p", experiment.source))
    if found.verdict in LEADS:
        verdict = tag("div", tag("b", found.verdict[0].upper() + found.verdict[1:]),
                      tag("p", with_code(f"{LEADS[found.verdict]} {found.text}")), class_="verdict")
    else:
        verdict, header = None, join(tag("p", found.text[0].upper() + found.text[1:], class_="banner"), header)
    image = tag("img", src=f"data:image/svg+xml;base64,{base64.b64encode(figure).decode()}", alt=experiment.title)
    sections = [_claim(experiment), _done(experiment, scale), _numbers(experiment, rows), _again(rows)]
    return document(experiment.title, header, verdict, tag("figure", image, class_="plate"), sections,
                    style=STYLE + EXTRA)


def _claim(experiment: Experiment) -> Html:
    return tag("section", tag("h2", "What was claimed"), _paragraphs(experiment.claim))


def _done(experiment: Experiment, scale: Scale) -> Html:
    scales = {"laptop": ("laptop", experiment.laptop), "paper": ("paper", experiment.paper)}
    here, there = scales.pop(scale), next(iter(scales.values()))
    other = tag("details", tag("summary", f"At the scale “{there[0]}” (--scale {there[0]})"), _paragraphs(there[1]))
    return tag("section", tag("h2", f"What was done: the scale “{here[0]}”"), _paragraphs(here[1]), other)


def _numbers(experiment: Experiment, rows: Sequence[Row]) -> Html:
    titles = ["", "seeds", *map(heading, experiment.columns)]
    ends, points = summary(experiment.columns, rows), summary(experiment.columns, rows, ends=False)
    lead = "Mean ± standard deviation over the seeds; every row is in table.csv."
    curves = len(points) > len(ends)
    lead += " Of a curve, its end." if curves else ""
    every = [tag("details", tag("summary", "Every point of the curves"), _table(titles, points))] if curves else []
    return section("Numbers", lead, _table(titles, ends), every)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    return table(titles, [[with_code(cell) for cell in row] for row in rows], numbers=range(1, len(titles)))


def _again(rows: Sequence[Row]) -> Html:
    def all_of(column: str) -> str:
        return ", ".join(dict.fromkeys(str(row[column]) for row in rows if row[column]))

    arms = {(row["what"], row["seed"]): row["seconds"] for row in rows}  # of a curve the last, which has them all
    said = [("commit", all_of("commit")), ("date", all_of("date")),
            ("processor", f"{all_of('processor')}, {all_of('threads')} thread(s), {all_of('device')}"),
            ("versions", f"torch {all_of('torch')}, timm {all_of('timm')}"),
            ("processor time", duration(sum(seconds or 0 for seconds in arms.values())))]
    commands = list(dict.fromkeys(row["command"] for row in rows))
    return tag("section", tag("h2", "How to make it again"), tag("pre", tag("code", "\n".join(commands))), facts(said))


def _paragraphs(text: str) -> list[Html]:
    return [tag("p", with_code(" ".join(part.split()))) for part in text.split("\n\n")]


def with_code(text: str) -> Html:
    """Text in which what stands between backticks is code."""
    return join([tag("code", part) if place % 2 else part for place, part in enumerate(text.split("`"))])
