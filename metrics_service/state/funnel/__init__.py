"""The booking funnel: chains of steps per actor, counted in the slot of their start."""
