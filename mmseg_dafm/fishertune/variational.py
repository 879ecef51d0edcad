"""Variational estimation: a Gaussian posterior q(theta) = N(theta_pt, Lambda^-1) under the prior N(theta_pt, tau^2 I)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def precision_of(fisher: Tensor, gamma: float, tau: float) -> Tensor:
    """Lambda = F / gamma + tau^-2, the minimum of the free energy (equation 11) in Lambda.

    Source: FisherTune, equation 14. Lambda is a precision; the text calls it a covariance.
    """
    return fisher / gamma + tau**-2


def fisher_of(precision: Tensor, gamma: float, tau: float) -> Tensor:
    """F = gamma Lambda - gamma tau^-2, at least 0.

    Source: FisherTune, equation 14.
    """
    return (gamma * (precision - tau**-2)).clamp(min=0)


def prior_widths(tensors: Mapping[str, Tensor], relative: float = 0.05) -> dict[str, float]:
    """The tau of each tensor: ``relative`` times the root mean square of its pretrained weights.

    Raises:
        ValueError: If a tensor is all zero.
    """
    widths = {name: relative * float(tensor.detach().float().square().mean().sqrt()) for name, tensor in tensors.items()}
    empty = [name for name, width in widths.items() if not width > 0]
    if empty:
        raise ValueError(f'{empty[0]} is all zero: are the pretrained weights loaded?')
    return widths


def posterior_width(fisher: Tensor, tau: float, damping: float) -> Tensor:
    """Standard deviations Lambda^-1/2 = tau sqrt(m / (F + m)), with m = gamma tau^-2 the damping.

    Args:
        fisher: F, any shape.
        tau: Prior standard deviation.
        damping: m > 0, in the units of F.
    """
    return tau * (damping / (fisher + damping)).sqrt()


class WeightNoise:
    """Draw theta ~ q and put it into a model's tensors for one pass.

    Noise depends on the seed and on the tensor's place alone, so that x and x' of the same images see the same epsilon. The last
    one is kept, because they follow each other.
    """

    def __init__(self, tensors: Mapping[str, nn.Parameter]) -> None:
        self.tensors = dict(tensors)
        self.means = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self._last: tuple[int, dict[str, Tensor]] | None = None

    def epsilon(self, seed: int) -> dict[str, Tensor]:
        """Standard normal noise for each tensor; not to be changed."""
        if self._last is None or self._last[0] != seed:
            self._last, found = None, {}
            for place, (name, mean) in enumerate(self.means.items()):
                generator = torch.Generator(mean.device).manual_seed((seed * 100003 + place) % 2**63)
                found[name] = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
            self._last = seed, found
        return self._last[1]

    @contextmanager
    def drawn(self, seed: int, widths: Mapping[str, Tensor | float]) -> Iterator[None]:
        """Have theta = theta_pt + width * epsilon inside, theta_pt again, to the bit, at exit."""
        try:
            with torch.no_grad():
                for name, noise in self.epsilon(seed).items():
                    self.tensors[name].copy_(self.means[name] + widths[name] * noise)
            yield
        finally:
            with torch.no_grad():
                for name, mean in self.means.items():
                    self.tensors[name].copy_(mean)


class LogPrecision:
    """Stochastic gradient variational Bayes for log Lambda, weights reparameterised as theta_pt + Lambda^-1/2 epsilon.

    Free energy E_q[L] + gamma KL; per entry d/dlog Lambda = -1/2 g Lambda^-1/2 eps + gamma/2 (1 - tau^-2 Lambda^-1), where
    g = dL/dtheta at the drawn weights. Adam moves log Lambda by at most its learning rate a step: a few hundred steps return
    mostly the start, Lambda = tau^-2.

    Args:
        tensors: theta, for their shapes.
        gamma: By tensor.
        tau: By tensor.
        lr: Of Adam.

    Source: FisherTune, algorithm 1 and equations 11 to 13.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], gamma: Mapping[str, float], tau: Mapping[str, float], lr: float = 1e-2
    ) -> None:
        self.gamma, self.tau = dict(gamma), dict(tau)
        self.logs = {
            name: torch.full_like(tensor, -2.0, requires_grad=False, dtype=_at_least_float(tensor))
            * torch.tensor(tau[name]).log()
            for name, tensor in tensors.items()
        }
        self.adam = torch.optim.Adam(list(self.logs.values()), lr=lr)

    def widths(self) -> dict[str, Tensor]:
        """Lambda^-1/2."""
        return {name: torch.exp(-0.5 * log) for name, log in self.logs.items()}

    def step(self, gradients: Mapping[str, Tensor], noise: Mapping[str, Tensor]) -> None:
        """Move log Lambda by one step of Adam.

        Args:
            gradients: dL/dtheta at theta_pt + Lambda^-1/2 noise.
            noise: epsilon.
        """
        for name, log in self.logs.items():
            width = torch.exp(-0.5 * log)
            prior = self.gamma[name] / 2 * (1 - width.square() * self.tau[name] ** -2)
            log.grad = prior - 0.5 * gradients[name] * width * noise[name]
        self.adam.step()

    def fisher(self) -> dict[str, Tensor]:
        """F by equation 14."""
        return {name: fisher_of(log.exp(), self.gamma[name], self.tau[name]) for name, log in self.logs.items()}


def _at_least_float(tensor: Tensor) -> torch.dtype:
    return tensor.dtype if tensor.dtype == torch.float64 else torch.float32
