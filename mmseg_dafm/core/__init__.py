"""Shared plumbing: checkpoints, configs, files, processes. Imports nothing from the other packages."""
