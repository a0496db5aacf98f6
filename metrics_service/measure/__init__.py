"""What the client and the state both measure with: the quantile sketch and the thresholds."""
