"""`allmlp data check DATA`: everything that may be wrong with images, before it costs a training run.

Every image is opened once (`examine.py`, which also says when two images are the same).
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import numpy as np

from allmlp.data.dataset import Data, soft
from allmlp.data.examine import Examined, examine_all, examine_dataset, grouped
from allmlp.data.faults import counted, faults, listed, remarks
from allmlp.data.imagefolder import class_names
from allmlp.data.tree import Tree, scan
from allmlp.errors import BadData
from allmlp.values import Value

SUGGESTIONS = (  # images up to this median shorter side, in pixels; our network for it; its image size
    (12, "mixer_p2_8", 8),
    (48, "mixer_t4_32", 32),
    (80, "mixer_t8_64", 64),
    (160, "mixer_t8_96", 96),
    (float("inf"), "mixer_t16_224", 224),
)
IMBALANCE = 3.0  # largest to smallest class, above which weights are suggested
FEW_IMAGES = 10_000  # below, networks without convolution learn little from scratch
LONG_ASPECT = 2.5  # longer to shorter side, above which a central crop loses most of the picture


Known = dict[str, tuple[str, tuple[str, ...]]]  # of each image: its split ("all" for one tree) and its labels


class Range(Value):
    minimum: float
    median: float
    maximum: float


class Report(Value):
    """What was found. Paths are relative to `folder`. `problems` are errors, `remarks` are not; one line each."""

    folder: str
    layout: str
    images: dict[str, int]  # split ("all" for one tree) -> images
    counts: dict[str, dict[str, int]]  # split -> class -> images (of several labels, an image counts for each)
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    bad_files: dict[str, str]  # -> reason
    duplicates_across_splits: tuple[tuple[str, ...], ...]  # groups of the same image
    duplicates_of_other_label: tuple[tuple[str, ...], ...]
    duplicates_within: tuple[tuple[str, ...], ...]  # the same split and the same labels
    width: Range | None  # pixels, of the images that can be read; None if there is none
    height: Range | None
    aspect: Range | None  # width / height
    formats: dict[str, int]
    modes: dict[str, int]  # Pillow's: L grey, RGB, P palette, RGBA, CMYK, I;16 …
    deep: int  # more than 8 bits per channel
    animated: int
    turned: int  # by the EXIF orientation
    suggested_model: str | None
    suggested_image_size: int | None

    @property
    def ok(self) -> bool:
        return not self.problems


def check(folder: str | os.PathLike, progress: Callable[[int, int], None] | None = None) -> Report:
    """Check a folder of images, split or not. `progress` is called with (images done, images in all).

    Raises `BadData` only where there is no image to check: a missing or empty folder, images without classes.
    """
    tree = scan(folder)
    problems = faults(tree)
    known = _split_and_labels(tree)
    if not known:
        raise BadData(problems[0])
    images = examine_all(tree.root, list(known), progress)
    splits = list(dict.fromkeys(part.split or "all" for part in tree.parts))
    return _report(str(folder), _layout(tree), class_names(tree), splits, known, images, problems, remarks(tree))


def check_data(data: Data, progress: Callable[[int, int], None] | None = None) -> Report:
    """Check any other data set, opened without a drawn validation part and without leaving out bad images."""
    known: Known = {}
    images = []
    drawn = data.split_files is not None
    for split, dataset in data.splits.items():
        for index, label in enumerate(dataset.labels):
            which = [int(label)] if dataset.labels.ndim == 1 else np.flatnonzero(label)
            known[dataset.name(index)] = ("all" if drawn else split, tuple(data.classes[k] for k in which))
        images += examine_dataset(dataset, progress)
    splits = ["all"] if drawn else list(data.splits)
    kind = ", soft labels" if soft(next(iter(data.splits.values())).labels) else ""
    layout = "one part" if drawn else f"splits {', '.join(splits)}"
    layout += ", several labels per image" if data.multi_label else kind
    return _report(data.name, layout, data.classes, splits, known, images, [], list(data.notes))


def _report(folder: str, layout: str, classes: Sequence[str], splits: Sequence[str], known: Known,
            images: Sequence[Examined], problems: list[str], notes: list[str]) -> Report:
    good = [image for image in images if not image.bad]
    bad_files = {image.file: image.bad for image in images if image.bad}
    across, other_label, within = _duplicates(good, known)
    found = Counter((split, label) for split, labels in known.values() for label in labels)
    counts = {split: {name: found[split, name] for name in classes} for split in splits}
    if bad_files:
        named = listed(f"{file} ({why})" for file, why in bad_files.items())
        problems.append(f"{len(bad_files)} of {counted(len(images), 'image')} cannot be read: {named}; repair or "
                        "remove, or train with --skip-bad")
    if across:
        problems.append(f"{counted(len(across), 'image')} in more than one split, which makes results look better than "
                        f"they are: {_groups(across)}")
    if other_label:
        problems.append(f"{counted(len(other_label), 'image')} with different labels in different places: "
                        f"{_groups(other_label)}")
    total = sum(split in ("train", "all") for split, _ in known.values())
    notes = notes + _copies(within, drawn=len(splits) == 1) + _balance(counts, total) + _unusual(good)
    ratios = [width / height for width, height in (image.size for image in good)]
    model, image_size = _suggestion(good)
    return Report(
        folder=folder,
        layout=layout,
        images={split: sum(own == split for own, _ in known.values()) for split in counts},
        counts=counts,
        problems=tuple(problems),
        remarks=tuple(notes),
        bad_files=bad_files,
        duplicates_across_splits=across,
        duplicates_of_other_label=other_label,
        duplicates_within=within,
        width=_range([image.size[0] for image in good]),
        height=_range([image.size[1] for image in good]),
        aspect=_range(ratios),
        formats=dict(Counter(image.format for image in good).most_common()),
        modes=dict(Counter(image.mode for image in good).most_common()),
        deep=sum(image.deep for image in good),
        animated=sum(image.animated for image in good),
        turned=sum(image.turned for image in good),
        suggested_model=model,
        suggested_image_size=image_size,
    )


def _split_and_labels(tree: Tree) -> Known:
    """Of each image: its split ("all" for one tree) and its labels."""
    found = {}
    for part in tree.parts:
        split = part.split or "all"
        if part.label_file is not None:
            labels = part.label_file.labels.values()
            found |= {file: (split, own) for file, own in zip(part.images(), labels, strict=True)}
        else:
            found |= {file: (split, (name,)) for name, files in part.classes.items() for file in files}
    return found


def _duplicates(
    images: Sequence[Examined], known: Known
) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Groups of the same image: across splits, under other labels (a group may be both), and neither."""
    across, other_label, within = [], [], []
    for group in grouped(images, lambda image: image.digest):
        files = tuple(image.file for image in group)
        splits, labels = {known[file][0] for file in files}, {known[file][1] for file in files}
        if len(splits) > 1:
            across.append(files)
        if len(labels) > 1:
            other_label.append(files)
        if len(files) > 1 and len(splits) == len(labels) == 1:
            within.append(files)
    return tuple(across), tuple(other_label), tuple(within)


def _groups(groups: Sequence[tuple[str, ...]]) -> str:
    return listed(" = ".join(files) for files in groups)


def _layout(tree: Tree) -> str:
    kind = "one tree" if tree.one_tree else "split folders " + ", ".join(f"{part.folder}/" for part in tree.parts)
    soft_labels = any(part.label_file is not None and part.label_file.shares is not None for part in tree.parts)
    return kind + (", soft labels" if soft_labels else ", several labels per image" if tree.multi_label else "")


def _copies(within: Sequence[tuple[str, ...]], drawn: bool) -> list[str]:
    if not within:
        return []
    danger = "; a drawn validation part may get copies of training images: remove them" if drawn else ""
    return [f"{counted(len(within), 'image')} there more than once{danger}: {_groups(within)}"]


def _balance(counts: Mapping[str, Mapping[str, int]], total: int) -> list[str]:
    """What the number of training images says; `total` of them."""
    found = []
    training = counts.get("train") or counts.get("all") or {}
    present = {name: count for name, count in training.items() if count}
    if present and max(present.values()) > IMBALANCE * min(present.values()):
        largest, smallest = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        found.append(f"classes are uneven ({largest} {present[largest]}, {smallest} {present[smallest]} images): "
                     "consider --set loss.class_weights=balanced")
    if set(counts) in ({"train"}, {"all"}):
        found.append("no validation split: a part is held out when training starts")
        if single := [name for name, count in present.items() if count == 1]:
            found.append(f"only one image, which stays in training: {listed(single)}")
    if 0 < total < FEW_IMAGES:
        found.append(f"{counted(total, 'training image')}, few for training from scratch (below {FEW_IMAGES:,}): "
                     "start from pretrained weights if the accuracy matters")
    return found


def _unusual(images: Sequence[Examined]) -> list[str]:
    long = [image.file for image in images if max(image.size) > LONG_ASPECT * min(image.size)]
    kinds = {
        "animated or of several pages; the first is used": [image.file for image in images if image.animated],
        "CMYK, converted to RGB without colour profile": [image.file for image in images if image.mode == "CMYK"],
        "of more than 8 bits per channel, scaled to 8": [image.file for image in images if image.deep],
        "turned by the EXIF orientation": [image.file for image in images if image.turned],
        f"more than {LONG_ASPECT:g} times as long as wide; a central crop sees a small part": long,
    }
    return [f"{counted(len(files), 'image')} {what}: {listed(files)}" for what, files in kinds.items() if files]


def _range(values: Sequence[float]) -> Range | None:
    return Range(minimum=min(values), median=median(values), maximum=max(values)) if values else None


def _suggestion(images: Sequence[Examined]) -> tuple[str, int] | tuple[None, None]:
    if not images:
        return None, None
    side = median(min(image.size) for image in images)
    return next((model, size) for limit, model, size in SUGGESTIONS if side <= limit)


# --- as text ---------------------------------------------------------------------------------------------------------

MAX_ROWS = 30  # of the class table, and of bad files


def render(report: Report) -> str:
    """The report for a terminal: what there is, then problems, then remarks."""
    classes = next(iter(report.counts.values()))
    lines = [f"{report.folder}: {report.layout}; {counted(len(classes), 'class', 'classes')}, "
             f"{counted(sum(report.images.values()), 'image')}", "", *_table(report)]
    for name, own, unit in (("width", report.width, " px"), ("height", report.height, " px"),
                            ("width / height", report.aspect, "")):
        if own is not None:
            lines.append(f"{name:15s} {own.minimum:.4g} to {own.maximum:.4g}{unit}, median {own.median:.4g}")
    lines += [f"{'formats':15s} {_tally(report.formats)}", f"{'modes':15s} {_tally(report.modes)}"]
    if report.suggested_model:
        size = report.suggested_image_size
        lines.append(f"{'suggestion':15s} {report.suggested_model}, image size {size} x {size}")
    bad = [f"{file}: {why}" for file, why in report.bad_files.items()]
    for title, own in (("problems", report.problems), ("unreadable files", bad), ("remarks", report.remarks)):
        if own:
            more = [f"  … and {len(own) - MAX_ROWS} more"] if len(own) > MAX_ROWS else []
            lines += ["", f"{title} ({len(own)})", *(f"  - {line}" for line in own[:MAX_ROWS]), *more]
    if report.ok:
        lines += ["", "no problems"]
    return "\n".join(lines)


def _table(report: Report) -> list[str]:
    counts = report.counts
    names = list(next(iter(counts.values())))
    width = max(len("images"), *(len(name) for name in names[:MAX_ROWS])) if names else 6
    rows = [f"{'class':{width}s} " + " ".join(f"{split:>7s}" for split in counts)]
    rows += [f"{name:{width}s} " + " ".join(f"{own[name]:7d}" for own in counts.values()) for name in names[:MAX_ROWS]]
    if len(names) > MAX_ROWS:
        rows.append(f"… and {len(names) - MAX_ROWS} classes more (all of them: --json)")
    return [*rows, f"{'images':{width}s} " + " ".join(f"{count:7d}" for count in report.images.values()), ""]


def _tally(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
