"""MLflow: a local server, runs, and the registry of what was exported."""
