"""FisherTune's mathematics in pure torch: candidates, diagonal Fisher, perturbation, scores, selection, schedule."""
