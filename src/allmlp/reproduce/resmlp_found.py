"""What the rows of `resmlp-ablations` show: the sign of each change beside the paper's."""

from collections.abc import Sequence
from statistics import fmean

from allmlp.reproduce.experiment import Found, Row
from allmlp.reproduce.spread import deviation
from allmlp.reproduce.variations import changes, first, published_change

CLEAR = 0.15  # points: smaller differences of the paper's single runs have no sign


def found(rows: Sequence[Row]) -> Found:
    """The sign of each change, where it is clear: ours beyond the spread of the seeds, the paper's beyond `CLEAR`. A
    line of which the paper says nothing, or nothing clear, is told and not counted."""
    same, other, unclear, uncounted = [], [], [], []
    for what in dict.fromkeys(row["what"] for row in rows):
        if what == first(rows, what)["baseline"]:
            continue
        here, published = changes(rows, what), published_change(rows, what)
        mean, spread = fmean(here), deviation(here.tolist())
        paper = "no number in the paper" if published is None else f"paper {published:+.1f}"
        told = f"{what} ({mean:+.1f} ± {spread:.1f}, {paper})".replace("(-", "(−").replace("paper -", "paper −")
        if published is None or abs(published) < CLEAR:
            uncounted.append(told)
        else:
            (unclear if abs(mean) <= spread else same if mean * published > 0 else other).append(told)
    lines = [f"{title}: {'; '.join(told)}." for title, told in (
        ("In the paper's direction, beyond the spread over seeds", same), ("Against it", other),
        ("Within the spread", unclear),
        (f"Not counted, as the paper has no number or a change below {CLEAR:g} points", uncounted)) if told]
    verdict = "not found" if not same else "as claimed" if len(same) > len(unclear) and not other else "in part"
    return Found(verdict, " ".join(lines))
