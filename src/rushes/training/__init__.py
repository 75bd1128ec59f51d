"""One training loop for pretraining and fine-tuning, its data and its networks."""
