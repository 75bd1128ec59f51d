"""What the commands do: each function returns an exit status. The flags are declared in `rushes.cli`."""
