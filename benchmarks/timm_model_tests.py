"""timm's own model tests, from its released source, on our networks as `allmlp.register_with_timm` registers them.

    python benchmarks/timm_model_tests.py [--source SDIST] [--max-gmacs 13] [--only TEST] [--networks PATTERN]

`tests/test_models.py` of the installed timm's source distribution runs unchanged, its lists of exceptions included:
where it asks timm for the names of models, it gets ours, and its filters see them without our prefix, so that what
holds for `mixer_b16_224` is asked of `allmlp_mixer_b16_224`. Tests that name other networks are none of ours and don't
count. Left out are tests that download weights, and networks that are too large for the machine (`--max-gmacs`), except
in tests on the meta device, which compute nothing. Time limits are off: machines differ. One row for each test goes to
results/timm_model_tests.csv, in the place of its earlier one.
"""

import argparse
import datetime
import fnmatch
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from rows import read, write

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import timm
import torch

import allmlp
from allmlp.inspection.flops import count_macs
from allmlp.models.variants import VARIANTS
from allmlp.weights.registry import PREFIX

RESULTS = Path(__file__).parent.parent / "results" / "timm_model_tests.csv"
COLUMNS = ("test", "collected", "passed", "failed", "skipped_by_timm", "left_out", "why_left_out", "seconds", "timm",
           "torch", "python", "machine", "commit", "date", "command")  # fmt: skip
DOWNLOADS = ("test_model_load_pretrained", "test_model_features_pretrained", "test_model_inference")
PER_BLOCK = ("test_prune_intermediate_layers_contract",)  # passes and copies for every block; timm's CI leaves it out
META = ("test_model_default_cfgs", "test_model_default_cfgs_non_std")  # shapes only
PYTEST = ("--quiet", "--no-header", "-p", "no:cacheprovider", "-p", "no:timeout", "-W", "ignore", "--tb=short",
          "--import-mode=importlib")
MODULE = "mlp_mixer"  # where timm's networks of these families are, and so what our names stand for in its lists


def list_ours(
    filter: Any = "", module: Any = "", pretrained: bool = False, exclude_filters: Any = "",
    name_matches_cfg: bool = False, include_tags: bool | None = None,
) -> list[str]:  # fmt: skip
    """timm's `list_models` for our networks: filters see the names without the prefix, with and without their tag."""
    def matches(name: str, patterns: Any) -> bool:
        bare = name.removeprefix(PREFIX)
        patterns = [patterns] if isinstance(patterns, str) else list(patterns)
        return any(fnmatch.fnmatch(text, pattern) for pattern in patterns for text in (bare, bare.partition(".")[0]))

    if module and MODULE not in module:
        return []
    names = LIST_MODELS(f"{PREFIX}*", pretrained=pretrained, name_matches_cfg=name_matches_cfg,
                        include_tags=include_tags)  # fmt: skip
    return [name for name in names if (not filter or matches(name, filter))
            and not (exclude_filters and matches(name, exclude_filters))]


LIST_MODELS = timm.list_models


class Tally:
    """A pytest plugin: leaves out what cannot run here, and counts the rest."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.seconds: dict[str, float] = defaultdict(float)
        self.reasons: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.failures: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = []
        for item in items:
            name = getattr(item, "callspec", None) and item.callspec.params.get("model_name", "")  # type: ignore[attr-defined]
            test = item.originalname  # type: ignore[attr-defined]
            if not isinstance(name, str) or not name.startswith(PREFIX):  # of a test with nothing to test: no string
                continue
            network = name.removeprefix(PREFIX).partition(".")[0]
            if not fnmatch.fnmatch(test, self.options.only) or not fnmatch.fnmatch(network, self.options.networks):
                continue
            self.counts[test]["collected"] += 1
            if test in DOWNLOADS:
                self.leave_out(test, "downloads weights")
            elif test not in META and count_macs(VARIANTS[network]) > self.options.max_gmacs * 1e9:
                self.leave_out(test, f"more than {self.options.max_gmacs:g} GMAC")
            elif test in PER_BLOCK and work(network) > 4 * self.options.max_gmacs * 1e9:
                self.leave_out(test, f"more than {4 * self.options.max_gmacs:g} GMAC times blocks")
            else:
                chosen.append(item)
        items[:] = chosen

    def leave_out(self, test: str, why: str) -> None:
        self.counts[test]["left_out"] += 1
        self.reasons[test][why] += 1

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid.rpartition("::")[2].partition("[")[0]
        self.seconds[test] += report.duration
        if report.when == "call" or report.outcome != "passed":
            self.counts[test]["skipped_by_timm" if report.skipped else report.outcome] += 1
            if report.failed:
                self.failures.append(f"{report.nodeid.rpartition('::')[2]}: {str(report.longrepr)[-300:]}")

    def rows(self) -> list[dict[str, Any]]:
        about = {
            "timm": timm.__version__, "torch": torch.__version__, "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores", "commit": commit(),
            "date": datetime.date.today().isoformat(),
            "command": f"python benchmarks/timm_model_tests.py --max-gmacs {self.options.max_gmacs:g}",
        }  # fmt: skip
        return [
            {**dict.fromkeys(COLUMNS, 0), "test": test, **counts, **about, "seconds": round(self.seconds[test], 1),
             "why_left_out": "; ".join(f"{number} {why}" for why, number in self.reasons[test].items())}
            for test, counts in self.counts.items()
        ]  # fmt: skip


def work(network: str) -> int:
    """Multiply-adds of a pass for every block."""
    return VARIANTS[network].depth * count_macs(VARIANTS[network])


def put(rows: list[dict[str, Any]]) -> None:
    """Put the rows in the place of those of the same tests."""
    together = {row["test"]: row for row in [*read(RESULTS), *rows]}
    write(RESULTS, COLUMNS, sorted(together.values(), key=lambda row: row["test"]))


def commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True,
                          cwd=Path(__file__).parent)  # fmt: skip
    return done.stdout.strip() or "unknown"


def unpack(source: Path | None, folder: Path) -> Path:
    """timm's `tests/test_models.py` in `folder`: of a source distribution, downloaded by pip unless it is given."""
    if source is None:
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "timm",
                        f"timm=={timm.__version__}", "--dest", str(folder)], check=True)  # fmt: skip
        source = next(folder.glob("timm-*.tar.gz"))
    with tarfile.open(source) as archive:
        tests = [member for member in archive.getmembers() if "/tests/" in member.name]
        archive.extractall(folder, tests, filter="data")
    return next(folder.glob("timm-*/tests/test_models.py"))


def main() -> int:
    parser = argparse.ArgumentParser(description="timm's own model tests on our networks.")
    parser.add_argument("--source", type=Path, help="timm's source distribution (default: pip downloads it)")
    parser.add_argument("--max-gmacs", type=float, default=13, help="leave out networks above (default: 13)")
    parser.add_argument("--only", default="*", help="pattern of tests")
    parser.add_argument("--networks", default="*", help="pattern of networks, without the prefix")
    options = parser.parse_args()
    allmlp.register_with_timm()
    timm.list_models = list_ours
    tally, start = Tally(options), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        tests = unpack(options.source, Path(folder))
        pytest.main([*PYTEST, "--rootdir", folder, "-c", os.devnull, str(tests)], plugins=[tally])
    rows = tally.rows()
    if options.networks == "*":
        put(rows)
    for row in rows:
        print(f"{row['test']:45} passed {row['passed']:4} of {row['collected']:4}, failed {row['failed']}, skipped by "
              f"timm {row['skipped_by_timm']}, left out {row['left_out']} ({row['why_left_out']}); {row['seconds']} s")
    print(*tally.failures, sep="\n")
    print(f"{time.monotonic() - start:.0f} s")
    return int(bool(tally.failures) or not rows)


if __name__ == "__main__":
    sys.exit(main())
