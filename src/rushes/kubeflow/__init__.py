"""Kubeflow Pipelines: profiles, policies, schedules, and the API of a server."""
