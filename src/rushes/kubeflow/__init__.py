"""Everything that concerns Kubeflow Pipelines: profiles, policies, schedules, and a server's API."""
