"""`doctor`: looks at all that has to work together, and says what to do about what does not."""
