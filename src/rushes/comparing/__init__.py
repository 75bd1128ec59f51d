"""Several models under one protocol: `rushes compare`."""
