"""What a conversion did, in numbers."""

from dataclasses import asdict, dataclass, field

from torch import Tensor

from mmseg_dafm.daft.equations import gain_ratio, mean_shift


@dataclass
class LayerReport:
    """One converted layer.

    Attributes:
        channels: C.
        batches: Batches seen, over all ranks.
        dead: Channels whose variance is below epsilon in source and target; medians leave them out.
        ratio_min: Smallest gamma_t / gamma_s.
        ratio_median: Median gamma_t / gamma_s.
        ratio_max: Largest gamma_t / gamma_s.
        shift_median: Median abs(M_t - M_s) in standard deviations of the source.
        shift_max: Largest abs(M_t - M_s) in standard deviations of the source.
        kept: Channels that were left alone, their ratio lying beyond ``max_ratio``.
        left_out: Batches, over all ranks, that had one value per channel and do not count.
    """

    channels: int
    batches: int
    dead: int
    ratio_min: float
    ratio_median: float
    ratio_max: float
    shift_median: float
    shift_max: float
    kept: int = 0
    left_out: int = 0


def layer_report(
    source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], eps: float, batches: int, kept: int, left_out: int = 0
) -> LayerReport:
    """Summarise one layer's source and target statistics, ``(C,)`` each."""
    ratio = gain_ratio(source[1], target[1], eps)
    shift = mean_shift(source[0], source[1], target[0], eps)
    dead = (source[1] < eps) & (target[1] < eps)
    live = ~dead if not dead.all() else dead
    return LayerReport(
        channels=len(ratio),
        batches=batches,
        dead=int(dead.sum()),
        ratio_min=ratio.min().item(),
        ratio_median=ratio[live].median().item(),
        ratio_max=ratio.max().item(),
        shift_median=shift[live].median().item(),
        shift_max=shift.max().item(),
        kept=kept,
        left_out=left_out,
    )


@dataclass
class ConversionReport:
    """A whole conversion; ``print`` it, or store :meth:`to_dict` as JSON.

    Attributes:
        mode: ``'convert'`` or ``'stats'``.
        estimator: ``'batch'`` or ``'pooled'``.
        source_weight: Weight of the source statistics in the mixture.
        num_batches: Batches per rank.
        world_size: Ranks.
        layers: name -> :class:`LayerReport`, converted layers in the order of the model.
        skipped: name -> reason.
        notes: name -> remark.
        verify_error: Largest relative L2 difference of an output on one batch, after against before; None if not
            verified.
        warnings: What should have been chosen otherwise.
        feature_norm: Mean L2 norm of the last output map, averaged over positions, on the last batch in test mode, where
            conversion keeps it; after it, train mode is close. None without an output map, or if the function changes. The
            gradient of a linear head grows with it, so that large norms ask for a small head rate.
        weigh: ``'values'`` or ``'calls'``: what a call of a layer counts.
    """

    mode: str
    estimator: str
    source_weight: float
    num_batches: int
    world_size: int
    layers: dict[str, LayerReport]
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    verify_error: float | None = None
    warnings: list[str] = field(default_factory=list)
    feature_norm: float | None = None
    weigh: str = 'values'

    def to_dict(self) -> dict:
        """Plain numbers, strings and dicts."""
        return asdict(self)

    @property
    def summary(self) -> dict[str, float]:
        """Over all layers: numbers of layers and channels, extremes, and medians over layers that are not dead."""
        layers = list(self.layers.values())
        live = [layer for layer in layers if layer.dead < layer.channels] or layers
        middle = lambda name: sorted(getattr(layer, name) for layer in live)[len(live) // 2]  # noqa: E731
        return dict(
            layers=len(layers),
            channels=sum(layer.channels for layer in layers),
            dead_channels=sum(layer.dead for layer in layers),
            ratio_min=min(layer.ratio_min for layer in layers),
            ratio_median=middle('ratio_median'),
            ratio_max=max(layer.ratio_max for layer in layers),
            shift_median=middle('shift_median'),
            shift_max=max(layer.shift_max for layer in layers),
            kept_channels=sum(layer.kept for layer in layers),
        )

    def __str__(self) -> str:
        """Text table of the layers, and a sentence on the rest."""
        head = f'{"layer":<44}{"C":>6}{"dead":>6}{"gamma ratio min":>17}{"median":>9}{"max":>9}{"shift/sigma":>13}{"max":>9}'
        rows = [
            f'{name[-43:]:<44}{each.channels:>6}{each.dead:>6}{each.ratio_min:>17.3g}{each.ratio_median:>9.3g}'
            f'{each.ratio_max:>9.3g}{each.shift_median:>13.3g}{each.shift_max:>9.3g}'
            for name, each in self.layers.items()
        ]
        total = self.summary
        lines = [head, *rows, f'{total["layers"]} layers, {total["channels"]} channels: {self.mode}, estimator {self.estimator}']
        lines[-1] += f', {self.num_batches} batches' + (f' on each of {self.world_size} ranks' if self.world_size > 1 else '')
        if self.verify_error is not None:
            lines.append(f'output in test mode, after against before: relative difference {self.verify_error:.2g}')
        if self.feature_norm is not None:
            lines.append(f'mean norm of the pooled features: {self.feature_norm:.3g}')
        lines += [f'skipped {name}: {reason}' for name, reason in self.skipped.items()]
        lines += [f'note on {name}: {remark}' for name, remark in self.notes.items()]
        lines += [
            f'note on {name}: batches with one value per channel, left out: {each.left_out}'
            for name, each in self.layers.items()
            if each.left_out
        ]
        if total['kept_channels']:
            lines.append(f'{total["kept_channels"]} channels kept their source statistics, their ratio being beyond max_ratio')
        lines += [f'warning: {warning}' for warning in self.warnings]
        return '\n'.join(lines)
