"""Jobs over HTTP: submit, read, change."""
