"""The steps and operations of the booking flow as a front end reports them."""

from __future__ import annotations
