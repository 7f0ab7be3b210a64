"""The precision that is fastest within an accuracy budget: each is exported, run and measured, and one is kept."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from allmlp.backends import find_backend
from allmlp.backends.export import Exported, Wish, check_place, export, finished, put
from allmlp.backends.leftovers import exporting
from allmlp.backends.manifest import Division, Precision
from allmlp.backends.verify import Evidence
from allmlp.errors import AllMLPError, BadSetting, NotForThisNetwork, named
from allmlp.models.model import Model

ORDER: tuple[Precision, ...] = ("int8", "bf16", "fp32")  # as quick as they should be
NOISE = 1.03  # medians move by one or two percent from minute to minute; what is as near as this is equally fast


def export_auto(model: Model, folder: str | os.PathLike, wish: Wish, evidence: Evidence, calibration: np.ndarray | None,
                origin: Mapping[str, Any] | None = None, overwrite: bool = False,
                finish: Callable[[Path], None] | None = None, division: Division | None = None) -> Exported:
    """Export `model` in the fastest precision that loses at most `wish.max_drop` points; `wish.precision` is not used.

    int8 and bf16 are measured in turn with fp32 of the same backend, and the one that is quickest beside it is kept, of
    two that are equally quick the smaller; fp32 where neither passes, or is there for such a network. `manifest.chosen`
    says how each did; `finish` is called for what is kept. Raises what `export` does, and `BadSetting` without
    `max_drop`.
    """
    if wish.max_drop is None:
        raise BadSetting("precision 'auto' takes the fastest within an accuracy budget; give --max-drop POINTS")
    check_place(Path(folder), overwrite)
    target = Path(os.path.realpath(folder))
    done: dict[Precision, tuple[Exported, float]] = {}
    last: Exported | None = None
    said: list[str] = []
    places: list[Path] = []
    beside = contextlib.ExitStack()
    try:
        beside.enter_context(exporting(target))
        for precision in ORDER:
            if precision not in find_backend(wish.backend).limits or (precision == "fp32" and done):
                continue
            places.append(target.with_name(f".{target.name}.{precision}.{secrets.token_hex(4)}.tmp"))
            ours = precision == "int8" and wish.quantiser in (None, "ours")
            asked = replace(wish, precision=precision, quantiser=wish.quantiser if precision == "int8" else None,
                            choices=wish.choices if ours else None, sensitivity=wish.sensitivity and ours,
                            float_layers=wish.float_layers if ours else ())
            try:
                made = export(model, places[-1], asked, evidence, calibration if precision == "int8" else None, origin,
                              division=division)
            except NotForThisNetwork as error:
                if precision == "fp32":
                    raise
                said.append(f"{precision} is left out: {error}")
                continue
            found = made.manifest.verification
            assert found is not None
            if made.folder is None:
                said.append(f"{precision} does not do: {'; '.join(found.failures)}")
                last = made
                continue
            its_fp32 = found.fp32_latency_ms or found.latency_ms
            done[precision] = made, found.latency_ms / its_fp32
            drop = "" if found.accuracy_drop is None else f", accuracy {0.0 - found.accuracy_drop:+.2f} points"
            said.append(f"{precision} passes: {found.latency_ms:.2f} ms beside fp32's {its_fp32:.2f} ms{drop}")
        if not done:
            assert last is not None, "fp32 is tried where nothing passes"
            return Exported(last.manifest.with_(chosen=tuple(said)), None, last.notes)
        best, why = choose({precision: (ratio, sum(file.bytes for file in made.manifest.files.values()))
                            for precision, (made, ratio) in done.items()})
        made, _ = done[best]
        said.append(f"{best} is chosen: " + (why if len(done) > 1 else "the only one that passes" if len(said) > 1
                                             else "the only one there is" + " below fp32" * (best != "fp32")))
        assert made.folder is not None
        manifest = finished(made.folder, made.manifest.with_(chosen=tuple(said)), finish)
        put(made.folder, target, overwrite)
        return replace(made, manifest=manifest, folder=Path(folder))
    except AllMLPError as error:
        raise named(error, folder, *places) from None
    finally:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)
        beside.close()


def choose(passed: Mapping[Precision, tuple[float, int]]) -> tuple[Precision, str]:
    """The precision to keep, and why. `passed`: of each the latency, over that of one and the same, and bytes."""
    quickest = min(latency for latency, _ in passed.values())
    tied: list[Precision] = [precision for precision, (latency, _) in passed.items() if latency <= quickest * NOISE]
    best = min(tied, key=lambda precision: (passed[precision][1], passed[precision][0]))
    return best, "the fastest that passes" if len(tied) == 1 else (
        f"no slower than {', '.join(each for each in tied if each != best)} by more than the noise, and smaller")
