"""FisherTuneHook: warm up the head, score the backbone's weights, train the best-scored ones."""

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
       simulated shift, with a separate loader. Random number generators are restored: the training batches are those of a
       run without the estimation.
    3. From then on (T3) the head and the best-scored weights are trained. Their share of the backbone's parameters grows from
       ``delta_min`` to ``delta_max``. All other backbone weights stay bit-identical.

    Needs ``optim_wrapper.type`` FisherTuneOptimWrapper or FisherTuneAmpOptimWrapper, which owns the selected weights. The
    selection is saved in the optimizer's state: a resumed run does not estimate again.

    Files in the work dir: ``dr_fim.safetensors`` (F(x), F(x') and the settings of the estimation), ``fisher_selection.json``
    and ``fisher_sensitivity.png`` (block x kind).

    Args:
        warmup_iters: T1.
        criterion: ``'rank'``, ``'eq7'``, ``'eq15'``, ``'mean'``, ``'F'``, ``'dF'``; without data ``'random'``, ``'random_q'``,
            ``'random_k'``, ``'random_v'``, ``'random_ffn'``, ``'magnitude'``, ``'small_magnitude'``.
        coef: Weight of the domain term: ``'abs'``, ``'raw'`` or a number.
        delta_min: Share of the backbone's parameters at the start of step 3; 0.01 is 1 %.
        delta_max: Share at the end of step 3.
        schedule: ``'ratio'`` or ``'constant'``; ``'threshold'`` is equation 16 as printed: the two deltas are thresholds on
            scores in [0, 1], not shares. With 0.01 and 0.05 it trains 95 % of the candidates at once.
        growth: k of the ratio schedule.
        interval: Iterations between two growths.
        scores: File of an earlier estimation, which replaces step 2. Its scores must belong to this run's weights.
        seed: Seeds images, shifts and random selections; None: the run's seed, so each training seed makes its own selection.
        estimation: Options of :class:`mmseg_dafm.hooks.fisher_estimation.Estimation`: ``images``, ``batch_size``,
            ``estimator``, ``label_source``, ``shift``, ...

    Raises:
        ValueError: If an option is invalid or differs from the resumed selection's.

    Source: FisherTune, algorithm 1. Deviation: the set never shrinks; equation 16 is replaced by a rising
    share (:func:`mmseg_dafm.fishertune.schedule.keep_ratio`).
    """

    # before hooks that copy the weights or log the optimizer's state
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
        """Number of weights that train at progress t/T."""
        return schedule.trained_count(progress=progress, base=base, candidates=candidates, **self.growth)

    def before_train(self, runner) -> None:
        """Check the run and freeze the weights that are not trained."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, SelectedWeights):
            raise ValueError(
                'FisherTuneHook needs optim_wrapper.type FisherTuneOptimWrapper or FisherTuneAmpOptimWrapper, '
                f'got {type(wrapper).__name__}.'
            )
        if getattr(wrapper.backbone, 'frozen', False) is True:
            raise ValueError(
                'FisherTuneHook: the backbone has frozen=True and would never learn. Remove frozen: the hook freezes it.'
            )
        if getattr(wrapper.backbone, 'adapter', None) is not None:
            raise ValueError(
                'FisherTuneHook: the backbone has an adapter, which would stay frozen: remove backbone.adapter, or train the '
                'adapter with an ordinary optim_wrapper.'
            )
        if runner.max_iters <= self.warmup_iters:
            raise ValueError(
                f'FisherTuneHook: warmup_iters={self.warmup_iters} leaves no iteration of max_iters={runner.max_iters} for '
                'tuning the backbone: lower it.'
            )
        counts = getattr(wrapper, '_accumulative_counts', 1)
        if self.warmup_iters % counts or self.interval % counts:
            raise ValueError(
                f'FisherTuneHook: warmup_iters={self.warmup_iters} and interval={self.interval} must be multiples of '
                f'optim_wrapper.accumulative_counts={counts}: the set of weights cannot change within an accumulated step.'
            )
        # with diff_rank_seed each process has its own seed, but all must use the same images and noise
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
            print_log(f'FisherTuneHook: resumed with {wrapper.count:,} trained weights; no new estimation', 'current')
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
        # the set is complete at the start of the last interval
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
        """Options that decide which weights train when; ``seed`` as given, None if it is the run's."""
        growth = dict(schedule=self.growth['mode'], growth=self.growth['rate'])
        growth.update({key: self.growth[key] for key in ('delta_min', 'delta_max')})
        own = {key: getattr(self, key) for key in ('criterion', 'coef', 'warmup_iters', 'interval', 'seed')}
        return {**own, **growth}

    def check_settings(self, wrapper: SelectedWeights) -> None:
        """Refuse to resume a selection that was made with other options.

        Raises:
            ValueError: If an option differs from the resumed selection's.
        """
        for key, value in self.settings().items():
            old = (wrapper.settings or {}).get(key, value)
            if old != value:
                raise ValueError(
                    f'FisherTuneHook: {key}={value!r}, but the weights of the checkpoint were selected with {key}={old!r}: keep '
                    'that to resume, or start anew.'
                )

    def check_selection(self, model: nn.Module, wrapper: SelectedWeights) -> None:
        """Check before the warm-up that selection and estimation are possible after it.

        Raises:
            ValueError: If there are too few candidates, or the model does not support the estimation.
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
                f'FisherTuneHook: {wanted:,} of {candidates:,} candidates will be trained: FisherTune is meant for small shares',
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
        """Rank on the first process, write the report, and send the ranking to the other processes.

        Args:
            runner: The runner.
            source: Returns the Fisher information; None for criteria without data.

        Raises:
            Exception: The first process raises its own error, all others a ValueError, so that none of them hangs.
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
            except Exception as problem:  # after any error the other processes must not hang
                error = problem
        if any_rank(error is not None, device):
            raise error or ValueError('FisherTuneHook: rank 0 could not rank the weights. See its error.')
        return from_first_rank(best, device)

    def fisher(self, runner) -> DomainFisher:
        """Estimate the Fisher information, on all processes together."""
        wrapper = runner.optim_wrapper
        say = (lambda line: print_log(line, 'current')) if is_main_process() else None
        print_log(f'FisherTuneHook: estimating on {self.estimation.images} images', 'current')
        with preserved_rng():
            found = self.estimation.run(uncompiled(unwrapped(runner.model)), wrapper, training_images(runner), say)
        print_log(f'FisherTuneHook: estimated by {found.meta["estimator"]}, path {found.meta["path"]}', 'current')
        if is_main_process():
            save_fisher(osp.join(runner.work_dir, SCORES), found, fingerprint(wrapper.tensors))
        return found

    def given_scores(self, runner, wrapper: SelectedWeights) -> DomainFisher:
        """Load the file ``scores``; warn if it was estimated under other conditions (head, loss, data set).

        Raises:
            FileNotFoundError: If the file does not exist.
            ValueError: If its scores belong to another model or to another part of the images.
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
            text = "do not tell the head, loss and data set that they were estimated with: they may differ from this run's"
        else:
            apart = differences(found.meta['conditions'], here)
            if not apart:
                return found
            text = f'were estimated under other conditions: {some(apart)}. The ranking may be wrong for this run'
        print_log(f'FisherTuneHook: scores={self.scores!r} {text}.', 'current', logging.WARNING)
        return found


def training_images(runner) -> dict | DataLoader:
    """Config of the training loader; the loader itself if the run has no config for it."""
    source = runner.cfg.get('train_dataloader')
    return source if isinstance(source, dict) else runner.train_dataloader


def candidate_count(wrapper: SelectedWeights, kind: str | None = None) -> int:
    """Number of weights that may be selected, of one kind or of all."""
    width = {name: tensor.numel() // len(tensor) for name, tensor in wrapper.tensors.items()}
    return sum((c.rows[1] - c.rows[0]) * width[c.parameter] for c in wrapper.candidates if kind in (None, c.kind))
