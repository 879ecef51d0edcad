"""What is missing on this machine for a config, and what is wrong with the config; training makes the same checks."""
