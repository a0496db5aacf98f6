"""Query statistics, the newest, the slowest and the running queries; all of them bounded."""
