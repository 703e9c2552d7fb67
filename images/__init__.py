"""What goes into the reference node image, and how it is built: `python -m images build`."""
