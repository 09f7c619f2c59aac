"""From a `Constraint` to the one text that every engine's grammar library takes, and to the tokens that it allows."""
