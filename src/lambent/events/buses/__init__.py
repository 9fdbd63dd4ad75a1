"""Event buses: rules choose events, and targets receive what the rules make of them."""
