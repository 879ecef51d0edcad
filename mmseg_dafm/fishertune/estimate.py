"""Estimate the diagonal Fisher information on a source domain and on its simulated shift, in one pass over paired samples."""

import logging
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmseg_dafm.core.processes import any_rank, sum_over_ranks, world_size
from mmseg_dafm.fishertune.candidates import Candidate, narrow
from mmseg_dafm.fishertune.criteria import DomainFisher, damping_of
from mmseg_dafm.fishertune.feature_shift import FeatureShift
from mmseg_dafm.fishertune.squared_gradients import (
    Group,
    LayerGradients,
    Losses,
    NotBatchable,
    add_squares_by_batch,
    add_squares_by_loop,
    difference,
    new_accumulators,
    only_requires_grad,
    plan,
    test_mode,
)
from mmseg_dafm.fishertune.variational import LogPrecision, WeightNoise, gamma_of, posterior_width, prior_widths

# the last is no Fisher information: squared gradients of batches, see squared_gradients.batch_squares
ESTIMATORS = ('von', 'plain', 'sgvb', 'batch_gradient')
PATHS = ('auto', 'loop', 'batched')
# Names up to version 0.1, when 'batch' meant three things and blocks two.
RENAMED = {'estimator': {'batch': 'batch_gradient'}, 'path': {'batch': 'batched'}}
CLEAN, SHIFTED = 'clean', 'shifted'
LOGGER = logging.getLogger(__name__)
# the samples of each group in turn
Source = Callable[[Sequence[Group]], Iterable[Sequence[Any]]]
Watch = Callable[[Iterable, int, str], Iterable]
# samples, one seed per sample -> samples with the labels that the losses are taken at
Label = Callable[[Sequence[Any], Sequence[int]], Sequence[Any]]


@dataclass(frozen=True)
class EstimationOptions:
    """How to estimate the Fisher information.

    Attributes:
        images: T2, number of training images.
        batch_size: Images of a group: they share a forward pass where that is exact, and a draw of the weights.
        bank_images: Images that the spread of feature statistics is measured on.
        estimator: ``'von'``, ``'plain'`` or ``'sgvb'``, see :class:`DomainFisherEstimator`; ``'batch_gradient'``: squared
            gradients of batches of ``batch_size`` without a shift, for the criterion ``'F'`` (ChildTuning-D).
        path: ``'loop'``, ``'batched'``, or ``'auto'``: batched where that gives the loop's numbers on the first group.
        damping: Factor on the mean of F(x) that gives m = gamma tau^-2.
        tau: Prior standard deviation as a share of each tensor's root mean square.
        updates: Updates of the posterior of ``'von'``.
        pilot_images: Images that the damping of ``'sgvb'`` is measured on.
        sgvb_lr: Learning rate of Adam of ``'sgvb'``; it moves log Lambda by at most this per step, one step a batch.
        seed: Seeds the order of images, the shift and the drawn weights.

    Raises:
        ValueError: If an option is unknown, of another type or out of range.
    """

    images: int = 1000
    batch_size: int = 1
    bank_images: int = 256
    estimator: str = 'von'
    path: str = 'auto'
    damping: float = 1.0
    tau: float = 0.05
    updates: int = 8
    pilot_images: int = 16
    sgvb_lr: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        for key, renamed in RENAMED.items():
            if getattr(self, key) in renamed:
                new = renamed[getattr(self, key)]
                warnings.warn(f'estimation.{key}={getattr(self, key)!r} is now {new!r}.', DeprecationWarning, stacklevel=3)
                object.__setattr__(self, key, new)
        for key, known in (('estimator', ESTIMATORS), ('path', PATHS)):
            if getattr(self, key) not in known:
                raise ValueError(f'estimation.{key}={getattr(self, key)!r} is unknown: use one of {known}.')
        for key in ('images', 'bank_images', 'batch_size', 'updates', 'pilot_images', 'seed'):
            if not isinstance(getattr(self, key), int):
                raise ValueError(f'estimation.{key}={getattr(self, key)!r} must be a whole number.')
        for key in ('images', 'bank_images'):
            if getattr(self, key) < 2:
                raise ValueError(f'estimation.{key}={getattr(self, key)} must be at least 2.')
        for key in ('batch_size', 'updates', 'pilot_images'):
            if getattr(self, key) < 1:
                raise ValueError(f'estimation.{key}={getattr(self, key)} must be at least 1.')
        for key in ('damping', 'tau', 'sgvb_lr'):
            if not getattr(self, key) > 0:
                raise ValueError(f'estimation.{key}={getattr(self, key)} must be above 0.')


class DomainFisherEstimator:
    """F(x) and F(x') of a model's tensors.

    x and x' are the same image with the same seed, so that everything random but the shift cancels. The model is in test
    mode. Random draws follow from ``seed``, the image's number and the group's number: the result does not depend on the
    number of processes, up to rounding (``'sgvb'`` excepted, whose steps follow each other).

    Normalisation: F is the mean over images of the squared gradient of one image's loss, so every image counts the same.
    Within an image the model's own loss takes the mean over pixels. mmseg's cross-entropy with ``avg_non_ignore=False`` (its
    default) divides by all pixels: an image with a share r of ignored pixels then counts (1 - r)^2 of what it counts with
    ``avg_non_ignore=True``.

    Estimators:
        ``'plain'``: F = mean of g^2 at the pretrained weights (equation 9).
        ``'von'``: :func:`~mmseg_dafm.fishertune.variational.von_update` with theta ~ N(theta_pt, Lambda^-1) and rho = 1/k in
        the k-th of ``options.updates`` blocks of images. It starts at the prior, Lambda = tau^-2, and costs one pass, as
        ``'plain'``.
        ``'sgvb'``: algorithm 1 to the letter, Adam on log Lambda. Deviation: gamma comes from the damping and a plain
        estimate of ``pilot_images``.

    Args:
        model: The whole model; its test mode and gradient flags are restored.
        tensors: The tensors theta, by name.
        losses: Losses of samples; see :data:`mmseg_dafm.fishertune.squared_gradients.Losses`.
        source: Gives the samples of groups.
        shift: The perturbation.
        options: How to estimate.
        candidates: Rows that the damping is the mean over; None takes all.
        watch: Shows progress.
        label: Labels the samples, on x and at the pretrained weights whatever the estimator: x' and perturbed weights are judged
            by the same labels. None takes those they have.
        tolerance: How far the batched path may be from the loop on the first group, as a share of each tensor's 2-norm: what
            rounding alone does, 1e-3 in float32.
        name: Name of a sample for messages, such as its file.

    Raises:
        ValueError: For options out of range.

    Source: FisherTune, sections 3.3.1 and 3.3.2.
    """

    def __init__(
        self,
        model: nn.Module,
        tensors: Mapping[str, nn.Parameter],
        losses: Losses,
        source: Source,
        shift: FeatureShift,
        options: EstimationOptions,
        candidates: Sequence[Candidate] | None = None,
        watch: Watch = lambda items, total, title: items,
        label: Label | None = None,
        tolerance: float = 1e-3,
        name: Callable[[Any], str] = lambda sample: 'a sample',
    ) -> None:
        if options.estimator == 'batch_gradient':
            raise ValueError("estimator='batch_gradient' has no shift: call squared_gradients.batch_squares.")
        self.model, self.tensors, self.source, self.shift = model, dict(tensors), source, shift
        self.unchecked_losses, self.name = losses, name
        self.bad: list[str] = []
        self.options, self.candidates = options, candidates
        self.watch, self.label, self.tolerance, self.tau = watch, label, tolerance, prior_widths(tensors, options.tau)
        self.device = next(iter(self.tensors.values())).device
        self.strengths = torch.zeros(options.images, 2, dtype=torch.float64)
        self.layers: LayerGradients | None = None

    def run(self) -> DomainFisher:
        """Estimate; all processes end with the same values.

        Raises:
            ValueError: If F is not finite or zero, or ``path='batched'`` does not apply.
        """
        with test_mode(self.model):
            self.measure_spreads()
            used = self.choose_path()
            estimate = self._sgvb if self.options.estimator == 'sgvb' else self._squares
            weights = self.tensors if used == 'loop' or self.options.estimator == 'sgvb' else {}
            layers = self.layers if used == 'batched' else None
            with only_requires_grad(self.model, weights), layers or nullcontext():
                found, damping = estimate()
        strengths = self.strengths.to(self.device)
        sum_over_ranks([strengths])
        meta = dict(
            estimator=self.options.estimator,
            path=used,
            images=self.options.images,
            batch_size=self.options.batch_size,
            seed=self.options.seed,
        )
        meta.update(positions=list(self.shift.positions), factor=self.shift.factor, noise=self.shift.noise)
        result = DomainFisher(found[CLEAN], found[SHIFTED], strengths.cpu(), damping, self.tau, meta)
        result.check()
        return result

    def losses(self, samples: Sequence[Any], seeds: Sequence[int]) -> Tensor:
        """Losses of samples (B,), which must be finite."""
        found = self.unchecked_losses(samples, seeds)
        if not torch.isfinite(found.detach()).all():
            bad = [sample for sample, loss in zip(samples, found.detach(), strict=True) if not loss.isfinite()]
            self._refuse('the loss', bad)
        return found

    def _refuse(self, what: str, samples: Sequence[Any]) -> None:
        """Stop at samples whose numbers are not finite; among several processes, where all meet next."""
        names = ', '.join(self.name(sample) for sample in samples)
        self.bad.append(
            f'{what} of {names} is not finite, so Fisher information would not be either: look at these images, their labels '
            'and the weights'
        )
        if world_size() == 1:
            self._stop_if_bad()

    def _stop_if_bad(self) -> None:
        """Raise on all processes together what one has met."""
        if any_rank(bool(self.bad), self.device):
            raise ValueError(f'{self.bad[0] if self.bad else "another process met a loss or gradient that is not finite"}.')

    def measure_spreads(self) -> None:
        """Measure how the feature statistics vary over the first ``bank_images`` images."""
        with torch.no_grad():
            # features do not depend on labels, and a pass that made some would be measured, too
            for (_, ids), samples in self._samples(
                self._share(min(self.options.bank_images, self.options.images))[0], 'feature statistics', labelled=False
            ):
                with self.shift.measuring(len(ids)):
                    self.losses(samples, self._seeds(ids))
        self._stop_if_bad()
        self.shift.join_ranks(self.device)
        self.shift.set_spreads()

    def choose_path(self) -> str:
        """``'loop'`` or ``'batched'``, the same on every process."""
        if self.options.path == 'loop' or (self.options.path == 'auto' and self.options.batch_size == 1):
            return 'loop'
        reason = ''
        try:
            layers = self.layers = LayerGradients(self.model, self.tensors)
            for (_, ids), samples in self._samples(self._share(self.options.images)[0][:1], 'choice of the path'):
                reason = self._compare(layers, samples[:2], self._seeds(ids[:2]))
        except NotBatchable as error:
            reason = str(error)
        if not any_rank(bool(reason), self.device):
            return 'batched'
        if self.options.path == 'batched':
            raise ValueError(
                f"path='batched' is not exact for this model: {reason or 'another process says so'}; use path='loop'."
            )
        LOGGER.warning(
            'Fisher information is estimated one image at a time (path="loop"): %s. That makes %d times as many passes as the '
            'batched path: 1.1 times its time on a CPU at batch 4 (docs/benchmarks.md), not measured on a GPU. Without gradient '
            'checkpointing of the backbone and with linear layers, path="auto" batches.',
            reason or 'another process says so', self.options.batch_size,
        )  # fmt: skip
        return 'loop'

    def _compare(self, layers: LayerGradients, samples: Sequence[Any], seeds: Sequence[int]) -> str:
        """Why the batched path is not exact; empty if it is."""
        one, other = new_accumulators(self.tensors), new_accumulators(self.tensors)
        with only_requires_grad(self.model, {}), layers:
            add_squares_by_batch(self.losses, layers, samples, seeds, other)
        with only_requires_grad(self.model, self.tensors):
            add_squares_by_loop(self.losses, self.tensors, samples, seeds, one)
        apart = difference(one, other)
        if apart <= self.tolerance:
            return ''
        return (
            f'on the first images it differs from the loop by {apart:.2%}, more than the {self.tolerance:.2%} of rounding: the '
            'loss of an image depends on the other images of its batch'
        )

    def _squares(self) -> tuple[dict[str, dict[str, Tensor]], float]:
        """Means of squared gradients, at the pretrained weights or at weights drawn from the posterior so far."""
        von = self.options.estimator == 'von'
        shares = self._share(self.options.images, self.options.updates if von else 1)
        totals = {domain: new_accumulators(self.tensors) for domain in (CLEAN, SHIFTED)}
        noise = WeightNoise(self.tensors) if von else None
        done, damping = 0, 0.0
        reader = self._samples([group for share in shares for group in share], 'Fisher information')
        for block, share in enumerate(shares):
            alone = world_size() == 1
            parts = totals if alone else {domain: new_accumulators(self.tensors) for domain in totals}
            # sampling needs the posterior of the blocks before, while this block is added up in place
            widths = {domain: self._widths(totals[domain], done, damping) for domain in totals} if von else {}
            for _ in share:
                (number, ids), samples = next(reader)
                for domain in totals:
                    with noise.drawn(self._seed(number, 1), widths[domain]) if noise is not None else nullcontext():
                        self._add_squares(domain, samples, ids, parts[domain])
            self._stop_if_bad()
            if not alone:
                for domain, part in parts.items():
                    sum_over_ranks(part.values())
                    for name, total in totals[domain].items():
                        total.add_(part[name])
            done = min(self.options.images, self._block_end(block, len(shares)))
            damping = self._damping(totals[CLEAN]) / done
        next(reader, None)
        for found in totals.values():
            for squares in found.values():
                squares.div_(self.options.images)
        return totals, damping

    def _damping(self, total: Mapping[str, Tensor]) -> float:
        return damping_of(total if self.candidates is None else narrow(total, self.candidates), self.options.damping)

    def _widths(self, total: Mapping[str, Tensor], done: int, damping: float) -> Mapping[str, Tensor | float]:
        """Standard deviations of q; those of the prior before anything was seen."""
        if not done or not damping > 0:
            return self.tau
        return {name: posterior_width(part / done, self.tau[name], damping) for name, part in total.items()}

    def _add_squares(self, domain: str, samples: Sequence[Any], ids: Sequence[int], into: Mapping[str, Tensor]) -> None:
        if self.layers is not None and self.layers.handles:
            with self._domain(domain, ids) as seeds:
                add_squares_by_batch(self.losses, self.layers, samples, seeds, into)
            self._check_squares(into, samples)
            return
        for sample, i in zip(samples, ids, strict=True):
            with self._domain(domain, [i]) as seeds:
                add_squares_by_loop(self.losses, self.tensors, [sample], seeds, into)
            self._check_squares(into, [sample])

    def _check_squares(self, squares: Mapping[str, Tensor], samples: Sequence[Any]) -> None:
        if not torch.stack([part.sum() for part in squares.values()]).isfinite().all():
            self._refuse('the gradient', samples)

    def _sgvb(self) -> tuple[dict[str, dict[str, Tensor]], float]:
        """Optimise log Lambda for x and for x', a step per group."""
        pilot, count = new_accumulators(self.tensors), min(self.options.pilot_images, self.options.images)
        for (_, ids), samples in self._samples(self._share(count)[0], 'pilot'):
            add_squares_by_loop(self.losses, self.tensors, samples, self._seeds(ids), pilot)
        self._stop_if_bad()
        sum_over_ranks(pilot.values())
        damping = self._damping(pilot) / count
        gamma = {name: gamma_of(damping, tau) for name, tau in self.tau.items()}
        posteriors = {domain: LogPrecision(self.tensors, gamma, self.tau, self.options.sgvb_lr) for domain in (CLEAN, SHIFTED)}
        noise, names = WeightNoise(self.tensors), list(self.tensors)
        rounds = self._rounds(self._share(self.options.images)[0])
        if self.options.sgvb_lr * len(rounds) < 1:
            LOGGER.warning(
                'sgvb: %d steps of at most %g move log Lambda by less than 1; it stays near the prior, F near 0: raise images or '
                'sgvb_lr', len(rounds), self.options.sgvb_lr,
            )  # fmt: skip
        reader = self._samples([group for group in rounds if group is not None], 'free energy')
        for step, group in enumerate(rounds):
            found = next(reader) if group is not None else None
            for domain, posterior in posteriors.items():
                seed = self._seed(step, 2)
                gradients = [torch.zeros_like(tensor) for tensor in self.tensors.values()]
                size = torch.zeros((), device=self.device)
                if found is not None:
                    (_, ids), samples = found
                    with noise.drawn(seed, posterior.widths()), self._domain(domain, ids) as seeds:
                        loss = self.losses(samples, seeds).sum()
                        gradients = list(torch.autograd.grad(loss, [self.tensors[name] for name in names]))
                    size += len(ids)
                self._stop_if_bad()
                sum_over_ranks([*gradients, size])
                mean = {name: gradient / size for name, gradient in zip(names, gradients, strict=True)}
                posterior.step(mean, noise.epsilon(seed))
        next(reader, None)
        return {domain: posterior.fisher() for domain, posterior in posteriors.items()}, damping

    def _rounds(self, share: list[Group]) -> list[Group | None]:
        """This rank's groups, padded with None to the number of steps that all ranks make."""
        groups = math.ceil(self.options.images / self.options.batch_size)
        steps = math.ceil(groups / world_size())
        return [*share, *[None] * (steps - len(share))]

    @contextmanager
    def _domain(self, domain: str, ids: Sequence[int]) -> Iterator[list[int]]:
        """Shift the model's features in forward and backward passes, if x' is meant; gives the seeds of the images.

        Backward is inside, too, because gradient checkpointing runs blocks again then.
        """
        seeds = self._seeds(ids)
        if domain == CLEAN:
            yield seeds
            return
        with self.shift.shifting(seeds) as drawn:
            yield seeds
        if drawn:
            self.strengths[list(ids)] = torch.stack(drawn).nanmean(0).double()

    def _share(self, images: int, blocks: int = 1) -> list[list[Group]]:
        rank = torch.distributed.get_rank() if world_size() > 1 else 0
        return plan(images, self.options.batch_size, blocks, rank, world_size())

    def _block_end(self, block: int, blocks: int) -> int:
        """Number of images of all ranks in the blocks up to this one."""
        groups = math.ceil(self.options.images / self.options.batch_size)
        return groups * (block + 1) // blocks * self.options.batch_size

    def _samples(self, groups: list[Group], title: str, labelled: bool = True) -> Iterator[tuple[Group, Sequence[Any]]]:
        read = self.watch(self.source(groups), len(groups), title)
        for (number, ids), samples in zip(groups, read, strict=True):
            if labelled and self.label is not None:
                samples = self.label(samples, self._seeds(ids))
            yield (number, ids), samples

    def _seeds(self, ids: Sequence[int]) -> list[int]:
        return [self._seed(i, 0) for i in ids]

    def _seed(self, number: int, purpose: int) -> int:
        return (self.options.seed * 3 + purpose) * 10**7 + number
