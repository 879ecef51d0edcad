"""DominoNorm: normalisation whose affine part depends on the domain embedding (Domino, eq. 1)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F  # noqa: N812
from mmseg.registry import MODELS
from torch import Tensor, nn

from mmseg_dafm.core.processes import world_size
from mmseg_dafm.domino import modulate

STATISTICS = ('BN', 'SyncBN', 'IN', 'GN', 'LN')


@MODELS.register_module()
class DominoNorm(nn.Module):
    r"""Normalise features and modulate them by the domain embedding W of each image; for any head, through ``norm_cfg``.

    .. math:: f_{adp} = \frac{f - \mu_f}{\sigma_f} \gamma(W) + \mu(W), \quad
        \gamma(W) = w + g(h(W)), \quad \mu(W) = b + m(h(W)), \quad h(W) = \mathrm{ReLU}(\mathrm{Linear}(W))

    w and b are the affine parameters of the norm that this one replaces, under the same names, and g and m start at
    zero: a fresh DominoNorm equals that norm exactly. In mmcv's ConvModule it is called ``bn``, so checkpoints of heads with
    BN or SyncBN load; those with IN or GN use other names there.

    W comes from :func:`conditioned`, so the norm fits wherever ``norm_cfg`` builds one, except under activation
    checkpointing (``with_cp``), which recomputes after W is forgotten.

    Args:
        num_features: Channels C.
        domain_channels: Width of W.
        hidden_channels: Width of the hidden layer h, shared by g and m.
        stats: Axes of mean and standard deviation: ``BN`` and ``SyncBN`` (batch and pixels, running statistics in test
            mode; SyncBN over all ranks), ``IN`` (pixels), ``GN`` (pixels and a group), ``LN`` (pixels and all channels).
        num_groups: Groups of ``GN``.
        eps: Added to the variance.
        momentum: Of the running statistics.
        norm_domain: Apply LayerNorm to W first, which makes the layer blind to W's scale.

    Shapes: ``(B, C, H, W)`` to the same.

    Raises:
        ValueError: For unknown statistics or channels that the groups do not divide.

    Source: Domino, eq. 1; SPADE for parameter-free batch statistics and the hidden layer.
    Deviation: the paper gives neither the axes of the statistics nor the MLP; both are arguments here.
    """

    _abbr_ = 'bn'  # its name in mmcv's ConvModule

    def __init__(
        self,
        num_features: int,
        domain_channels: int = 768,
        hidden_channels: int = 128,
        stats: str = 'BN',
        num_groups: int = 32,
        eps: float = 1e-5,
        momentum: float = 0.1,
        norm_domain: bool = False,
    ):
        super().__init__()
        if stats not in STATISTICS:
            raise ValueError(f'DominoNorm stats={stats!r} is unknown: use one of {STATISTICS}.')
        groups = num_groups if stats == 'GN' else 1
        if num_features % groups:
            raise ValueError(f'DominoNorm num_groups={groups} does not divide num_features={num_features}.')
        self.num_features, self.stats, self.num_groups = num_features, stats, groups
        self.eps, self.momentum, self.domain_channels = eps, momentum, domain_channels
        self.weight = nn.Parameter(torch.ones(num_features))
        self.bias = nn.Parameter(torch.zeros(num_features))
        if stats in ('BN', 'SyncBN'):
            self.register_buffer('running_mean', torch.zeros(num_features))
            self.register_buffer('running_var', torch.ones(num_features))
            self.register_buffer('num_batches_tracked', torch.tensor(0, dtype=torch.long))
        self.domain_norm = nn.LayerNorm(domain_channels) if norm_domain else nn.Identity()
        self.hidden = nn.Linear(domain_channels, hidden_channels)
        self.gamma = Modulation(hidden_channels, num_features)
        self.mu = Modulation(hidden_channels, num_features)
        self.condition: Tensor | None = None

    def forward(self, features: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)`` under the current condition.

        Raises:
            RuntimeError: Outside :func:`conditioned`.
            ValueError: If W's batch or width does not fit.
        """
        domain = self._checked_condition(len(features))
        # W differs little between images, so the MLP stays out of half precision; it runs on B rows only
        with torch.autocast(features.device.type, enabled=False):
            hidden = F.relu(self.hidden(self.domain_norm(domain.to(self.hidden.weight.dtype))))
            gamma, mu = self.gamma(hidden), self.mu(hidden)
        return modulate(*self._normalise(features), gamma, mu)

    def converted_modulation(self, ratio: Tensor, shift: Tensor) -> dict[str, Tensor]:
        """Modulation that gives the same output once the statistics have changed; batch norm conversion asks for it.

            x_s = ratio x_t + shift  =>  gamma' = ratio gamma(W),  mu' = mu(W) + shift gamma(W)

        Args:
            ratio: ``sqrt(S_t + eps) / sqrt(S_s + eps)`` ``(C,)``, float64.
            shift: ``(M_t - M_s) / sqrt(S_s + eps)`` ``(C,)``, float64.

        Returns:
            Path of a parameter of this module -> its new value, float64.
        """
        weight, bias = self.gamma.weight.detach().double(), self.gamma.bias.detach().double()
        return {
            'gamma.weight': ratio[:, None] * weight,
            'gamma.bias': ratio * bias,
            'mu.weight': self.mu.weight.detach().double() + shift[:, None] * weight,
            'mu.bias': self.mu.bias.detach().double() + shift * bias,
        }

    def _checked_condition(self, batch: int) -> Tensor:
        domain = self.condition
        if domain is None:
            raise RuntimeError(
                'DominoNorm has no domain embedding: use the DomainAwareEncoderDecoder segmentor with a domain_embedding, '
                'or call the module inside `with conditioned(module, W)`.'
            )
        if domain.shape != (batch, self.domain_channels):
            raise ValueError(
                f'DominoNorm expects a domain embedding of shape {(batch, self.domain_channels)}, got {tuple(domain.shape)}; '
                f'domain_channels must be the width of W.'
            )
        return domain

    def _normalise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The affine norm and the plain one, both ``(B, C, H, W)``."""
        if self.stats == 'IN':
            norm = lambda w, b: F.instance_norm(x, weight=w, bias=b, eps=self.eps)  # noqa: E731
        elif self.stats in ('GN', 'LN'):
            norm = lambda w, b: F.group_norm(x, self.num_groups, w, b, self.eps)  # noqa: E731
        elif self.stats == 'SyncBN' and self.training and world_size() > 1:
            unit = self._synced(x)
            affine = torch.addcmul(_per_channel(self.bias).to(unit.dtype), unit, _per_channel(self.weight).to(unit.dtype))
            return affine, unit
        else:
            return self._batch_norm(x)
        return norm(self.weight, self.bias), norm(None, None)

    def _batch_norm(self, x: Tensor) -> tuple[Tensor, Tensor]:
        running = (self.running_mean, self.running_var)
        if not self.training:
            norm = lambda w, b: F.batch_norm(x, *running, w, b, False, 0.0, self.eps)  # noqa: E731
            return norm(self.weight, self.bias), norm(None, None)
        self.num_batches_tracked.add_(1)
        base = F.batch_norm(x, *running, self.weight, self.bias, True, self.momentum, self.eps)
        return base, F.batch_norm(x, None, None, None, None, True, 0.0, self.eps)

    def _synced(self, x: Tensor) -> Tensor:
        """Batch norm over all ranks, without affine part; autograd goes through both reductions."""
        from torch.distributed.nn.functional import all_reduce

        values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        local = torch.cat([values.sum((0, 2, 3)), values.new_tensor([values.numel() / self.num_features])])
        total = all_reduce(local)
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = values - _per_channel(mean)
        var = all_reduce(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_((var * count / (count - 1)).to(self.running_var.dtype), self.momentum)
        return (centred * _per_channel((var + self.eps).rsqrt())).to(x.dtype)


class Modulation(nn.Module):
    """A linear layer that starts at zero and stays there under a head's ``init_cfg`` for ``Linear`` layers.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, in)`` to ``(B, out)``."""
        return F.linear(x, self.weight, self.bias)


@contextmanager
def conditioned(module: nn.Module, domain: Tensor | None) -> Iterator[None]:
    """Give every DominoNorm in a module the domain embeddings of the current batch.

    Args:
        module: A head, a neck or a whole segmentor; one without DominoNorm is left alone.
        domain: W ``(B, D)``, or None for a no-op.

    Yields:
        Nothing; on exit the norms forget W, so that a stale one can never be used.
    """
    norms = [] if domain is None else [m for m in module.modules() if isinstance(m, DominoNorm)]
    for norm in norms:
        norm.condition = domain
    try:
        yield
    finally:
        for norm in norms:
            norm.condition = None


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)
