"""The sources that a mapping can poll, one folder each: `config`, `source`, `event`; `ports` is what they implement."""
