"""What a room allows: pure functions, no clock, no network, no database."""
