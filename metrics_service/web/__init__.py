"""The HTTP side: the verdict and the booking metrics as JSON."""
