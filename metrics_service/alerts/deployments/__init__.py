"""The first 72 hours after a deployment, judged item by item."""
