"""Types of tasks: :mod:`.contract` says what one is, :mod:`.catalogue` lists them. One module a type."""
