"""Long work of recovery, each in a process of its own (decision 9): the one place where its adapters meet.

A job is called with an order, which holds references and no secret, and with a place to say how far it is. It reads the
database and writes next to none of it: the workflow that ordered it records what it returns.
"""
