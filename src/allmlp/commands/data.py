"""`allmlp data check` and `allmlp data write`."""

import argparse
import json
from pathlib import Path

from allmlp.data import SOURCES, open_data
from allmlp.errors import unknown_name


def run(options: argparse.Namespace) -> int:
    return {"check": check, "write": write}[options.action](options)


def check(options: argparse.Namespace) -> int:
    from allmlp.data import doctor

    report = doctor.check(Path(options.folder))
    print(report.to_json() if options.json else doctor.render(report))
    return 0 if report.ok else 1


def write(options: argparse.Namespace) -> int:
    from allmlp.data.write import write_folder

    if options.source not in SOURCES:
        raise unknown_name("data set", options.source, SOURCES)
    data = open_data(options.source)
    write_folder(data, Path(options.folder))
    counts = {split: len(dataset) for split, dataset in data.splits.items()}
    if options.json:
        print(json.dumps({"folder": options.folder, "images": counts}))
    else:
        print(f"{options.folder}: {', '.join(f'{count:,} {split} images' for split, count in counts.items())}")
    return 0
