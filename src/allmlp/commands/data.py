"""`allmlp data check`, `allmlp data write` and `allmlp shard`, which is `allmlp data shard` too."""

import argparse
import json
import sys
from pathlib import Path

from allmlp.commands.source import given_flags, open_source, refuse_masks, source_of
from allmlp.data import kind_of
from allmlp.data.dataset import Data
from allmlp.errors import BadSetting


def run(options: argparse.Namespace) -> int:
    return {"check": check, "write": write, "shard": shard}[options.action](options)


def check(options: argparse.Namespace) -> int:
    from allmlp.data import doctor

    kind, where = kind_of(options.data)
    if kind == "folder" and (idle := given_flags(options)):
        raise BadSetting(f"{idle[0]} has no effect: a folder is looked at as it lies, all of it; leave it out")
    report = doctor.check(Path(where)) if kind == "folder" else doctor.check_data(_opened(options))
    print(report.to_json() if options.json else doctor.render(report))
    return 0 if report.ok else 1


def write(options: argparse.Namespace) -> int:
    from allmlp.data.write import write_folder

    data = _opened(options)
    write_folder(data, Path(options.folder))
    return _done(options, data, {})


def shard(options: argparse.Namespace) -> int:
    from allmlp.data.shard import write_shards

    data = _opened(options)

    def progress(done: int, total: int) -> None:
        print(f"{done:,} of {total:,} images written", file=sys.stderr)

    return _done(options, data, write_shards(data, options.folder, options.images_per_shard, progress=progress))


def _opened(options: argparse.Namespace) -> Data:
    """The data to be written: all of it, with a validation part drawn only if that is asked for."""
    given = options.val_fraction is not None
    if options.split_seed is not None and not options.val_fraction:
        raise BadSetting("--split-seed says which part --val-fraction holds out, and here none is; give --val-fraction "
                         "too, such as --val-fraction 0.2")
    data = open_source(options, source_of(options) | ({} if given else {"val_fraction": 0.0}))
    refuse_masks(data, f"`allmlp data {options.action}`")
    for note in data.notes:
        print(note, file=sys.stderr)
    return data


def _done(options: argparse.Namespace, data: Data, shards: dict[str, int]) -> int:
    counts = {split: len(dataset) for split, dataset in data.splits.items()}
    if options.json:
        print(json.dumps({"folder": options.folder, "images": counts, **({"shards": shards} if shards else {})}))
    else:
        made = f" in {sum(shards.values())} shards" if shards else ""
        print(f"{options.folder}: {', '.join(f'{count:,} {split} images' for split, count in counts.items())}{made}")
    return 0
