"""The digits, half from their labels and half from a teacher's answers: another network trained before.

    allmlp train digits --model gmlp_p2_8 --output runs/digits_teacher
    allmlp train digits --recipe digits_distill

Any other teacher: `--set distillation.teacher=...`, a run folder, or a network of timm (with a file of its weights as
`distillation.teacher_weights`).

Published: nothing.
Here: with 10 labels a class, 92.04 ± 1.16 % from the same Mixer trained for twice the epochs on the same images (itself
93.89 ± 0.48 %), 92.59 ± 1.16 % from one that had all labels, and 91.11 ± 1.11 % without a teacher (3 seeds, equal
epochs: `python benchmarks/objectives.py`, results/objectives.csv). Hard labels did not help: 91.30 ± 1.97 %.
Time and hardware: that of the digits recipe and a pass of the teacher for each step.
UNVERIFIED: the whole training part, and gMLP as the teacher, were not measured.
"""

from allmlp.recipe import Distillation
from allmlp.recipes import digits

RECIPE = digits.RECIPE.with_(name="digits_distill", expected=None,
                             distillation=Distillation(teacher="runs/digits_teacher", kind="soft", temperature=2.0))
