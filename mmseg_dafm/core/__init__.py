"""What every room may use: checkpoints, files, processes. Imports nothing of the other rooms."""
