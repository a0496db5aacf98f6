"""Who calls, and what that caller may do: certificates or tokens, roles, and limits."""
