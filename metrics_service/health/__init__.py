"""The health of the instances that report here, and the verdict on all of them together."""
