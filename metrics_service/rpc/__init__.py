"""The gRPC services: each method validates its request and returns an answer of the state."""
