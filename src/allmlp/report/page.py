"""The page, from top to bottom. It loads nothing, runs nothing, and its policy tells the browser to allow neither."""

import json
import os

from allmlp.evaluate import Metrics, SegmentationMetrics
from allmlp.files import write_text_atomically
from allmlp.report.calibration import reliability_diagram
from allmlp.report.confusion import MOST_CLASSES, confusion
from allmlp.report.content import RunReport
from allmlp.report.curves import curves
from allmlp.report.headline import headline
from allmlp.report.markup import Child, Html, tag
from allmlp.report.numbers import SPACE, count, percent
from allmlp.report.overlays import legend, overlay_gallery
from allmlp.report.pictures import batch_gallery, mistakes_gallery
from allmlp.report.style import STYLE
from allmlp.report.tables import class_table, machine_facts, model_facts, speed_table, table

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_report(run: RunReport, path: str | os.PathLike) -> None:
    """Write the report of `run` as one HTML file, atomically. Raises `CannotWrite`."""
    write_text_atomically(path, render(run))


def render(run: RunReport) -> str:
    """The report of `run` as an HTML document."""
    sections = [_training(run), *_metrics(run), _overlays(run), _mistakes(run), _calibration(run), _model(run),
                _batch(run), _data(run), _machine(run), _recipe(run)]
    return document(f"{run.model_name} on {run.data_name}", headline(run), sections)


def document(title: str, *content: Child, style: str = STYLE) -> str:
    """A page of ours: nothing from outside, and no scripts."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", title),
        tag("style", Html(style)),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', content), lang='en')}\n"


def section(title: str, lead: str, *content: Child) -> Html:
    return tag("section", tag("h2", title), tag("p", lead, class_="lead"), content)


def _training(run: RunReport) -> Html | None:
    diagrams = curves(run.history, run.best_epoch)
    if not diagrams:
        return None
    lead = ("Point at an epoch for its numbers. The training loss is that of augmented images, with label smoothing "
            "where the recipe has it; the other is of plain ones.")
    return section("Training", lead, tag("div", diagrams, class_="pair"))


def _metrics(run: RunReport) -> list[Html]:
    metrics = run.metrics
    if metrics is None or not metrics.count:
        return []
    sections = []
    if isinstance(metrics, SegmentationMetrics):
        return [_overlaps(metrics)]
    if isinstance(metrics, Metrics):
        title, lead = "Most confused classes", "The pairs that were taken for each other most often."
        if len(metrics.classes) <= MOST_CLASSES:
            title = "Confusion matrix"
            lead = ("Rows are the true classes, columns what the network said. Grey is right; the stronger the colour, "
                    "the larger the share of the row that went wrong.")
        sections.append(section(title, lead, confusion(metrics)))
    lead = ("The weakest first. Precision: of those called so, how many are. Recall: of those that are, how many were "
            "called so. F1: their harmonic mean.")
    sections.append(section("Classes", lead, class_table(metrics.classes)))
    return sections


def _overlaps(metrics: SegmentationMetrics) -> Html:
    rows = [(row.name, count(row.pixels), percent(row.iou_percent), percent(row.boundary_iou_percent))
            for row in sorted(metrics.classes, key=lambda row: (row.iou_percent is None, row.iou_percent or 0))]
    lead = ("The weakest first. IoU: of the pixels that are or were called so, how many are both. Boundary IoU: the "
            "same of those near a border alone.")
    return section("Classes", lead, table(("class", "pixels", "IoU", "boundary IoU"), rows, numbers=range(1, 4)))


def _overlays(run: RunReport) -> Html | None:
    if not run.overlays or not isinstance(run.metrics, SegmentationMetrics):
        return None
    lead = f"Images of the {run.split} split, evenly over it: the image, its mask, and what the network said."
    classes = [row.name for row in run.metrics.classes]
    return section("Overlays", lead, legend(classes), overlay_gallery(run.overlays))


def _mistakes(run: RunReport) -> Html | None:
    if not run.mistakes:
        return None
    lead = (f"What the network was surest of and wrong about in the {run.split} split: true → predicted, with its "
            "probability. Wrong labels and odd pictures show up here first.")
    return section("Most confident mistakes", lead, mistakes_gallery(run.mistakes))


def _calibration(run: RunReport) -> Html | None:
    if not isinstance(run.metrics, Metrics) or run.metrics.calibration_error_percent is None:
        return None
    error = percent(run.metrics.calibration_error_percent).removesuffix(f"{SPACE}%")
    lead = ("Does the network mean what it says? Bars up to the dashed line: yes. Below it: too sure of itself. On "
            f"average confidence and accuracy differ by {error} points (expected calibration error, 15 bins). The "
            "small bars below show where the images are (height: square root).")
    diagram = tag("div", reliability_diagram(run.metrics.reliability), class_="square")
    return tag("section", tag("h2", "Calibration"), tag("div", diagram, tag("p", lead, class_="lead"), class_="pair"))


def _model(run: RunReport) -> Html:
    speed = [tag("div", tag("h3", "Measured speed"), speed_table(run.speed))] if run.speed else []
    table = tag("div", tag("h3", "Network"), model_facts(run.model_name, run.model))
    return tag("section", tag("h2", "Model"), tag("div", table, speed, class_="pair"))


def _batch(run: RunReport) -> Html | None:
    if not run.augmented:
        return None
    return section("What training saw", "The first training images, after augmentation.", batch_gallery(run.augmented))


def _data(run: RunReport) -> Html:
    sizes = ", ".join(f"{count(images)} {split}" for split, images in run.images.items())
    notes = tag("ul", [tag("li", note) for note in run.notes]) if run.notes else None
    return section("Data", f"{run.data_name}: {sizes} images." if sizes else run.data_name, notes)


def _machine(run: RunReport) -> Html | None:
    return tag("section", tag("h2", "Machine and versions"), machine_facts(run.machine)) if run.machine else None


def _recipe(run: RunReport) -> Html:
    try:
        recipe = json.dumps(json.loads(run.recipe_json), indent=2, ensure_ascii=False)
    except ValueError:
        recipe = run.recipe_json
    return tag("section", tag("h2", "How to make it again"), tag("pre", tag("code", run.command)),
               tag("details", tag("summary", "The recipe: every number of the run"), tag("pre", tag("code", recipe))))
