"""Running the compiled pipeline on this machine, and what its components share."""
