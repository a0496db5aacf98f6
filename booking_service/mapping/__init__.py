"""Proto to domain (`requests`), domain to proto (`answers`), page tokens (`pages`)."""
