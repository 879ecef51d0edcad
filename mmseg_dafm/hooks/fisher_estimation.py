"""Fisher estimation of an mmengine model from its training loader."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from mmseg_dafm.core.eager import run_eagerly
from mmseg_dafm.core.tool_output import track
from mmseg_dafm.fishertune.candidates import block_paths, block_widths, narrow, parameter_count
from mmseg_dafm.fishertune.criteria import DomainFisher, damping_of
from mmseg_dafm.fishertune.estimate import DomainFisherEstimator, EstimationOptions, Source, Watch
from mmseg_dafm.fishertune.feature_shift import EMBEDDING, NOISES, FeatureShift, prefix_tokens
from mmseg_dafm.fishertune.score_file import fingerprint
from mmseg_dafm.fishertune.squared_gradients import SOURCES, LayerGradients, NotBatchable, batch_squares
from mmseg_dafm.fishertune.variational import prior_widths
from mmseg_dafm.hooks.fisher_samples import SampleLosses, sample_source

# part 0 of 1: all images
WHOLE = (0, 1)
# options that change no result: locations and ways of running
NOT_COMPARED = frozenset(('init_cfg', 'norm_cfg', 'pretrained', 'training', 'backend_args', 'file_client_args', 'lazy_init'))
SMALL = 64
# relative difference of bfloat16 passes on a batch and on single images: rounding gave 0.4 %
AMP_TOLERANCE = 0.03


def image_path(sample: dict) -> str:
    """File of a sample's image, for messages."""
    return str(getattr(sample.get('data_samples'), 'img_path', 'an image without a path'))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _options(name: str, module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield type and plain attributes of a module and of its losses."""
    for path, part in module.named_modules(prefix=name):
        if part is module or 'loss' in type(part).__name__.lower():
            yield f'{path}.type', type(part).__name__
            buffers = {key: b.flatten().tolist() for key, b in part.named_buffers(recurse=False) if b.numel() <= SMALL}
            for key, value in {**vars(part), **buffers}.items():
                if not key.startswith('_'):
                    yield from _flat(f'{path}.{key}', value)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Flatten nested dicts and lists to dotted keys; keep only the end of a path, which is the same on every machine."""
    key = name.rpartition('.')[2]
    if key in NOT_COMPARED:
        return
    if isinstance(value, Mapping):
        for inner, part in value.items():
            yield from _flat(f'{name}.{inner}', part)
    elif isinstance(value, list | tuple) and any(isinstance(part, Mapping) for part in value):
        for i, part in enumerate(value):
            yield from _flat(f'{name}.{i}', part)
    elif isinstance(value, type):
        yield name, value.__name__
    elif isinstance(value, str) and (key == 'data_root' or os.path.isabs(value)):
        yield name, '/'.join(Path(value).parts[-1 if key == 'data_root' else -2 :])
    elif value is None or isinstance(value, bool | int | float | str):
        yield name, value
    elif isinstance(value, list | tuple) and all(part is None or isinstance(part, bool | int | float | str) for part in value):
        yield name, list(value)


@dataclass(frozen=True)
class Estimation(EstimationOptions):
    """How to estimate the Fisher information of an mmengine model.

    Attributes:
        label_source: ``'gt'``, ``'sample'`` or ``'argmax'``.
        amp: Passes in bfloat16. (Not float16: without loss scaling, small gradients would be 0.)
        shift: Options of :class:`mmseg_dafm.fishertune.feature_shift.FeatureShift`: ``positions``, ``probability``, ``factor``,
            ``noise`` and ``prefix_tokens`` (number of leading tokens that are not patches; needed if
            :func:`mmseg_dafm.fishertune.feature_shift.prefix_tokens` does not know the backbone).
        dataloader: Config of a separate loader; None: the training loader.
        part: (i, n): the i-th of n disjoint parts of the images, to compare estimates from disjoint images.

    The other options are those of :class:`~mmseg_dafm.fishertune.estimate.EstimationOptions`.
    """

    label_source: str = 'gt'
    amp: bool = False
    shift: dict = field(default_factory=dict)
    dataloader: dict | None = None
    part: tuple[int, int] = WHOLE

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> 'Estimation':
        """Build from the options of a config.

        Raises:
            ValueError: If an option is unknown or out of range.
        """
        options = dict(options)
        if 'blocks' in options:
            warnings.warn('estimation.blocks is now updates.', DeprecationWarning, stacklevel=2)
            options.setdefault('updates', options.pop('blocks'))
        known = [each.name for each in fields(cls)]
        unknown = sorted(options.keys() - set(known))
        if unknown:
            raise ValueError(f'estimation has a key that does not exist: {unknown[0]!r}; there are {", ".join(known)}.')
        return cls(**options)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.label_source not in SOURCES:
            raise ValueError(f'estimation.label_source={self.label_source!r} is unknown: use one of {SOURCES}.')
        if self.estimator == 'batch_gradient' and self.label_source != 'gt':
            raise ValueError(
                f"estimation.estimator='batch_gradient' squares gradients of true labels: label_source must be 'gt', got "
                f'{self.label_source!r}.'
            )
        if self.amp not in (False, True):
            raise ValueError(f'estimation.amp={self.amp!r} must be False, or True for bfloat16.')
        if not 0 <= self.part[0] < self.part[1]:
            raise ValueError(f'estimation.part={tuple(self.part)} must be (i, n) with 0 <= i < n.')
        unknown = sorted(set(self.shift) - {'positions', 'probability', 'factor', 'noise', 'prefix_tokens'})
        if unknown:
            raise ValueError(f'estimation.shift has unknown keys {unknown}.')
        if self.shift.get('noise', 'channel') not in NOISES:
            raise ValueError(f'estimation.shift.noise={self.shift["noise"]!r} is unknown: use one of {NOISES}.')

    @property
    def has_shift(self) -> bool:
        """Whether F(x') is estimated on an x' that differs from x."""
        shift = self.shift
        somewhere = shift.get('probability', 0.5) > 0 or EMBEDDING in (shift.get('positions') or [EMBEDDING])
        return self.estimator != 'batch_gradient' and shift.get('factor', 1.0) != 0 and somewhere

    def check(self, model: nn.Module, selected) -> None:
        """Check that :meth:`run` is possible, without a pass over the data.

        Args:
            model: The unwrapped model.
            selected: See :meth:`run`.

        Raises:
            ValueError: If the model does not support the positions of the shift, the label source, the tensors or the path.
        """
        self.losses(model)
        self.feature_shift(selected)
        prior_widths(selected.tensors, self.tau)
        if self.path == 'batched':
            try:
                LayerGradients(model, selected.tensors)
            except NotBatchable as error:
                raise ValueError(f"estimation.path='batched' does not apply: {error}; use 'auto' or 'loop'.") from None

    def losses(self, model: nn.Module) -> SampleLosses:
        """Build the per-image loss function."""
        return SampleLosses(model, self.label_source, torch.bfloat16 if self.amp else None)

    def feature_shift(self, selected) -> FeatureShift:
        """Build the feature shift of the backbone."""
        shift = {'prefix_tokens': prefix_tokens(selected.backbone), **self.shift}
        widths = block_widths(selected.candidates, selected.tensors)
        return FeatureShift(selected.backbone, block_paths(selected.candidates), widths=widths, **shift)

    def run(self, model: nn.Module, selected, source: dict | DataLoader, say: Callable[[str], None] | None) -> DomainFisher:
        """Estimate the Fisher information.

        Args:
            model: The unwrapped model.
            selected: The optimizer wrapper, or any object with ``backbone``, ``candidates`` and ``tensors``.
            source: The training loader or its config.
            say: Called with each line of progress; None: silent.
        """
        losses = self.losses(model)
        watch = lambda items, total, title: items if say is None else track(items, total, title, say)  # noqa: E731
        wanted = {
            key: getattr(self, key) for key in (('images',) if self.estimator == 'batch_gradient' else ('images', 'bank_images'))
        }
        samples = sample_source(self.dataloader or source, self.seed, self.part, wanted)
        with run_eagerly():
            found = (self._batches if self.estimator == 'batch_gradient' else self._domains)(
                model, selected, losses, samples, watch
            )
        found.meta.update(label_source=self.label_source, backbone_parameters=parameter_count(selected.backbone))
        # so that the file alone tells the kind and block of each row
        found.meta['candidates'] = [list(astuple(candidate)) for candidate in selected.candidates]
        if tuple(self.part) != WHOLE:
            found.meta['part'] = list(self.part)
        found.meta['conditions'] = self.conditions(model, selected, source)
        return found

    def conditions(self, model: nn.Module, selected, source: dict | DataLoader) -> dict[str, Any]:
        """Record the conditions of an estimate as plain values: other backbone weights, head, losses, data set.

        The head's weights are left out, because they differ after each warm-up. Its names, shapes and options are recorded.

        Args:
            model: See :meth:`run`.
            selected: See :meth:`run`.
            source: See :meth:`run`.
        """
        inside = {id(parameter) for parameter in selected.backbone.parameters()}
        rest = {name: p for name, p in selected.backbone.named_parameters() if name not in selected.tensors}
        found = {'weights of the backbone that are no candidates': fingerprint(rest)}
        for name, child in model.named_children():
            shapes = {key: tuple(p.shape) for key, p in child.named_parameters() if id(p) not in inside}
            if shapes:
                found[f'{name}: names and shapes of its weights'] = _hash(shapes)
            # the backbone's weights stand for its options
            if child is not selected.backbone:
                found.update(_options(name, child))
        source = self.dataloader or source
        dataset = source.dataset if isinstance(source, DataLoader) else source['dataset']
        if not isinstance(dataset, Mapping):
            dataset = dict(type=type(dataset), images=len(dataset))
        found.update(_flat('dataset', dataset))
        return json.loads(json.dumps(found))

    def _batches(self, model: nn.Module, selected, losses: SampleLosses, samples: Source, watch: Watch) -> DomainFisher:
        """Squared batch gradients as F(x) and, without a shift, also as F(x')."""
        scores = batch_squares(model, selected.tensors, losses, samples, self.images, self.batch_size, self.seed, watch)
        meta = dict(estimator='batch_gradient', path='loop', images=self.images, batch_size=self.batch_size, seed=self.seed)
        shifted = {name: part.clone() for name, part in scores.items()}
        damping = damping_of(narrow(scores, selected.candidates), self.damping)
        widths = prior_widths(selected.tensors, self.tau)
        found = DomainFisher(scores, shifted, torch.zeros(self.images, 2, dtype=torch.float64), damping, widths, meta)
        found.check()
        return found

    def _domains(self, model: nn.Module, selected, losses: SampleLosses, samples: Source, watch: Watch) -> DomainFisher:
        """Estimate F(x) and F(x')."""
        estimator = DomainFisherEstimator(
            model,
            selected.tensors,
            losses,
            samples,
            self.feature_shift(selected),
            self,
            tolerance=AMP_TOLERANCE if self.amp else 1e-3,
            candidates=selected.candidates,
            watch=watch,
            label=losses.label,
            name=image_path,
        )
        return estimator.run()
