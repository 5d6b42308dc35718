"""Explanations over HTTP: why a job, workflow or tick is where it is."""
