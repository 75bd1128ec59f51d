"""The pipeline, and its compiled form."""
