"""The system itself over HTTP: health, cluster, metrics."""
