"""Many calls while everything goes wrong, at moments that a seed decides; what has to hold is checked after each."""
