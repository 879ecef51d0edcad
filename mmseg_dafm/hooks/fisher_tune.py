"""FisherTuneHook: warm up the head, score the backbone's weights, and train the best of them."""

import logging
import math
import os.path as osp
from collections.abc import Callable
from dataclasses import replace

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmseg.registry import HOOKS
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmseg_dafm.core.eager import forget_compiled, uncompiled
from mmseg_dafm.core.processes import any_rank, from_first_rank
from mmseg_dafm.core.random_state import preserved_rng
from mmseg_dafm.core.runner import rewrap, unwrapped
from mmseg_dafm.fishertune import schedule
from mmseg_dafm.fishertune.criteria import DomainFisher, coefficient, data_free_score, find_criterion, ranking, score
from mmseg_dafm.fishertune.score_file import check_belongs, differences, fingerprint, load_fisher, save_fisher, some
from mmseg_dafm.hooks.fisher_estimation import WHOLE, Estimation
from mmseg_dafm.hooks.fisher_report import write_selection
from mmseg_dafm.optim.fisher_wrapper import SelectedWeights

SCORES = 'dr_fim.safetensors'


@HOOKS.register_module()
class FisherTuneHook(Hook):
    """FisherTune's three steps in one run: warm-up, Fisher scores of the backbone's weights, growth of the trained set.

    1. Until iteration ``warmup_iters`` (T1) the head is trained and the backbone is frozen.
    2. Then the Fisher information of the backbone's candidates is estimated on ``images`` (T2) training images and on their
       simulated shift, on a loader of its own; random number generators are restored, so the training batches are those of
       a run without the estimation.
    3. From then on (T3) the head and the best-scored weights are trained, ``delta_min`` of the backbone's parameters at first
       and ``delta_max`` in the end. All other weights keep their bits.

    Needs ``optim_wrapper.type`` FisherTuneOptimWrapper or FisherTuneAmpOptimWrapper, which owns the selected weights. The
    selection travels in the optimizer's state: a resumed run never estimates again.

    Written to the work dir: ``dr_fim.safetensors`` (F(x), F(x') and how they were estimated), ``fisher_selection.json`` and
    ``fisher_sensitivity.png`` (block x kind).

    Args:
        warmup_iters: T1.
        criterion: ``'rank'``, ``'eq7'``, ``'eq15'``, ``'mean'``, ``'F'``, ``'dF'``; without data ``'random'``, ``'random_q'``,
            ``'random_k'``, ``'random_v'``, ``'random_ffn'``, ``'magnitude'``, ``'small_magnitude'``.
        coef: Weight of the domain term: ``'abs'``, ``'raw'`` or a number.
        delta_min: Share of the backbone's parameters at the start of step 3; 0.01 is 1 %.
        delta_max: Share at its end.
        schedule: ``'ratio'`` or ``'constant'``; ``'threshold'`` is equation 16 as printed, where the two deltas are thresholds on
            scores in [0, 1] and not shares: 0.01 and 0.05 then train 95 % of the candidates at once.
        growth: k of the ratio schedule.
        interval: Iterations between two growths.
        scores: File of an earlier estimation; nothing is estimated then. The weights must be those that it scored.
        seed: Of images, shifts and random selections; None takes the run's own, so that another training seed selects anew.
        estimation: Options of :class:`mmseg_dafm.hooks.fisher_estimation.Estimation`: ``images``, ``batch_size``,
            ``estimator``, ``label_source``, ``shift``, ...

    Raises:
        ValueError: For options that cannot be, or that a resumed selection was not made with, before training time is spent.

    Source: FisherTune, algorithm 1. Deviation: the set of a step never loses a weight; equation 16 is replaced by a rising
    share (:func:`mmseg_dafm.fishertune.schedule.keep_ratio`).
    """

    # before hooks that keep a copy of the weights or log the state of the optimizer
    priority = 'VERY_HIGH'

    def __init__(
        self,
        warmup_iters: int = 4000,
        criterion: str = 'rank',
        coef: str | float = 'abs',
        delta_min: float = 0.01,
        delta_max: float = 0.05,
        schedule: str = 'ratio',
        growth: float = math.log(10),
        interval: int = 500,
        scores: str | None = None,
        seed: int | None = None,
        estimation: dict | None = None,
    ) -> None:
        try:
            rule = find_criterion(criterion)
        except ValueError as error:
            raise ValueError(f'FisherTuneHook: {error}') from None
        if warmup_iters < 0 or interval < 1:
            raise ValueError(f'FisherTuneHook: warmup_iters={warmup_iters} must be 0 or more, interval={interval} 1 or more.')
        self.warmup_iters, self.criterion, self.coef, self.interval, self.seed = warmup_iters, criterion, coef, interval, seed
        self.growth = dict(mode=schedule, delta_min=delta_min, delta_max=delta_max, rate=growth)
        self.scores, self.best = scores, None
        if 'seed' in (estimation or {}):
            raise ValueError("FisherTuneHook: estimation.seed is the hook's own seed: give it there.")
        try:
            self.estimation = Estimation.of(estimation or {})
        except ValueError as error:
            raise ValueError(f'FisherTuneHook: {error}') from None
        if rule.needs_shift and scores is None and not self.estimation.has_shift:
            raise ValueError(
                f'FisherTuneHook: estimation.estimator={self.estimation.estimator!r} with shift={self.estimation.shift} has no '
                f"shift, which criterion={criterion!r} needs: use 'F'."
            )
        self.trained_count(0.0, 100, 100)
        if rule.needs_data:
            coefficient(torch.zeros(1, 2), coef)

    @property
    def needs_data(self) -> bool:
        """Whether the criterion needs Fisher information."""
        return find_criterion(self.criterion).needs_data

    def trained_count(self, progress: float, base: int, candidates: int) -> int:
        """Number of weights that train at t/T."""
        return schedule.trained_count(progress=progress, base=base, candidates=candidates, **self.growth)

    def before_train(self, runner) -> None:
        """Check the run, and freeze what is not trained."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, SelectedWeights):
            raise ValueError(
                'FisherTuneHook needs optim_wrapper.type FisherTuneOptimWrapper or FisherTuneAmpOptimWrapper, '
                f'got {type(wrapper).__name__}.'
            )
        if getattr(wrapper.backbone, 'frozen', False) is True:
            raise ValueError('FisherTuneHook: the backbone has frozen=True and would never learn: remove it, the hook freezes.')
        if getattr(wrapper.backbone, 'adapter', None) is not None:
            raise ValueError(
                'FisherTuneHook: the backbone has an adapter, which would stay frozen: remove backbone.adapter, or train the '
                'adapter with an ordinary optim_wrapper.'
            )
        if runner.max_iters <= self.warmup_iters:
            raise ValueError(
                f'FisherTuneHook: warmup_iters={self.warmup_iters} leaves nothing of max_iters={runner.max_iters} to tune the '
                'backbone: lower it.'
            )
        counts = getattr(wrapper, '_accumulative_counts', 1)
        if self.warmup_iters % counts or self.interval % counts:
            raise ValueError(
                f'FisherTuneHook: warmup_iters={self.warmup_iters} and interval={self.interval} must be multiples of '
                f'optim_wrapper.accumulative_counts={counts}: the set of weights cannot change within an accumulated step.'
            )
        # with diff_rank_seed every process has another seed, but images and noise must be those of one
        seed = torch.tensor(runner.seed if self.seed is None else self.seed)
        device = next(iter(wrapper.tensors.values())).device
        self.estimation = replace(self.estimation, seed=int(from_first_rank(seed, device)))
        if wrapper.ranking is None and runner.iter > self.warmup_iters:
            raise ValueError(
                f'FisherTuneHook: resumed at iteration {runner.iter}, after warmup_iters={self.warmup_iters}, from a checkpoint '
                'without selected weights: start anew, or resume from a checkpoint of the warm-up.'
            )
        if wrapper.ranking is None:
            wrapper.expect_selection()
            self.check_selection(uncompiled(unwrapped(runner.model)), wrapper)
            if self.scores is not None:
                self.best = self.ranked(runner, lambda wrapper: self.given_scores(runner, wrapper))
        else:
            self.check_settings(wrapper)
            print_log(f'FisherTuneHook: goes on with {wrapper.count:,} selected weights, nothing is estimated', 'current')
        if wrapper.freeze_unused():
            forget_compiled()
            rewrap(runner)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Select at the end of the warm-up, and grow the set."""
        step, wrapper = runner.iter - self.warmup_iters, runner.optim_wrapper
        if step < 0:
            return
        if wrapper.ranking is None:
            wrapper.select(self.select(runner), self.settings())
            if wrapper.freeze_unused():
                forget_compiled()
                rewrap(runner)
        elif step % self.interval and wrapper.count:
            return
        # the last interval trains the whole set
        last = (runner.max_iters - self.warmup_iters - 1) // self.interval * self.interval
        progress = min(step / last, 1.0) if last else 1.0
        count = self.trained_count(progress, wrapper.backbone_parameters, candidate_count(wrapper))
        count = min(max(count, wrapper.count), len(wrapper.ranking))
        if count > wrapper.count:
            wrapper.grow(count)
            share = 100 * count / wrapper.backbone_parameters
            print_log(f'FisherTuneHook: {count:,} weights are trained, {share:.2f} % of the backbone', 'current')
        runner.message_hub.update_scalar('train/trained_weights', float(count))

    def settings(self) -> dict:
        """What decides which weights train when; the seed only if it was given."""
        growth = dict(schedule=self.growth['mode'], growth=self.growth['rate'])
        growth.update({key: self.growth[key] for key in ('delta_min', 'delta_max')})
        own = {key: getattr(self, key) for key in ('criterion', 'coef', 'warmup_iters', 'interval', 'seed')}
        return {**own, **growth}

    def check_settings(self, wrapper: SelectedWeights) -> None:
        """Refuse to resume a selection that was made with other options than the config's.

        Raises:
            ValueError: Naming the option.
        """
        for key, value in self.settings().items():
            old = (wrapper.settings or {}).get(key, value)
            if old != value:
                raise ValueError(
                    f'FisherTuneHook: {key}={value!r}, but the weights of the checkpoint were selected with {key}={old!r}: keep '
                    'that to resume, or start anew.'
                )

    def check_selection(self, model: nn.Module, wrapper: SelectedWeights) -> None:
        """Refuse what could not be selected or estimated after the warm-up.

        Raises:
            ValueError: For too few candidates, or an estimation that cannot be.
        """
        wanted, candidates = self.largest_count(wrapper), candidate_count(wrapper)
        allowed = candidate_count(wrapper, find_criterion(self.criterion).kind)
        if wanted > allowed:
            raise ValueError(
                f'FisherTuneHook: criterion={self.criterion!r} has {allowed:,} candidates, fewer than the {wanted:,} weights of '
                f'delta_max={self.growth["delta_max"]}: lower it.'
            )
        if wanted > candidates / 2:
            print_log(
                f'FisherTuneHook: {wanted:,} of {candidates:,} candidates will be trained: FisherTune pays for small shares',
                'current', logging.WARNING,
            )  # fmt: skip
        if self.needs_data and self.scores is None:
            self.estimation.check(model, wrapper)
        if not self.needs_data and self.scores is not None:
            raise ValueError(f'FisherTuneHook: scores={self.scores!r} is not used by criterion={self.criterion!r}: remove one.')

    def largest_count(self, wrapper: SelectedWeights) -> int:
        """Number of weights of the largest set."""
        return self.trained_count(1.0, wrapper.backbone_parameters, candidate_count(wrapper))

    def select(self, runner) -> Tensor:
        """The ranking of weights, the same on all processes."""
        if self.best is not None:
            return self.best
        fisher = self.fisher(runner) if self.needs_data else None
        return self.ranked(runner, lambda wrapper: fisher)

    def ranked(self, runner, source: Callable[[SelectedWeights], DomainFisher | None]) -> Tensor:
        """Rank on the first process, write what was found, and tell the others.

        Args:
            runner: Of the run.
            source: Gives the Fisher information, None for criteria without.

        Raises:
            Exception: What the first process met; ValueError on the others, which must not wait for it.
        """
        wrapper, error = runner.optim_wrapper, None
        best = torch.zeros(self.largest_count(wrapper), dtype=torch.int64)
        device = next(iter(wrapper.tensors.values())).device
        if is_main_process():
            try:
                fisher = source(wrapper)
                if fisher is None:
                    scores = data_free_score(self.criterion, wrapper.tensors, self.estimation.seed)
                else:
                    scores = score(self.criterion, fisher, self.coef)
                best = ranking(scores, wrapper.candidates, len(best), self.criterion)
                settings = dict(self.settings(), seed=self.estimation.seed)
                write_selection(runner.work_dir, wrapper, best, scores, fisher, settings)
            except Exception as problem:  # whatever it is, the others must not wait
                error = problem
        if any_rank(error is not None, device):
            raise error or ValueError('FisherTuneHook: the first process could not rank the weights; it says why.')
        return from_first_rank(best, device)

    def fisher(self, runner) -> DomainFisher:
        """Estimate the Fisher information, on all processes together."""
        wrapper = runner.optim_wrapper
        say = (lambda line: print_log(line, 'current')) if is_main_process() else None
        print_log(f'FisherTuneHook: estimates on {self.estimation.images} images', 'current')
        with preserved_rng():
            found = self.estimation.run(uncompiled(unwrapped(runner.model)), wrapper, training_images(runner), say)
        print_log(f'FisherTuneHook: estimated by {found.meta["estimator"]}, path {found.meta["path"]}', 'current')
        if is_main_process():
            save_fisher(osp.join(runner.work_dir, SCORES), found, fingerprint(wrapper.tensors))
        return found

    def given_scores(self, runner, wrapper: SelectedWeights) -> DomainFisher:
        """The scores of ``scores``, if they belong to the model; a warning says what else they were estimated with.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If they belong to another model or to a part of the images that the config does not ask for.
        """
        found = load_fisher(self.scores)
        check_belongs(found, wrapper.tensors, wrapper.candidates, self.scores)
        found.check()
        part, wanted = tuple(found.meta.get('part', WHOLE)), tuple(self.estimation.part)
        if part != wanted:
            raise ValueError(
                f'FisherTuneHook: scores={self.scores!r} are of part {part[0]}/{part[1]} of the training images, the config asks '
                f'for {wanted[0]}/{wanted[1]}: take another file, or set estimation=dict(part={part}).'
            )
        here = self.estimation.conditions(uncompiled(unwrapped(runner.model)), wrapper, training_images(runner))
        if 'conditions' not in found.meta:
            text = 'do not tell the head, loss and data set that they were estimated with: they may be others than here'
        else:
            apart = differences(found.meta['conditions'], here)
            if not apart:
                return found
            text = f'were estimated under other conditions: {some(apart)}. They rank the weights for those, not for this run'
        print_log(f'FisherTuneHook: scores={self.scores!r} {text}.', 'current', logging.WARNING)
        return found


def training_images(runner) -> dict | DataLoader:
    """The training loader's config; the loader where there is none."""
    source = runner.cfg.get('train_dataloader')
    return source if isinstance(source, dict) else runner.train_dataloader


def candidate_count(wrapper: SelectedWeights, kind: str | None = None) -> int:
    """Number of weights that may be selected, of one kind or of all."""
    width = {name: tensor.numel() // len(tensor) for name, tensor in wrapper.tensors.items()}
    return sum((c.rows[1] - c.rows[0]) * width[c.parameter] for c in wrapper.candidates if kind in (None, c.kind))
