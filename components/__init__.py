"""One folder a step: component.py declares it to Kubeflow Pipelines; the work is in `rushes.steps`."""
