"""saelite: sparse autoencoders, their random baselines, and what tells the two apart."""

__version__ = "0.1.0"
