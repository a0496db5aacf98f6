"""What a command prints: sheets of cells, as a table, as JSON or as CSV."""
