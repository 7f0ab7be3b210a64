"""Distillation: learn from a teacher's answers beside the labels.

Sources: DeiT (arXiv 2012.12877, equations 2 and 3), which ResMLP's appendix A takes over. With Z the student's logits,
Z_t the teacher's, y the labels' loss of the recipe (mixed labels, smoothing and all):

    hard:  (1 - α)·y(Z) + α·CE(softmax(Z), argmax Z_t)
    soft:  (1 - α)·y(Z) + α·τ²·KL(softmax(Z_t/τ) || softmax(Z/τ))

Where we differ: DeiT's network gives the second term an output of its own; ResMLP has one output, so both terms see the
same logits (the published trainer cannot do that; it follows from ResMLP's text). The divergence is the mean over
images, as in the paper; DeiT's code divides it by the number of classes too.
"""

import torch
from torch import nn
from torch.nn import functional as F

from allmlp.preprocess import Preprocess, normalise
from allmlp.recipe import Distillation
from allmlp.train.losses import LossFunction
from allmlp.train.supervised import Stateless
from allmlp.train.teacher import Teacher


def hard_loss(logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """Cross entropy to the class that the teacher holds for most probable; logits `(N, K)`, mean over images."""
    return F.cross_entropy(logits.float(), teacher_logits.argmax(1))


def soft_loss(logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """τ² times the divergence from the teacher's probabilities to the student's; logits `(N, K)`, mean over images."""
    student, teacher = (F.log_softmax(each.float() / temperature, dim=1) for each in (logits, teacher_logits))
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


class Distilled(Stateless):
    """The objective: the labels' loss and the teacher's, in shares of 1 - alpha and alpha."""

    def __init__(self, preprocess: Preprocess, loss_of: LossFunction, teacher: Teacher, settings: Distillation):
        self.preprocess, self.loss_of, self.teacher, self.settings = preprocess, loss_of, teacher, settings

    def loss(self, model: nn.Module, pixels: torch.Tensor, targets: torch.Tensor, step: int) -> torch.Tensor:
        logits, teacher_logits = model(normalise(pixels, self.preprocess)), self.teacher(pixels)
        if self.settings.kind == "hard":
            learnt = hard_loss(logits, teacher_logits)
        else:
            learnt = soft_loss(logits, teacher_logits, self.settings.temperature)
        return (1 - self.settings.alpha) * self.loss_of(logits, targets) + self.settings.alpha * learnt
