"""DINO: a network learns without labels, to say of one view of an image what its own average says of another.

Source: Caron et al., arXiv 2104.14294, and the code beside it (main_dino.py, vision_transformer.py). The student is the
network with a projection head in place of its own; the teacher is the student's moving average. With Z the student's
outputs for the V views of an image, Z_t the teacher's for the first two ("global") ones, and C a running mean of Z_t:

    loss = mean over the pairs (g, v), v ≠ g, of  - softmax((Z_t[g] - C) / τ_t) · log softmax(Z[v] / τ_s)

Subtracting C keeps one output from winning everywhere, the low τ_t keeps all of them from being alike. What is kept of
a run is the teacher without its head, as in the source's own evaluation: a network without classes.

How multi-crop met the fixed number of tokens of ResMLP is not published. Here every view comes at the network's size
(`data.views`), the smaller local crops enlarged to it, so a local view costs what a global one does. Other differences:
the prototypes' frozen gain is left out rather than held at 1; prototypes that do not learn yet still feel weight decay,
which does not change their direction; and the centre moves after the step, not before it (the loss sees the same one).
"""

import copy
import itertools
import math

import torch
import torch.distributed
from torch import nn
from torch.nn import functional as F

from allmlp.checkpoint import check_tensors
from allmlp.data.seeds import derived_seed
from allmlp.errors import BadSetting
from allmlp.models.model import Model
from allmlp.preprocess import normalise
from allmlp.recipe import Dino, Recipe
from allmlp.train.optimizer import total_steps

NUM_GLOBAL = 2  # views that the teacher sees; they come first
INIT_STD = 0.02  # of the head's linear layers, a normal cut at ±2


class DinoHead(nn.Module):
    """Pooled features `(B, C)` to `(B, out_dim)`: an MLP, a bottleneck of length 1, and its product with prototypes.

    Prototypes have length 1 (`normalise_last_layer`) or a learnt one. While `prototypes_learn` is off their gradient is
    zero; it is there all the same, as DDP waits for each.
    """

    def __init__(self, width: int, settings: Dino, generator: torch.Generator | None = None):
        super().__init__()
        sizes = [width, *[settings.head_hidden] * (settings.head_layers - 1), settings.bottleneck]
        layers: list[nn.Module] = []
        for size_in, size_out in itertools.pairwise(sizes):
            linear = nn.Linear(size_in, size_out)
            nn.init.trunc_normal_(linear.weight, std=INIT_STD, generator=generator)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.prototypes = nn.Linear(settings.bottleneck, settings.out_dim, bias=False)
        bound = 1 / math.sqrt(settings.bottleneck)  # PyTorch's own start of a linear layer
        nn.init.uniform_(self.prototypes.weight, -bound, bound, generator=generator)
        self.gain = None if settings.normalise_last_layer else nn.Parameter(torch.ones(settings.out_dim))
        self.prototypes_learn = True

    def forward(self, x_BC: torch.Tensor) -> torch.Tensor:
        prototypes = F.normalize(self.prototypes.weight, dim=1)
        if self.gain is not None:
            prototypes = prototypes * self.gain[:, None]
        if prototypes.requires_grad and not self.prototypes_learn:
            prototypes.register_hook(torch.zeros_like)
        return F.linear(F.normalize(self.mlp(x_BC), dim=-1), prototypes)


def dino_loss(student_VND: torch.Tensor, teacher_GND: torch.Tensor, centre_D: torch.Tensor, student_temperature: float,
              teacher_temperature: float) -> torch.Tensor:
    """The equation above, mean over N images and pairs of views; the teacher's views are the student's first G."""
    targets_GND = ((teacher_GND - centre_D) / teacher_temperature).softmax(-1)
    logs_VND = (student_VND / student_temperature).log_softmax(-1)
    cross_GV = -torch.einsum("gnd,vnd->gv", targets_GND, logs_VND) / student_VND.shape[1]
    return (cross_GV.sum() - cross_GV.diagonal().sum()) / (cross_GV.numel() - len(cross_GV))


def momentum_at(start: float, step: int, num_steps: int) -> float:
    """The teacher's momentum: along a cosine from `start` to 1, which would come one step after the last."""
    return 1 - (1 - start) * (1 + math.cos(math.pi * step / num_steps)) / 2


class DinoObjective:
    """The objective; `model` gets the projection head, the teacher is a copy of it.

    Raises `BadSetting` for what does not go with it in `recipe`.
    """

    def __init__(self, recipe: Recipe, model: Model, steps_per_epoch: int, device: torch.device):
        assert recipe.dino is not None
        if recipe.freeze_backbone:
            raise BadSetting("freeze_backbone leaves DINO nothing to learn; set one of them")
        if recipe.ema_decay is not None:
            raise BadSetting("dino's teacher is the moving average already, and what is kept; set ema_decay to none")
        self.settings: Dino = recipe.dino
        self.preprocess = model.preprocess
        self.steps_per_epoch, self.num_steps = steps_per_epoch, total_steps(recipe.schedule, steps_per_epoch)
        generator = torch.Generator().manual_seed(derived_seed(recipe.seed, "dino head"))
        model.reset_classifier(0, "avg")
        self.student_head = DinoHead(model.num_features, self.settings, generator).to(device)
        model.add_module("head", self.student_head)
        self.teacher = copy.deepcopy(model).eval().requires_grad_(False)
        self.centre = torch.zeros(self.settings.out_dim, device=device)
        self._seen, self._sum = 0, torch.zeros_like(self.centre)  # the teacher's outputs since the last step

    def loss(self, model: nn.Module, pixels: torch.Tensor, targets: torch.Tensor, step: int) -> torch.Tensor:
        """`pixels`: views `(N, V, 3, H, W)`, the global ones first. `targets` are not looked at."""
        epoch = step / self.steps_per_epoch
        self.student_head.prototypes_learn = epoch >= self.settings.last_layer_frozen_epochs
        views = normalise(pixels.transpose(0, 1).flatten(0, 1), self.preprocess)  # all first views, all second, …
        num_images, num_views = pixels.shape[:2]
        with torch.no_grad():
            teacher = self.teacher(views[: NUM_GLOBAL * num_images]).float()
            self._sum += teacher.sum(0)
            self._seen += len(teacher)
        student = model(views).float()
        return dino_loss(student.unflatten(0, (num_views, num_images)), teacher.unflatten(0, (NUM_GLOBAL, num_images)),
                         self.centre, self.settings.student_temperature, self.teacher_temperature(epoch))

    def teacher_temperature(self, epoch: float) -> float:
        """Rises over the first epochs; as in the source it is the same within each of them."""
        start, end = self.settings.teacher_temperature
        warmup = self.settings.teacher_temperature_warmup_epochs
        if epoch >= warmup:
            return end
        return start + (end - start) * min(math.floor(epoch) / max(warmup - 1, 1), 1.0)

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int) -> None:
        """Move the centre by the mean of what the teacher said, in all processes, and the teacher after the student."""
        sums = torch.cat([self._sum, self._sum.new_tensor([self._seen])])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        self.centre.lerp_(sums[:-1] / sums[-1], 1 - self.settings.center_momentum)
        self._seen = 0
        self._sum.zero_()
        momentum = momentum_at(self.settings.teacher_momentum, step, self.num_steps)
        for average, parameter in zip(self.teacher.parameters(), model.parameters(), strict=True):
            average.lerp_(parameter, 1 - momentum)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"centre": self.centre, **{f"teacher/{name}": t for name, t in self.teacher.state_dict().items()}}

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        check_tensors(tensors, self.tensors(), "the state of DINO")
        self.centre.copy_(tensors["centre"])
        self.teacher.load_state_dict({name.removeprefix("teacher/"): tensor for name, tensor in tensors.items()
                                      if name != "centre"})

    def judged(self, model: Model) -> Model:
        """The teacher without its projection head; shares its tensors, so that it follows it."""
        with torch.device("meta"):
            network = Model(self.teacher.config, self.preprocess)
        network.load_state_dict({name: tensor for name, tensor in self.teacher.state_dict().items()
                                 if not name.startswith("head.")}, assign=True)
        return network.eval()
