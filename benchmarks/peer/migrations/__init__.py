"""Tables of the peer."""
