"""The work of the commands: each function returns an exit status. The flags are declared in `rushes.cli`."""
