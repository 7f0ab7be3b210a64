"""What can be mixed into a Mixer: stems, attention, convolution, stages; every idea at the cost of one plain Mixer.

The ideas are named in the discussion that followed the papers, without code or numbers: a stem of convolutions,
attention and Mixer layers in turn or summed, a convolution after each layer, stages. The networks and how they are
brought to one cost are in `hybrid_networks.py`, how their speed is measured in `hybrid_speed.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from allmlp import figures
from allmlp.compare.pareto import front, log_axis
from allmlp.data.dataset import Subset
from allmlp.errors import BadSetting
from allmlp.evaluate.cost_process import macs
from allmlp.reproduce.experiment import Arm, Experiment, Found, Job, Row
from allmlp.reproduce.hybrid_networks import CLASSES, GROUPS, MIXER, NAMES, RESNET, SETS, VIT, network_of
from allmlp.reproduce.hybrid_speed import ENGINE, ONNX, PYTORCH, RUNTIMES, speeds, there
from allmlp.reproduce.learn import learn, open_job
from allmlp.reproduce.small import accuracy_percent, recipe
from allmlp.reproduce.spread import at_end, beyond, deviation, points

SHOWN = 35  # points of accuracy, in the figure's panel of latencies
STEPS, SEEN = 300, 1000  # training images that what was learnt is measured on
SCENES, DIGITS = SETS
SPEED = "speed"
FEW = (MIXER, RESNET, "convolutional stem, B = P", "Mixer + attention, learned")  # of the tests' size
COLUMN = "test_accuracy_percent"


def arms(job: Job) -> Iterator[Arm]:
    if job.scale == "paper":
        raise BadSetting("--scale paper: hybrids has none, as no paper trained them; leave it out")
    if job.data is not None:
        raise BadSetting(f"--data {job.data}: hybrids has sets of its own, {' and '.join(SETS)}; leave it out")
    for seed in range(job.seeds):
        for data in SETS:
            for name in names(job):
                yield Arm(f"{name}: {data}", seed, partial(trained, job, name, data, seed))
    for runtime in RUNTIMES:
        if there(runtime):
            yield Arm(f"{SPEED}, {runtime}", 0, partial(measured, job, runtime))


def names(job: Job) -> Sequence[str]:
    return FEW if job.reduced else NAMES


def trained(job: Job, name: str, data: str, seed: int) -> Mapping[str, Any]:
    splits, preprocess = open_job(job, data).splits, SETS[data].preprocess
    train = splits["train"]
    network = network_of(name, data, seed)
    example = np.zeros((1, 3, *preprocess.image_size), np.float32)
    cost = {"parameters": sum(parameter.numel() for parameter in network.parameters()),
            "macs": macs(network.eval(), next(network.parameters()).new_tensor(example))}
    learn(network, recipe(seed, 4 if job.reduced else STEPS), train, preprocess=preprocess, device=job.device)
    seen = Subset(train, np.linspace(0, len(train) - 1, min(SEEN, len(train))).astype(int))
    return {"network": name, "images": data, **cost,
            "train_accuracy_percent": accuracy_percent(network, seen, preprocess),
            COLUMN: accuracy_percent(network, splits["test"], preprocess)}


def measured(job: Job, runtime: str) -> Iterator[Mapping[str, Any]]:
    networks = {name: partial(network_of, name, SCENES) for name in names(job)[: 2 if job.reduced else None]}
    yield from speeds(job, runtime, networks, SETS[SCENES].preprocess, CLASSES)


# --- what the rows say -----------------------------------------------------------------------------------------------


def accuracies(rows: Sequence[Row], name: str, data: str = SCENES) -> list[float]:
    """Of each seed."""
    return at_end(rows, f"{name}: {data}", COLUMN)


def networks(rows: Sequence[Row]) -> list[str]:
    """Those in the table, in our order."""
    return [name for name in NAMES if accuracies(rows, name)]


def latencies(rows: Sequence[Row], runtime: str) -> dict[str, float]:
    """Milliseconds of one image, by network; empty where the runtime was not there."""
    return {str(row["network"]): float(row["latency_ms"]) for row in rows
            if row["what"] == f"{SPEED}, {runtime}" and row["latency_ms"] is not None}


def on_front(rows: Sequence[Row], runtime: str) -> list[str]:
    """Networks that no other beats in accuracy on scenes and latency, from the fastest to the most accurate."""
    latency = latencies(rows, runtime)
    there = [name for name in networks(rows) if name in latency]
    return [there[i] for i in front([latency[name] for name in there],
                                    [fmean(accuracies(rows, name)) for name in there])]


@figures.style()
def figure(rows: Sequence[Row]) -> Figure:
    """Accuracy on both sets, idea by idea beside the plain Mixer; accuracy on scenes over latency, with the front."""
    listed = networks(rows)
    groups = list(dict.fromkeys(GROUPS[name] for name in listed))
    listed.sort(key=lambda name: groups.index(GROUPS[name]))
    colours = {name: figures.COLOURS[groups.index(GROUPS[name])] for name in listed}
    drawn, *panels = figures.new(figures.TEXT_WIDTH_CM, 3.2 + 0.46 * len(listed), columns=3, width_ratios=(2, 2, 4.2))
    places = np.arange(len(listed))
    for axes, data in zip(panels[:2], (SCENES, DIGITS), strict=True):
        for place, name in zip(places, listed, strict=True):
            found = accuracies(rows, name, data)
            axes.errorbar(fmean(found), place, xerr=deviation(found), fmt="o", color=colours[name], elinewidth=0.9)
        axes.axvline(fmean(accuracies(rows, MIXER, data)), color=figures.QUIET, linewidth=0.8)
        axes.set(xlabel="accuracy, %", title=data, ylim=(len(listed) - 0.5, -0.5), yticks=places)
        axes.set_yticklabels([f"{name}  {place + 1}" for place, name in zip(places, listed, strict=True)]
                             if axes is panels[0] else [str(place + 1) for place in places])
        axes.tick_params(axis="y", length=0)
    runtime = ONNX if latencies(rows, ONNX) else PYTORCH
    over_latency(panels[2], rows, listed, colours, runtime)
    for number, group in enumerate(groups):
        panels[2].plot([], [], "o", color=figures.COLOURS[number], label=group)
    drawn.legend(*panels[2].get_legend_handles_labels(), loc="outside lower center", ncols=len(groups) + 2)
    return drawn


def over_latency(axes: Axes, rows: Sequence[Row], listed: Sequence[str], colours: Mapping[str, str],
                 runtime: str) -> None:
    """Those within `SHOWN` points of the best; the others are named below, by number."""
    latency = latencies(rows, runtime)
    means = {name: fmean(accuracies(rows, name)) for name in listed}
    lowest, below = max(means.values()) - SHOWN, list[str]()
    for number, name in enumerate(listed, 1):
        if name in latency and means[name] < lowest:
            below.append(f"{number} at {means[name]:.0f} % and {latency[name]:.2f} ms")
        elif name in latency:
            found = accuracies(rows, name)
            axes.errorbar(latency[name], fmean(found), yerr=deviation(found), fmt="o", color=colours[name],
                          elinewidth=0.7)
            axes.annotate(str(number), (latency[name], fmean(found)), xytext=(4, 3 if number % 2 else -8),
                          textcoords="offset points", fontsize=6.5, color=figures.INK)
    engine = latencies(rows, ENGINE)
    for name in engine:
        axes.plot(engine[name], fmean(accuracies(rows, name)), "o", color=colours[name], markerfacecolor="white",
                  label=ENGINE)
    best = on_front(rows, runtime)
    axes.plot([latency[name] for name in best], [fmean(accuracies(rows, name)) for name in best], zorder=0,
              drawstyle="steps-post", color=figures.QUIET, linewidth=1, label="front")
    if below:
        axes.annotate("below:\n" + "\n".join(below), (0.02, 0.02), xycoords="axes fraction", fontsize=6.5,
                      color=figures.QUIET)
    axes.margins(x=0.1)
    log_axis(axes)
    axes.set(xlabel=f"one image in {runtime}, ms", title="accuracy over latency, %")


def found(rows: Sequence[Row]) -> Found:
    told = []
    for data in SETS:
        base, better, worse = accuracies(rows, MIXER, data), [], []
        for name in networks(rows)[1:]:
            here = accuracies(rows, name, data)
            if sign := beyond(here, base):
                (better if sign > 0 else worse).append((fmean(here), f"{name} ({points(here, base)})"))
        ups, downs = ("; ".join(text for _, text in sorted(some, reverse=True)) or "none" for some in (better, worse))
        told.append(f"On {data} the plain Mixer has {fmean(base):.1f} ± {deviation(base):.1f} %. Better at equal "
                    f"multiply-adds, beyond the spread over seeds: {ups}. Worse: {downs}.")
    for runtime in (PYTORCH, ONNX):
        if latency := latencies(rows, runtime):
            best = ", ".join(f"{name} ({latency[name]:.2f} ms)" for name in on_front(rows, runtime))
            told.append(f"On the front of accuracy on {SCENES} over latency in {runtime}: {best}.")
    engine, onnx = latencies(rows, ENGINE), latencies(rows, ONNX)
    if MIXER in engine and MIXER in onnx:
        told.append(f"Our engine runs {len(engine)} of them, the Mixer in {engine[MIXER]:.3f} ms beside "
                    f"{onnx[MIXER]:.3f} in ONNX Runtime.")
    return Found("not claimed", " ".join(told))


EXPERIMENT = Experiment(
    name="hybrids",
    title="Stems, attention, convolution and stages in a Mixer, at equal cost",
    source="ideas that the papers' authors and readers named and nobody measured",
    claim="""Nothing is published. Named were: a stem of convolutions in place of patches; Mixer and transformer layers
    in turn, one kind first, or summed; a convolution behind each layer; stages.""",
    laptop=f"""A Mixer of 4 blocks (digit-scenes: width 64, patches P of 8 pixels; digits: width 48, patches of 2) sets
    the cost. Every other network is made wider or narrower until one image takes it as many multiply-adds, within 2
    percent; parameters and speed differ. All learn for {STEPS} steps of 64 images by one plain recipe that is tuned for
    none of them, three seeds each: 5,748 digit scenes of 32 pixels and 1,437 digits of 8 pixels, measured on 1,440 and
    360 test images. B is the side of the pixels that become a token. {VIT} (with positions) and {RESNET} are timm's
    parts. The accuracy on {SEEN:,} training images says how far a network came: most are not through with learning
    after so few steps, so this ranks how fast they learn rather than how good they become.

    Speed is that of the networks for scenes, float32, on one thread, in turns; median of 5 rounds. Networks so small
    spend most of their time between the operations: their number decides, and PyTorch and ONNX Runtime rank them
    differently. The engine runs Mixer, ResMLP and gMLP with patches, so of these networks the plain Mixer only.""",
    paper="There is none: no paper trained these networks.",
    columns=("network", "images", COLUMN, "train_accuracy_percent", "parameters", "macs", "runtime", "latency_ms",
             "images_per_second", "slowest", "fastest", "batch_size"),
    arms=arms,
    figure=figure,
    found=found,
)
