"""What is wrong with a folder of images, by its names alone. `open_folder` raises the first fault, `allmlp data check`
lists them all; remarks are what a person should know and may have meant."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from allmlp.data.image import FORMATS
from allmlp.data.labelcsv import NAME
from allmlp.data.tree import SPLIT_FOLDERS, Part, Tree, is_image

SHOWN = 5  # names in one line


def faults(tree: Tree) -> list[str]:
    """Why the folder cannot be used, one line each; empty if it can."""
    root = tree.root
    if nothing := _nothing_at_all(tree):
        return [nothing]
    found: list[str] = []
    by_split: dict[str, Part] = {}
    for part in tree.parts:
        if part.split in by_split:
            found.append(f"{root}: {by_split[part.split].folder}/ and {part.folder}/ are both the {part.split} split; "
                         "keep one")
        by_split.setdefault(part.split, part)
    train = by_split.get("train") or by_split.get("")
    if train is None:
        flat = [name for name in tree.unused if SPLIT_FOLDERS.get(name.rstrip("/").lower()) == "train"]
        why = f"{flat[0]} has no class folders" if flat else "there is no train/"
        found.append(f"{root}: it has {listed(f'{part.folder}/' for part in tree.parts)} but {why}; to use one of them "
                     f"alone give that folder, {root / tree.parts[0].folder}")
        return found
    if tree.multi_label and any(part.label_file is None for part in tree.parts):
        without = listed(f"{part.folder}/" for part in tree.parts if part.label_file is None)
        found.append(f"{root}: a {NAME} in some splits but not in {without}; put one in each")
    if len({part.label_file.shares is None for part in tree.parts if part.label_file is not None}) > 1:
        found.append(f"{root}: a {NAME} with labels in one split and with shares in another; use one of them in all")
    for part in tree.parts:
        found += part.label_file.problems if part.label_file else ()
    if not tree.multi_label:
        found += _class_faults(tree, train)
        for part in tree.parts:
            found += _class_set_faults(root, train, part)
    return found


def remarks(tree: Tree) -> list[str]:
    """What was left aside, one line each."""
    found: list[str] = []
    if tree.hidden:
        found.append(f"{counted(len(tree.hidden), 'hidden or system path')} ignored: {listed(tree.hidden)}")
    for part in tree.parts:
        where = f"{part.folder}/: " if part.folder else ""
        if part.others:
            found.append(f"{where}{counted(len(part.others), 'file')} not read as an image ({_suffixes(part.others)})")
        if part.stray:
            place = f"not in {NAME}" if part.label_file else "in no class folder"
            found.append(f"{where}{counted(len(part.stray), 'image')} {place} and not used: {listed(part.stray)}")
        empty = [name for name, files in part.classes.items() if not files]
        if empty and part.split in ("val", "test"):
            found.append(f"{where}no images of {listed(empty)}")
    if tree.unused:
        found.append(f"not used, because it is no split: {listed(tree.unused)}")
    here = tree.root.resolve()
    if tree.one_tree and here.name.lower() in SPLIT_FOLDERS:
        beside = [name for name in _folders(here.parent) if name != here.name and name.lower() in SPLIT_FOLDERS]
        if beside:
            found.append(f"beside {here.name}/ lies {listed(f'{name}/' for name in beside)}, which is not used; "
                         f"give {here.parent} to use both")
    return found


def counted(count: int, noun: str, nouns: str = "") -> str:
    """"1 image", "2 images"."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def listed(names: Iterable[str]) -> str:
    """The first few names of many."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _nothing_at_all(tree: Tree) -> str:
    if tree.multi_label or any(part.images() for part in tree.parts):
        return ""
    stray = [file for part in tree.parts for file in part.stray]
    if stray:
        where = tree.root / PurePosixPath(stray[0]).parent
        return f"{where}: images lie directly in it, without a folder for each class; {_one_level_up(where)}"
    others = [file for part in tree.parts for file in part.others]
    if others:
        return f"{tree.root}: no images in it; it has {_suffixes(others)}; accepted are {', '.join(FORMATS)} files"
    return f"{tree.root}: no images in it; expected a folder for each class, with images in it"


def _one_level_up(folder: Path) -> str:
    parent = folder.resolve().parent
    siblings = [name for name in _folders(parent) if name != folder.resolve().name and _holds_images(parent / name)]
    if siblings:
        return f"this looks one level too deep (beside it lies {siblings[0]}/): give {parent}"
    return "put the images of each class into a folder with the name of the class"


def _inner_splits(tree: Tree, train: Part) -> str:
    """The fault of a tree in which every "class" has split folders of its own."""
    inner = {}
    for path in sorted(tree.folders):
        name, _, below = path.partition("/")
        if below.lower() in SPLIT_FOLDERS:
            inner.setdefault(name, below)
    if not tree.one_tree or inner.keys() != train.classes.keys():
        return ""
    name, split = next(iter(inner.items()))
    if any(folder.startswith(f"{name}/{split}/") for folder in tree.folders):
        return f"{tree.root}: this looks one level too high: give {tree.root / name}, which holds {split}/"
    return f"{tree.root}: the splits lie inside the class folders ({name}/{split}/); turn it round: {split}/{name}/"


def _class_faults(tree: Tree, train: Part) -> list[str]:
    root, where = tree.root, tree.root / train.folder
    if inner := _inner_splits(tree, train):
        return [inner]
    if tree.one_tree and all(name.lower() in SPLIT_FOLDERS for name in train.classes):
        return [f"{root}: {listed(f'{name}/' for name in train.classes)} hold images directly, without a folder for "
                f"each class; put them into class folders (train/cat/1.jpg) or give the labels in a {NAME}"]
    found = []
    empty = [name for name, files in train.classes.items() if not files]
    if empty:
        inside = [file for file in train.others if file.removeprefix(f"{train.folder}/").split("/")[0] in empty]
        holds = f" (but {_suffixes(inside)})" if inside else ""
        found.append(f"{where}: no images{holds} in {listed(f'{name}/' for name in empty)}; "
                     "a class needs at least one: add images or remove the folder")
    if len(train.classes) == 1:
        name = next(iter(train.classes))
        below = f"{train.folder}/{name}/".removeprefix("/")
        deeper = [path for path in tree.folders if path.startswith(below) and "/" not in path.removeprefix(below)]
        hint = (f"this looks one level too high: the classes seem to lie in {where / name}" if len(deeper) > 1
                else "expected two or more class folders")  # fmt: skip
        found.append(f"{where}: only one class ({name}/); {hint}")
    return found


def _class_set_faults(root: Path, train: Part, part: Part) -> list[str]:
    missing = [name for name in train.classes if name not in part.classes]
    unknown = [name for name in part.classes if name not in train.classes]
    found = []
    if unknown:
        found.append(f"{root}: {part.folder}/ has classes that {train.folder}/ lacks: {listed(unknown)}")
    if missing:
        found.append(f"{root}: {part.folder}/ lacks classes that {train.folder}/ has: {listed(missing)}; "
                     "if that is meant, make empty folders of these names there")
    return found


def _suffixes(files: Sequence[str]) -> str:
    """".txt 3, .heic 2", with a word of advice about HEIC."""
    counts = Counter(PurePosixPath(file).suffix.lower() or "no suffix" for file in files)
    text = listed(f"{suffix} {count}" for suffix, count in counts.most_common())
    return text + ("; convert .heic to JPEG" if counts.keys() & {".heic", ".heif"} else "")


def _folders(parent: Path) -> list[str]:
    try:
        return sorted(path.name for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return []


def _holds_images(folder: Path) -> bool:
    try:
        return any(is_image(path.name) for path in folder.iterdir())
    except OSError:
        return False
