"""TGAN: each modality's space is told apart from what the others say of it (Shou et al. 2023, eq. 2-7).

For each modality m a generator G_m reads the other modalities' vectors and produces one in the space of m, and a
discriminator D_m tells real from generated. They take turns, D first:

    discriminator_loss  trains the discriminators only; nothing else gets a gradient
    generator_loss      trains the generators and, through them, the MLPs of the *source* modalities, which is how a
                        space comes to carry the others; the discriminators get none

What goes on to the graphs is the MLPs' output, not the generators' (end of section IV-A1). The trained generators have
a second use that the paper doesn't: `impute` stands in for a modality that is missing.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

Form = Literal["non-saturating", "literal"]
Sources = Literal["joint", "each"]


class Generators(nn.Module):
    """G_m for each of M modalities: reads the others' vectors and gives one in the space of m.

        G_m(h) = LayerNorm( W GELU( LayerNorm( mean_{n != m, n present} A_mn h_n + b_mn ) ) )

    Each source has its own projection and the mean takes those that are there, so that any one of them will do.
    No noise: the paper's generators have none either.
    """

    def __init__(self, modalities: int, dimension: int, hidden: int) -> None:
        super().__init__()
        if modalities < 2:
            raise ValueError("an adversarial stage needs two modalities: there is nothing to generate from")
        self.modalities, self.dimension = modalities, dimension
        self.project = nn.ModuleList(
            nn.ModuleList(nn.Linear(dimension, hidden) for _ in range(modalities - 1)) for _ in range(modalities)
        )
        self.produce = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden),
                nn.GELU(),
                nn.Linear(hidden, dimension),
                nn.LayerNorm(dimension),  # as the last layer of a separate space
            )
            for _ in range(modalities)
        )

    def forward(self, target: int, spaces: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the vectors generated for modality `target` [K, d] and the rows [K] for which there was a source.

        Shapes: spaces [N, M, d], present bool [N, M]. Vectors of modalities that aren't present are never read.
        """
        sources = [n for n in range(self.modalities) if n != target]
        rows = present[:, sources].any(1).nonzero().flatten()
        there = present[rows][:, sources]
        projected = torch.stack(
            [
                project(spaces[rows, n].masked_fill(~there[:, k : k + 1], 0.0))
                for k, (n, project) in enumerate(zip(sources, _layers(self.project[target]), strict=True))
            ],
            1,
        )
        mean = (projected * there.unsqueeze(-1)).sum(1) / there.sum(1, keepdim=True)
        return self.produce[target](mean), rows

    def impute(self, spaces: Tensor, present: Tensor) -> Tensor:
        """Gives the spaces [N, M, d] with a generated vector for each missing modality.

        What is present is left as it is, and so is an utterance of which nothing is present. Row by row: a live
        utterance gets what it would have got in its dialogue.
        """
        columns = []
        for target in range(self.modalities):
            generated, rows = self(target, spaces, present)
            missing = ~present[rows, target]
            column = spaces[:, target].index_put((rows[missing],), generated[missing].to(spaces.dtype))
            columns.append(column)
        return torch.stack(columns, 1)


class Adversary(nn.Module):
    """The generators and their discriminators, with the two losses that take turns.

    Args:
        modalities: how many there are, at least two.
        dimension: d of the spaces.
        hidden: width inside generators and discriminators; d when not given.
        form: what a generator minimises: -log D(G) (`non-saturating`, trains better) or log(1 - D(G)) (`literal`, as
            eq. 2, 4 and 6 have it).
        sources: `joint`: a generator reads all other modalities at once; `each`: one after the other and the losses
            are averaged, which is how eq. 2-7 sum over sources.
        paired: weight of the squared distance between the vector generated for an utterance and its real one, which
            the paper doesn't have. An adversarial loss alone matches spaces, not utterances; imputing needs both.
        generators: those of a model, which keeps them when training is over; new ones if not given.
    """

    def __init__(
        self,
        modalities: int,
        dimension: int,
        hidden: int | None = None,
        *,
        form: Form = "non-saturating",
        sources: Sources = "joint",
        paired: float = 0.0,
        generators: Generators | None = None,
    ) -> None:
        super().__init__()
        if form not in ("non-saturating", "literal") or sources not in ("joint", "each"):
            raise ValueError(f"no adversarial form {form!r} with sources {sources!r}")
        hidden = hidden or dimension
        self.form, self.sources, self.paired = form, sources, paired
        self.generators = generators or Generators(modalities, dimension, hidden)
        self.discriminators = nn.ModuleList(
            nn.Sequential(nn.Linear(dimension, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))
            for _ in range(modalities)
        )

    def discriminator_loss(self, spaces: Tensor, present: Tensor) -> Tensor:
        """Gives -log D_m(h_m) - log(1 - D_m(G_m(.))), each a mean over utterances, then over m (eq. 3, 5, 7).

        Its gradient reaches the discriminators only. A modality that is nowhere real in the batch, or nowhere
        generated, is left out.

        Shapes: spaces [N, M, d], present bool [N, M] -> scalar.
        """
        spaces = spaces.detach()
        losses = []
        for target, judge in enumerate(self.discriminators):
            with torch.no_grad():
                fakes = [fake for fake, _ in self._generated(target, spaces, present) if len(fake)]
            real = spaces[present[:, target], target]
            if fakes and len(real):
                doubt = torch.stack([functional.softplus(judge(fake)).mean() for fake in fakes]).mean()
                losses.append(functional.softplus(-judge(real)).mean() + doubt)
        return torch.stack(losses).mean() if losses else self._nothing()

    def generator_loss(self, spaces: Tensor, present: Tensor) -> Tensor:
        """Gives what the generators minimise, a mean over utterances and then over m (eq. 2, 4, 6).

        Its gradient reaches the generators and `spaces` of the sources. The discriminators are constants here: step
        them before this is computed, not between this and its `backward()`.

        Shapes: spaces [N, M, d], present bool [N, M] -> scalar.
        """
        losses = []
        for target, judge in enumerate(self.discriminators):
            constants = {name: value.detach() for name, value in judge.named_parameters()}
            own = []
            for fake, rows in self._generated(target, spaces, present):
                if not len(fake):
                    continue
                verdict = functional_call(judge, constants, (fake,))
                loss = functional.softplus(-verdict).mean()
                if self.form == "literal":
                    loss = -functional.softplus(verdict).mean()
                paired = present[rows, target]
                if self.paired and paired.any():
                    truth = spaces[rows[paired], target].detach()  # else the spaces would shrink to meet it
                    loss = loss + self.paired * functional.mse_loss(fake[paired], truth)
                own.append(loss)
            if own:
                losses.append(torch.stack(own).mean())
        return torch.stack(losses).mean() if losses else spaces[:0].sum()

    def impute(self, spaces: Tensor, present: Tensor) -> Tensor:
        """Gives the spaces [N, M, d] with a generated vector for each missing modality: see `Generators.impute`."""
        return self.generators.impute(spaces, present)

    def _generated(self, target: int, spaces: Tensor, present: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The vectors [K, d] generated for a modality and their rows [K], once for each way of reading the sources."""
        if self.sources == "joint":
            return [self.generators(target, spaces, present)]
        one_by_one = []
        for source in range(self.generators.modalities):
            if source != target:
                alone = torch.zeros_like(present)
                alone[:, source] = present[:, source]
                one_by_one.append(self.generators(target, spaces, alone))
        return one_by_one

    def _nothing(self) -> Tensor:
        """A loss of 0 that can be stepped on."""
        return torch.stack([parameter.sum() * 0.0 for parameter in self.discriminators.parameters()]).sum()


def _layers(module: nn.Module) -> nn.ModuleList:
    return cast(nn.ModuleList, module)
