"""An HTTP side beside gRPC: its socket, what a client may hold of it, and who may ask."""
