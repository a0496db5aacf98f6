"""Rules as data: what is shipped, how a file is read, and what is wrong with it."""
