"""Find the internal units that make a GAN draw artifacts, and correct its images without retraining it."""

__version__ = "0.1.0"
