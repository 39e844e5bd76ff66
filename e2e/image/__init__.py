"""The image of nearbench, made without a container engine."""
