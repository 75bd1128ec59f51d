"""What a run will cost: `rushes plan`."""
