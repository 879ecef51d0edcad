"""Checks of environment, model folders, data sets and configs; training runs the same config checks."""
