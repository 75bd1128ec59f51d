"""Accuracy that people believe: metrics, frozen-feature protocols, intervals by group, a report to look at."""
