"""Running the compiled pipeline: the only part of the package that knows Kubeflow Pipelines."""
