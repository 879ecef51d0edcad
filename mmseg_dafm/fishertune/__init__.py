"""FisherTune on torch alone.

| What | Paper | Function | File |
|---|---|---|---|
| candidates: query, key, value, feed-forward weights | eq. 3 | `find_candidates` | candidates.py |
| diagonal Fisher information | eq. 4, 8, 9 | `add_squares_by_loop`, `add_squares_by_batch` | squared_gradients.py |
| labels drawn from the model | eq. 4, 9 | `draw_labels` | squared_gradients.py |
| simulated shift of features (DSU) | eq. 6 | `perturb` | feature_shift.py |
| relative change, Delta F | eq. 5 | `relative_change` | criteria.py |
| weight of the domain term | eq. 7 | `coefficient` | criteria.py |
| scores: DRF as printed, and without units | eq. 7, 15 | `eq7`, `eq15`, `rank_combined` | criteria.py |
| prior, divergence, expected loss, free energy | eq. 10-13 | `kl_divergence`, `expected_loss`, `free_energy` | variational.py |
| Lambda and F | eq. 14 | `precision_of`, `fisher_of` | variational.py |
| the two ways to Lambda | sec. 3.3.2 | `von_update`, `free_energy_gradient` | variational.py |
| F(x) and F(x') of a model | alg. 1, step 2 | `DomainFisherEstimator` | estimate.py |
| which weights are best | alg. 1, step 3 | `ranking` | criteria.py, selection.py |
| how many are trained when | eq. 16 | `keep_ratio`, `threshold` | schedule.py |
| an optimizer on exactly these | alg. 1, step 3 | `CompactParameters` | compact.py |
| scores and trained weights on disk | | `save_fisher`, `extract` | score_file.py, delta.py |
"""
