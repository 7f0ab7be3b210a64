"""`allmlp inspect`: pictures of what networks have learnt, in a folder with a page."""

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from allmlp import checkpoint, figures
from allmlp.backends.network import NetworkPredictor, pooled
from allmlp.backends.pytorch import choose_device
from allmlp.commands.predict import find_images
from allmlp.commands.source import open_source, refuse_idle, source_of, split_of_run
from allmlp.data.dataset import Subset
from allmlp.data.image import IMAGE_EXTENSIONS, open_image
from allmlp.data.seeds import generator
from allmlp.errors import BadCheckpoint, BadData, BadImage, BadSetting, printable
from allmlp.evaluate.predict import predict_dataset
from allmlp.inspection.embedding import embed
from allmlp.inspection.gallery import Gallery, of_features, of_images, of_weights
from allmlp.models.model import Model
from allmlp.report.inspect_page import write_inspection

MOST_NETWORKS = 4  # side by side on a page
MOST_IMAGES = 8  # one below the other in a figure
METHODS = {"tsne": "t-SNE", "umap": "UMAP"}
MOST_EMBEDDED = 2000  # images of DATA, where no other number is asked for


def run(options: argparse.Namespace) -> int:
    refuse_idle(options, {"--split": options.split, "--embedding": options.embedding,
                          "--most-images": options.most_images, "--workers": options.workers})
    if options.threads:
        torch.set_num_threads(options.threads)
    models, patterns = sorted_out([options.model, *options.more])
    paths = along_training(models) if options.along_training else dict(zip(names_of(models), models, strict=True))
    if len(paths) > MOST_NETWORKS:
        raise BadSetting(f"{len(paths)} networks: at most {MOST_NETWORKS} fit side by side on a page")
    output = free_folder(options.output or f"inspect-{file_name('-'.join(names_of(models)))}", options.overwrite)
    files = find_images(patterns) if patterns else []
    images = {file.name: opened(file) for file in files[:MOST_IMAGES]}
    device = choose_device(options.device)
    networks = {name: checkpoint.load_at(path, options.image_size).to(device) for name, path in paths.items()}
    for name, network in networks.items():
        if network.config.segment is not None:
            raise BadSetting(f"{name}: a network for segmentation, and `allmlp inspect` draws those for whole images; "
                             "`allmlp predict` lays its answers over images")

    gallery = of_weights(networks, options.blocks)
    if images:
        gallery += of_images(networks, images)
    if options.data:
        gallery += embedded(networks, options)
    if len(files) > MOST_IMAGES:
        gallery.left_out.append(f"{len(files) - MOST_IMAGES} of {len(files)} images: the first {MOST_IMAGES} are shown")
    written = [figures.save(picture.figure, output / picture.name) for picture in gallery.pictures]
    page = output / "index.html"
    write_inspection(list(networks), gallery, written, shlex.join(["allmlp", *sys.argv[1:]]), page)
    show(gallery, [page, *(path for pair in written for path in pair)], options.json)
    return 0


def sorted_out(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Networks and images among `arguments`, of which the first is a network whatever it is called.

    An image has an image's suffix, is a glob, or a folder without weights.
    """
    def is_image(argument: str) -> bool:
        path = Path(argument)
        if path.is_dir():
            return not any(path.glob("*.safetensors")) and not any(path.glob("*.bin"))
        a_glob = any(sign in argument for sign in "*?[") and not path.exists()
        return a_glob or path.suffix.lower() in IMAGE_EXTENSIONS

    images = [argument for argument in arguments[1:] if is_image(argument)]
    return [arguments[0], *(argument for argument in arguments[1:] if not is_image(argument))], images


def opened(file: Path) -> np.ndarray:
    """One of the IMAGEs, which --skip-bad is not about. Raises `BadData`."""
    try:
        return open_image(file)
    except BadImage as error:
        raise BadData(f"{error}; leave it out") from None


def along_training(models: Sequence[str]) -> dict[str, Path]:
    """The checkpoints that a run kept, by their epoch, in the order of training. Raises `BadSetting` where there is
    nothing to put side by side, `BadCheckpoint` for what is no run."""
    if len(models) != 1:
        raise BadSetting(f"--along-training is for one run; {len(models)} networks were given")
    folder = Path(models[0])
    if not folder.is_dir():
        raise BadCheckpoint(f"{printable(folder)}: not a run folder; --along-training shows the checkpoints of a run")
    found: dict[int, tuple[str, Path]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        if path.name != "state.safetensors":
            about = checkpoint.provenance(path)
            step, epochs = about.get("step"), about.get("epochs")
            if isinstance(step, int):
                found.setdefault(step, (f"{path.stem}, epoch {epochs}", path))
    if len(found) < 2:
        raise BadSetting(f"{folder}: this run kept its weights of one moment only; give copies that you made along the "
                         "way as several MODELs")
    return {name: path for _, (name, path) in sorted(found.items())}


def names_of(models: Sequence[str]) -> list[str]:
    """A short name for each network: of a file or a folder its own, of published weights theirs; numbered if equal."""
    short = [model if checkpoint.is_published(model) else Path(model).name.removesuffix(".safetensors") or model
             for model in models]
    return [f"{name} ({i + 1})" if short.count(name) > 1 else name for i, name in enumerate(short)]


def file_name(name: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "._-" else "-" for sign in name)[:100]


def free_folder(name: str, overwrite: bool) -> Path:
    """The folder to write into. Raises `BadSetting` for one with something in it, and for a file."""
    folder = Path(name)
    if folder.exists() and not folder.is_dir():
        raise BadSetting(f"--output {name}: is a file; give the name of a folder")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise BadSetting(f"--output {name}: holds something already; say --overwrite, or choose another name")
    return folder


def embedded(networks: Mapping[str, Model], options: argparse.Namespace) -> Gallery:
    """The features of DATA. Raises what opening data does, and `BadData` for images with several labels."""
    data = open_source(options, source_of(options), split_of_run(options.model, options))
    split = options.split or next(name for name in ("test", "val", "train") if name in data.splits)
    if split not in data.splits:
        raise BadData(f"{data.name} has no {split} split; it has {', '.join(data.splits)}")
    dataset = data.splits[split]
    if dataset.labels.ndim != 1:
        raise BadData(f"{data.name} has several labels for each image; an embedding has one colour for each")
    method, most = options.embedding or "tsne", options.most_images or MOST_EMBEDDED
    how = f"by {METHODS[method]}: {len(dataset):,} images of {data.name}'s {split} split"
    if len(dataset) > most:
        chosen = generator(0, "inspect", "images").permutation(len(dataset))[:most]
        dataset = Subset(dataset, np.sort(chosen))
        how = how.replace(": ", f": {len(dataset):,} drawn from ", 1)
    points = {}
    for name, model in networks.items():
        features = NetworkPredictor(model, model.preprocess, None, forward=pooled(model))
        points[name] = embed(predict_dataset(features, dataset, workers=options.workers), method)
    gallery = of_features(points, dataset.labels, dataset.classes, how)
    gallery.left_out.extend(data.notes)
    return gallery


def show(gallery: Gallery, files: Sequence[Path], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"page": str(files[0]), "files": [str(file) for file in files],
                          "left_out": gallery.left_out}))
        return
    width = max(len(picture.name) for picture in gallery.pictures)
    for picture in gallery.pictures:
        print(f"{picture.name:{width}}  {picture.title}")
    for line in gallery.left_out:
        print(f"left out: {printable(line)}")
    print(f"page {files[0]}")
