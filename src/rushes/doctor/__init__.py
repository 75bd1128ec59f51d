"""What is missing here or on a cluster, each with its remedy: `rushes doctor`."""
