"""Learning rate sweeps: which rates to try, on which data, and which to choose. `tools/lr_sweep.py` runs them."""

from mmseg_dafm.experiments.sweep.plan import Point, Step, Trial, best_of, plan_steps, sweep, thin
from mmseg_dafm.experiments.sweep.split import hold_out, split_groups

__all__ = ['Point', 'Step', 'Trial', 'best_of', 'hold_out', 'plan_steps', 'split_groups', 'sweep', 'thin']
