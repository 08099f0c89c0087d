"""The controllers: what happens after a write, with time. Each looks at the stored world and takes the next step."""
