"""Variational estimation: a Gaussian posterior q(theta) = N(theta_pt, Lambda^-1) under the prior N(theta_pt, tau^2 I)."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def gamma_of(damping: float, tau: float) -> float:
    """The weight gamma = m tau^2 of the prior, from the damping m = gamma tau^-2 in the units of F."""
    return damping * tau**2


def expected_loss(loss: float, fisher: Tensor, precision: Tensor) -> Tensor:
    r"""Expected loss under q, to second order, with F in the place of the Hessian.

    .. math:: E_q[L] \approx L(\hat\theta) + \frac{1}{2} \mathrm{Tr}(F \Lambda^{-1})

    Args:
        loss: L at the mean of q.
        fisher: Diagonal of F, any shape.
        precision: Diagonal of Lambda, the same shape.

    Source: FisherTune, equation 12.
    """
    return loss + 0.5 * (fisher / precision).sum()


def kl_divergence(precision: Tensor, tau: float, distance: float = 0.0) -> Tensor:
    r"""Divergence of the posterior from the prior.

    .. math:: KL(q \| p) = \frac{1}{2} \big(\tau^{-2} \mathrm{Tr}(\Lambda^{-1}) +
        \tau^{-2} \|\hat\theta - \theta_{pt}\|^2 - k + k \ln \tau^2 + \ln \det \Lambda \big)

    Args:
        precision: Diagonal of Lambda, k entries.
        tau: Standard deviation of the prior.
        distance: Norm of theta - theta_pt; 0 in the estimation, where the mean of q stays at the pretrained weights.

    Source: FisherTune, equations 10 and 13.
    """
    k = precision.numel()
    return 0.5 * ((1 / precision).sum() / tau**2 + distance**2 / tau**2 - k + k * math.log(tau**2) + precision.log().sum())


def free_energy(loss: float, fisher: Tensor, precision: Tensor, gamma: float, tau: float) -> Tensor:
    """E_q[L] + gamma KL(q || p), the objective of Lambda.

    Source: FisherTune, equation 11.
    """
    return expected_loss(loss, fisher, precision) + gamma * kl_divergence(precision, tau)


def free_energy_gradient(gradient: Tensor, noise: Tensor, width: Tensor, gamma: float, tau: float) -> Tensor:
    r"""Derivative of the free energy by log Lambda, per entry, from one draw of the weights.

    .. math:: \frac{\gamma}{2} \big(1 - \tau^{-2} \Lambda^{-1}\big) - \frac{1}{2} g \Lambda^{-1/2} \epsilon

    Args:
        gradient: g = dL/dtheta at theta_pt + Lambda^-1/2 epsilon.
        noise: epsilon.
        width: Lambda^-1/2.
        gamma: Weight of the prior.
        tau: Its standard deviation.

    Source: FisherTune, equation 11 with the reparameterisation of its section 3.3.2.
    """
    return gamma / 2 * (1 - width.square() * tau**-2) - 0.5 * gradient * width * noise


def precision_of(fisher: Tensor, gamma: float, tau: float) -> Tensor:
    """Lambda = F / gamma + tau^-2, the minimum of the free energy in Lambda.

    Source: FisherTune, equation 14. Lambda is a precision; the text calls it a covariance.
    """
    return fisher / gamma + tau**-2


def fisher_of(precision: Tensor, gamma: float, tau: float) -> Tensor:
    """F = gamma Lambda - gamma tau^-2, at least 0.

    Source: FisherTune, equation 14.
    """
    return (gamma * (precision - tau**-2)).clamp(min=0)


def von_update(precision: Tensor, squares: Tensor, gamma: float, tau: float, rate: float) -> Tensor:
    r"""One step of natural-gradient variational inference (variational online Newton).

    .. math:: \Lambda \leftarrow (1 - \rho) \Lambda + \rho \, (g^2 / \gamma + \tau^{-2})

    Its fixed point is equation 14. With rho = 1/k in the k-th step, Lambda is equation 14 of the mean of all g^2 so far;
    the estimator keeps that mean and needs no Lambda.

    Args:
        precision: Lambda.
        squares: g^2 at weights drawn from q, averaged over the images of the step.
        gamma: Weight of the prior.
        tau: Its standard deviation.
        rate: rho in (0, 1].

    Source: Khan et al., "Fast and Scalable Bayesian Deep Learning by Weight-Perturbation in Adam", ICML 2018.
    """
    return torch.lerp(precision, precision_of(squares, gamma, tau), rate)


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

    Adam follows :func:`free_energy_gradient`. It moves log Lambda by at most its learning rate a step: a few hundred steps
    return mostly the start, Lambda = tau^-2.

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
            log.grad = free_energy_gradient(gradients[name], noise[name], width, self.gamma[name], self.tau[name])
        self.adam.step()

    def fisher(self) -> dict[str, Tensor]:
        """F by equation 14."""
        return {name: fisher_of(log.exp(), self.gamma[name], self.tau[name]) for name, log in self.logs.items()}


def _at_least_float(tensor: Tensor) -> torch.dtype:
    return tensor.dtype if tensor.dtype == torch.float64 else torch.float32
