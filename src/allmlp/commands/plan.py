"""`allmlp plan`."""

import argparse
import csv
import io
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from allmlp.commands.outputs import STDOUT, check_csv
from allmlp.errors import BadSetting, unknown_name
from allmlp.files import write_text_atomically
from allmlp.models.variants import VARIANTS
from allmlp.plan import check
from allmlp.plan.counts import counts
from allmlp.plan.estimate import (
    MOST_TRIED,
    Estimate,
    Layout,
    estimate,
    layouts,
    paper_core_days,
    parts_that_fit,
    smallest_of_all,
)
from allmlp.plan.job import Job, job_of, papers_recipe
from allmlp.plan.machines import parse_machine
from allmlp.recipe import Recipe
from allmlp.recipes import RECIPES, find

MACHINE = "h100:8"  # where none is named
SHORT_STEP_SECONDS = 0.02  # below that, starting some hundred kernels takes longer than running them
SAID = ("images", "classes", "epochs", "machine", "batch_size", "accumulation", "precision", "sharding",
        "activation_checkpointing", "image_size")


def run(options: argparse.Namespace) -> int:
    if options.check:
        return beside_the_papers(options)
    if options.csv:
        raise BadSetting("--csv goes with --check; a plan is printed as text, or with --json")
    if options.target is None:
        raise BadSetting("give MODEL or RECIPE (`allmlp models` lists the networks), or --check")
    machine, devices = parse_machine(options.machine or MACHINE)
    job = job_of(changed(recipe_of(options.target), options), options.images, options.classes)
    layout = Layout(machine, devices, options.sharding or "none", options.activation_checkpointing)
    found = estimate(job, layout)
    if options.json:
        print(json.dumps(as_json(job, found)))
    else:
        print("\n".join(as_text(job, found)))
    return 0


def beside_the_papers(options: argparse.Namespace) -> int:
    given = [repr(options.target)] * (options.target is not None)
    given += [f"--{name.replace('_', '-')}" for name in SAID
              if (value := getattr(options, name)) is not None and value is not False]
    if given:
        raise BadSetting(f"--check compares with the papers' tables and takes nothing else; leave {given[0]} out")
    check_csv(options.csv, ",".join(check.COLUMNS), options.json)
    rows = check.all_rows()
    if options.csv:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*check.COLUMNS, "command"])
        writer.writerows([row.table, row.row, row.unit, f"{row.published:g}", f"{row.predicted:.4g}",
                          f"{row.error_percent:.1f}", row.note, "allmlp plan --check"] for row in rows)
        if options.csv == STDOUT:
            sys.stdout.write(text.getvalue())
        else:
            write_text_atomically(Path(options.csv), text.getvalue())
    if options.json:
        print(json.dumps([{**row._asdict(), "error_percent": row.error_percent} for row in rows]))
    elif not options.csv:
        print(check.as_text(rows))
    return 0


def recipe_of(target: str) -> Recipe:
    """A recipe by name or file, or for a network's name the papers' recipe. Raises `UnknownName`."""
    if target in VARIANTS:
        return papers_recipe(target)
    if target in RECIPES or target.endswith(".json") or Path(target).is_dir():
        return find(target)
    raise unknown_name("model or recipe", target, [*VARIANTS, *RECIPES], "or give a recipe.json")


def changed(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """The recipe with what the options say."""
    changes: dict[str, Any] = {
        "batch_size": options.batch_size, "gradient_accumulation": options.accumulation,
        "precision": options.precision, "image_size": options.image_size,
        "schedule": None if options.epochs is None else recipe.schedule.for_epochs(options.epochs),
    }
    return recipe.with_(**{key: value for key, value in changes.items() if value is not None})


def as_json(job: Job, found: Estimate) -> dict[str, Any]:
    layout = found.layout
    return {
        "name": job.name, "model": job.config.model_dump(mode="json"), "images": job.images, "steps": job.steps,
        "epochs": job.epochs, "batch_size": job.batch_size, "parts": job.parts, "precision": job.precision,
        "parameters": counts(job.config).weights, "macs": counts(job.config).flops // 2, "training_flops": found.flops,
        "tpu_v3_core_days": paper_core_days(job), "notes": list(job.notes), "chosen": row(found),
        "layouts": [row(estimate(job, other)) for other in layouts(layout)],
        "smallest": [row(each) for each in smallest_of_all(job, layout.sharding, layout.checkpointing)],
    }


def row(found: Estimate) -> dict[str, Any]:
    return {"machine": found.layout.machine.name, "devices": found.layout.devices, "sharding": found.layout.sharding,
            "activation_checkpointing": found.layout.checkpointing, "images_at_a_time": found.local_images,
            "images_per_second": found.images_per_second, "hours": found.hours, "device_days": found.device_days,
            "memory_bytes": asdict(found.memory), "fits": found.fits}


def as_text(job: Job, found: Estimate) -> list[str]:
    """The plan for a terminal."""
    layout, memory, machine = found.layout, found.memory, found.layout.machine
    parts = f" in {job.parts} parts" if job.parts > 1 else ""
    text = [
        f"{job.name}: {counts(job.config).weights:,} parameters, {counts(job.config).flops / 2e9:,.4g} GMAC per image; "
        f"{job.epochs:,.4g} epochs of {job.images:,} images, {job.steps:,} steps of {job.batch_size:,}{parts}, "
        f"{job.precision}",
        *job.notes,
        f"training takes {found.flops:.3g} FLOPs; {paper_core_days(job):,.3g} TPUv3-core-days as the papers count",
        "",
        f"{layout.devices} x {machine.name}: {found.images_per_second:,.0f} images/s, {hours(found.hours)}, "
        f"{found.device_days:,.3g} device-days",
        f"memory of a device, GB ({found.local_images:,} images at a time): "
        + ", ".join(f"{name} {gigabytes(getattr(memory, name))}" for name in
                    ("weights", "gradients", "moments", "average", "activations", "workspace", "gathered")
                    if getattr(memory, name)),
        "",
        f"{'sharding':10}{'checkpointing':15}{'peak GB':>9}  {'of ' + gigabytes(machine.memory_bytes):9}{'time':>12}",
    ]
    for other in layouts(layout):
        each = estimate(job, other)
        cells = (other.sharding, "yes" if other.checkpointing else "no", gigabytes(each.memory.peak),
                 "fits" if each.fits else "too large", hours(each.hours))
        text.append("{:10}{:15}{:>9}  {:9}{:>12}".format(*cells) + "  <" * (other == layout))
    if not found.fits:
        text.append(advice(job, found))
    if found.step_seconds < SHORT_STEP_SECONDS:
        text.append(f"A step of {1000 * found.step_seconds:.2g} ms is too short to be true: starting its kernels is "
                    "not counted, and takes longer. The real time is that of your own short run.")
    text += ["", *machines(job, layout)]
    text.append("Not counted: loading images, exchanging gradients, evaluation. `allmlp plan --check` shows the errors "
                "against the papers' tables.")
    return text


def advice(job: Job, found: Estimate) -> str:
    parts = parts_that_fit(job, found.layout)
    if parts is None:
        return "Does not fit with any --accumulation; take another machine, sharding or checkpointing."
    return f"Fits with --accumulation {parts}, which computes the same in smaller parts."


def machines(job: Job, layout: Layout) -> list[str]:
    """The fewest devices of each kind, the smallest machine first."""
    how = ("sharded" if layout.sharding == "fsdp" else "not sharded") + (", checkpointing" * layout.checkpointing)
    rows = smallest_of_all(job, layout.sharding, layout.checkpointing)
    if not rows:
        return [f"No machine of up to {MOST_TRIED:,} devices holds it ({how})."]
    return [f"the smallest machines that hold it ({how}, {job.parts} part(s) of a batch), least memory first:",
            f"{'':10}{'devices':>8}{'GB in all':>11}{'peak GB':>9}{'images/s':>11}{'time':>12}",
            *(f"{each.layout.machine.name:10}{each.layout.devices:>8,}"
              f"{gigabytes(each.layout.devices * each.layout.machine.memory_bytes):>11}"
              f"{gigabytes(each.memory.peak):>9}{each.images_per_second:>11,.0f}{hours(each.hours):>12}"
              for each in rows)]


def gigabytes(size: float) -> str:
    return f"{size / 1e9:,.3g}" if size < 1e12 else f"{size / 1e9:,.0f}"


def hours(value: float) -> str:
    return f"{60 * value:,.3g} min" if value < 1 else f"{value:,.3g} h" if value < 100 else f"{value / 24:,.3g} days"
