"""Where activations come from: texts and images, models, harvests, stores and streams."""
