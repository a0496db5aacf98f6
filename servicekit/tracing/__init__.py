"""Traces: an RPC, the group that commits it and its queries as spans, sent by OTLP where the
settings name an endpoint. Nothing waits for them: what cannot be sent is dropped and counted.
"""
