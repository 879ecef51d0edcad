"""FisherTuneHook: warm up the head, score the backbone's weights, and train the best of them."""

import json
import logging
import math
import os.path as osp

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmseg.registry import HOOKS
from torch import Tensor

from mmseg_dafm.analysis.sensitivity import draw_sensitivity
from mmseg_dafm.files import replacing
from mmseg_dafm.fisher import schedule
from mmseg_dafm.fisher.combine import coefficient
from mmseg_dafm.fisher.fingerprint import fingerprint
from mmseg_dafm.fisher.score_file import check_belongs, load_fisher, save_fisher
from mmseg_dafm.fisher.scores import CRITERIA, FISHER, DomainFisher, data_free_score, ranking, score
from mmseg_dafm.fisher.sharing import from_first_rank
from mmseg_dafm.fisher.summary import jaccard, summarise, table
from mmseg_dafm.hooks.fisher_estimation import Estimation
from mmseg_dafm.hooks.rewrap import rewrap, unwrapped
from mmseg_dafm.optim.fisher_wrapper import SelectedWeights
from mmseg_dafm.rng import preserved_rng

SCORES, SELECTION, PICTURE = 'dr_fim.safetensors', 'fisher_selection.json', 'fisher_sensitivity.png'


@HOOKS.register_module()
class FisherTuneHook(Hook):
    """Train a segmentor in FisherTune's three steps, in one run.

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
        schedule: ``'ratio'``, ``'threshold'`` or ``'constant'``.
        growth: k of the ratio schedule.
        interval: Iterations between two growths.
        scores: File of an earlier estimation; nothing is estimated then. The weights must be those that it scored.
        seed: Of images, shifts and random selections.
        estimation: Options of :class:`mmseg_dafm.hooks.fisher_estimation.Estimation`: ``images``, ``batch_size``,
            ``estimator``, ``label_source``, ``shift``, ...

    Raises:
        ValueError: For options that cannot be, before training time is spent.

    Source: FisherTune, algorithm 1. Deviation: the set of a step never loses a weight; equation 16 is replaced by a rising
    share (:func:`mmseg_dafm.fisher.schedule.keep_ratio`).
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
        seed: int = 0,
        estimation: dict | None = None,
    ) -> None:
        if criterion not in CRITERIA:
            raise ValueError(f'FisherTuneHook: criterion={criterion!r} is unknown: use one of {CRITERIA}.')
        if warmup_iters < 0 or interval < 1:
            raise ValueError(f'FisherTuneHook: warmup_iters={warmup_iters} must be 0 or more, interval={interval} 1 or more.')
        self.warmup_iters, self.criterion, self.coef, self.interval, self.seed = warmup_iters, criterion, coef, interval, seed
        self.growth = dict(mode=schedule, delta_min=delta_min, delta_max=delta_max, rate=growth)
        self.scores, self.estimation = scores, Estimation(seed=seed, **(estimation or {}))
        self.trained_count(0.0, 100, 100)
        if criterion in FISHER:
            coefficient(torch.zeros(1, 2), coef)

    def trained_count(self, progress: float, base: int, candidates: int) -> int:
        """Number of weights that train at t/T."""
        return schedule.trained_count(progress=progress, base=base, candidates=candidates, **self.growth)

    def before_train(self, runner) -> None:
        """Check the run, and freeze what is not trained."""
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, SelectedWeights):
            raise ValueError(
                f'FisherTuneHook needs optim_wrapper.type FisherTuneOptimWrapper or FisherTuneAmpOptimWrapper, '
                f'got {type(wrapper).__name__}.'
            )
        if getattr(wrapper.backbone, 'frozen', False) is True:
            raise ValueError('FisherTuneHook: the backbone has frozen=True and would never learn: remove it, the hook freezes.')
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
        if self.scores is not None and wrapper.ranking is None:
            self.given_scores(wrapper)
        if wrapper.ranking is None and runner.iter > self.warmup_iters:
            raise ValueError(
                f'FisherTuneHook: resumed at iteration {runner.iter}, after warmup_iters={self.warmup_iters}, from a checkpoint '
                'without selected weights: start anew, or resume from a checkpoint of the warm-up.'
            )
        if wrapper.ranking is not None:
            print_log(f'FisherTuneHook: goes on with {wrapper.count:,} selected weights, nothing is estimated', 'current')
        if wrapper.freeze_unused():
            rewrap(runner)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Select at the end of the warm-up, and grow the set."""
        step, wrapper = runner.iter - self.warmup_iters, runner.optim_wrapper
        if step < 0:
            return
        if wrapper.ranking is None:
            wrapper.select(self.select(runner))
            if wrapper.freeze_unused():
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

    def select(self, runner) -> Tensor:
        """The ranking of weights, the same on all processes."""
        wrapper = runner.optim_wrapper
        fisher = self.fisher(runner) if self.criterion in FISHER else None
        if fisher is None:
            scores = data_free_score(self.criterion, wrapper.tensors, self.seed)
        else:
            scores = score(self.criterion, fisher, self.coef)
        size = self.trained_count(1.0, wrapper.backbone_parameters, candidate_count(wrapper))
        best = ranking(scores, wrapper.candidates, size, self.criterion)
        best = from_first_rank(best, next(iter(wrapper.tensors.values())).device)
        if is_main_process():
            self.write(runner, best, scores, fisher)
        return best

    def fisher(self, runner) -> DomainFisher:
        """Read or estimate the Fisher information."""
        wrapper = runner.optim_wrapper
        if self.scores is not None:
            return self.given_scores(wrapper)
        source = runner.cfg.get('train_dataloader')
        source = source if isinstance(source, dict) else runner.train_dataloader
        say = (lambda line: print_log(line, 'current')) if is_main_process() else None
        print_log(f'FisherTuneHook: estimates on {self.estimation.images} images', 'current')
        with preserved_rng():
            found = self.estimation.run(unwrapped(runner.model), wrapper, source, say)
        print_log(f'FisherTuneHook: estimated by {found.meta["estimator"]}, path {found.meta["path"]}', 'current')
        if is_main_process():
            save_fisher(osp.join(runner.work_dir, SCORES), found, fingerprint(wrapper.tensors))
        return found

    def given_scores(self, wrapper: SelectedWeights) -> DomainFisher:
        """The scores of ``scores``, if they belong to the model."""
        if self.criterion not in FISHER:
            raise ValueError(f'FisherTuneHook: scores={self.scores!r} is not used by criterion={self.criterion!r}: remove one.')
        found = load_fisher(self.scores)
        check_belongs(found, wrapper.tensors, self.scores)
        found.check()
        return found

    def write(self, runner, best: Tensor, scores: dict[str, Tensor], fisher: DomainFisher | None) -> None:
        """Write the summary and the picture, and log the table."""
        wrapper = runner.optim_wrapper
        parts = summarise(best, wrapper.tensors, wrapper.candidates, scores)
        print_log(f'FisherTuneHook: share of weights selected by {self.criterion!r}:\n{table(parts)}', 'current')
        record = dict(criterion=self.criterion, coef=self.coef, selected=len(best), backbone=wrapper.backbone_parameters)
        record.update(growth=self.growth, warmup_iters=self.warmup_iters, interval=self.interval, seed=self.seed)
        record.update(estimation=fisher.meta if fisher else None, parts=[part.to_dict() for part in parts])
        panels, overlap = {self.criterion: parts}, {}
        if fisher is not None:
            for other in (name for name in ('F', 'dF') if name != self.criterion):
                others = score(other, fisher)
                ids = ranking(others, wrapper.candidates, len(best))
                panels[other] = summarise(ids, wrapper.tensors, wrapper.candidates, others)
                overlap[other] = jaccard(ids, best)
            record.update(damping=fisher.damping, coefficient=coefficient(fisher.strengths, self.coef), overlap=overlap)
        with replacing(osp.join(runner.work_dir, SELECTION)) as path:
            path.write_text(json.dumps(record, indent=1))
        try:
            with replacing(osp.join(runner.work_dir, PICTURE)) as path:
                draw_sensitivity(panels, path, overlap)
        except (RuntimeError, OSError) as error:
            print_log(f'FisherTuneHook: no picture: {error}', 'current', logging.WARNING)


def candidate_count(wrapper: SelectedWeights) -> int:
    """Number of weights that may be selected."""
    width = {name: tensor.numel() // len(tensor) for name, tensor in wrapper.tensors.items()}
    return sum((c.rows[1] - c.rows[0]) * width[c.parameter] for c in wrapper.candidates)
