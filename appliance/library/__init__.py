"""The database: queue, history, machines, cached embeddings.

May import: models, appliance, appliance.direction, appliance.machine, appliance.measuring.
    connection  Opens the SQLite file with safe settings; explains its errors in one line
    embeddings  A cache of text embeddings: each text is encoded once
    forecast    When the whole queue will be done
    library     The queue, the history, and the channel between desks, commands and the daemon
    machines    Machines: facts, measured rates, and how long takes took against their plans
    migrations  The tables, as numbered migrations
    progress    How far a take is and how long it has left
    rows        Rows of the library as values, and the names of takes that people type
    take        A take: one render of a shot as a row of the library, and its states
    transitions Transactions, and the one function that changes a take's state
"""
