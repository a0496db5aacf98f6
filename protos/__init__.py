"""The contract of both services: .proto files with the modules generated from them beside each."""
