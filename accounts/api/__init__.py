"""The administration of people and vendors over HTTP. Views read, make one call, answer."""
