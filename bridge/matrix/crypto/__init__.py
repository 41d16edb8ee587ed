"""What matrix-nio does not know of encryption: identities, verification by people, keys that are kept."""
